"""A Kubernetes network that runs on one ordinary machine, with real sockets on loopback addresses."""

__version__ = "0.1.0"
