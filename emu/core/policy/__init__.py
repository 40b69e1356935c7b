"""Network policies, pure: may a connection be made and why, and who may reach a pod's port."""

from emu.core.policy.engine import Decision, PolicyEngine

__all__ = ["Decision", "PolicyEngine"]
