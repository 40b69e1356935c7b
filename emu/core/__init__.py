"""The rules of the network, pure and without I/O: addresses, selectors, endpoints, policies, names."""
