"""What users import in their own tests: a cluster for the time of a block, and requests as its pods."""

from emu.testing.cluster import Cluster, Reply, running_cluster

__all__ = ["Cluster", "Reply", "running_cluster"]
