"""kube-proxy's modes: how each chooses an endpoint."""
