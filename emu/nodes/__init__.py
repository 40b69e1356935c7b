"""The node agent: kubelet and CNI of one node, with its pods' servers."""
