"""When the change happened that led to a write of endpoints, for those who measure how long that takes.

Source: `TriggerTimeTracker` of k8s.io/endpointslice. Times are `metav1.Time` as the API stores them, in UTC
and in one form, so that they compare as text.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from emu.core.objects import Pod, Service, condition

ANNOTATION = "endpoints.kubernetes.io/last-change-trigger-time"


class Triggers(NamedTuple):
    """The times of a Service and its pods as they were when it was looked at last."""

    service: str
    pods: Mapping[str, str]
    """When the Ready condition changed, by the names of the pods."""


def triggers(service: Service, pods: Iterable[Pod]) -> Triggers:
    """The times by which a later change is told."""
    times = {}
    for pod in pods:
        ready = condition(pod.status.conditions, "Ready")
        if ready is not None and ready.last_transition_time:
            times[pod.name] = ready.last_transition_time
    return Triggers(service.metadata.creation_timestamp, times)


def trigger_time(now: Triggers, before: Triggers | None) -> str | None:
    """The earliest change since `before`; the Service's creation where it was not looked at before.

    None where no time is newer, as when a pod was deleted or the Service's ports changed.
    """
    if before is None:
        return now.service or None
    known = before.pods
    changed = [time for name, time in now.pods.items() if time > known.get(name, "")]
    if now.service > before.service:
        changed.append(now.service)
    return min(changed, default=None)


def annotated(annotations: Mapping[str, str], time: str | None) -> dict[str, str]:
    """Annotations with the time of the change, without that of an earlier one where there is none."""
    others = {key: value for key, value in annotations.items() if key != ANNOTATION}
    return others if time is None else {**others, ANNOTATION: time}
