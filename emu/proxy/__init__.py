"""kube-proxy: virtual IPs, node ports and load-balancer addresses, in four modes, and the gateway."""
