"""What all tests share."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# On a busy machine any draw and any example may take long: neither says anything about what is tested.
settings.register_profile("shared-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared-machine")
