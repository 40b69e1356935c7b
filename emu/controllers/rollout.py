"""The arithmetic of a rollout: how many pods the new and the old ReplicaSets of a Deployment should have.

Source: the Kubernetes documentation of Deployments (maxSurge, maxUnavailable, proportional scaling).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from emu.core.objects import Deployment, PodTemplate, ReplicaSet, RollingUpdate

_HASH_LABEL = "pod-template-hash"
_SAFE_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"


class Limits(NamedTuple):
    """How far the number of pods may leave `spec.replicas`, upwards and downwards."""

    surge: int
    unavailable: int


class Targets(NamedTuple):
    """Replica counts to set next. What is not named stays."""

    current: int | None
    old: Mapping[str, int]


def limits(deployment: Deployment) -> Limits:
    """maxSurge rounds up, maxUnavailable rounds down; both zero would never move, so one may be missing."""
    if deployment.spec.strategy.type == "Recreate":
        return Limits(0, deployment.spec.replicas)
    update = deployment.spec.strategy.rolling_update or RollingUpdate()
    replicas = deployment.spec.replicas
    surge = _resolve(update.max_surge, replicas, up=True)
    unavailable = min(_resolve(update.max_unavailable, replicas, up=False), replicas)
    return Limits(surge, 1 if not surge and not unavailable else unavailable)


def _resolve(value: int | str, total: int, *, up: bool) -> int:
    if isinstance(value, int):
        return value
    share = int(value.removesuffix("%")) * total
    return math.ceil(share / 100) if up else share // 100


def template_document(template: PodTemplate) -> dict[str, Any]:
    """A template as plain values, without the label that tells its own hash."""
    labels = {key: value for key, value in template.metadata.labels.items() if key != _HASH_LABEL}
    return {
        "labels": labels,
        "annotations": template.metadata.annotations,
        "spec": msgspec.json.decode(template.spec),
    }


def template_hash(deployment: Deployment) -> str:
    """The value of the label `pod-template-hash`: the same for equal templates, safe in names."""
    text = msgspec.json.encode(template_document(deployment.spec.template), order="deterministic")
    number = int.from_bytes(hashlib.sha256(text).digest()[:4])
    return "".join(_SAFE_ALPHABET[ord(digit) % len(_SAFE_ALPHABET)] for digit in str(number))


def split(
    deployment: Deployment, sets: Sequence[ReplicaSet]
) -> tuple[ReplicaSet | None, tuple[ReplicaSet, ...]]:
    """The ReplicaSet of the present template (the oldest of several equal ones), and all others by age."""
    wanted = template_document(deployment.spec.template)
    by_age = sorted(sets, key=lambda item: (item.metadata.creation_timestamp, item.name))
    current = next((item for item in by_age if template_document(item.spec.template) == wanted), None)
    return current, tuple(item for item in by_age if item is not current)


def rolling(deployment: Deployment, current: ReplicaSet | None, old: Sequence[ReplicaSet]) -> Targets:
    """One step of a RollingUpdate: up as far as maxSurge allows, else down as far as maxUnavailable does."""
    replicas = deployment.spec.replicas
    surge, unavailable = limits(deployment)
    now = current.spec.replicas if current is not None else 0
    total = now + sum(item.spec.replicas for item in old)
    target = now if total >= replicas + surge else now + min(replicas + surge - total, replicas - now)
    if now > replicas:
        target = replicas
    if current is None or target != now:
        return Targets(target, {})
    old_total = total - now
    if not old_total:
        return Targets(target, {})
    new_unavailable = now - current.status.available_replicas
    budget = total - (replicas - unavailable) - new_unavailable
    return Targets(target, _shrink(old, budget, current.status.available_replicas, replicas - unavailable))


def _shrink(old: Sequence[ReplicaSet], budget: int, new_available: int, least: int) -> dict[str, int]:
    """Give up old pods that are not available first, then as many available ones as `least` lets go."""
    if budget <= 0:
        return {}
    targets = {item.name: item.spec.replicas for item in old}
    left = budget
    for item in old:
        broken = min(left, item.spec.replicas - item.status.available_replicas)
        if broken > 0:
            targets[item.name] -= broken
            left -= broken
    spare = new_available + sum(item.status.available_replicas for item in old) - least
    for item in old:
        given = min(max(spare, 0), targets[item.name])
        targets[item.name] -= given
        spare -= given
    return {item.name: targets[item.name] for item in old if targets[item.name] != item.spec.replicas}


def recreate(
    deployment: Deployment, current: ReplicaSet | None, old: Sequence[ReplicaSet], old_pods: int
) -> Targets:
    """One step of Recreate: all old pods end before the first new one starts."""
    down = {item.name: 0 for item in old if item.spec.replicas}
    if down or old_pods:
        return Targets(None, down)
    return Targets(deployment.spec.replicas, {})


def was_scaled(
    deployment: Deployment, current: ReplicaSet | None, old: Sequence[ReplicaSet], annotation: str
) -> bool:
    """Whether `spec.replicas` has changed since the ReplicaSets were sized."""
    active = [item for item in (*old, current) if item is not None and item.spec.replicas]
    sizes = [item.metadata.annotations.get(annotation, "") for item in active]
    return any(size.isdigit() and int(size) != deployment.spec.replicas for size in sizes)


def proportional(
    deployment: Deployment, current: ReplicaSet | None, old: Sequence[ReplicaSet]
) -> dict[str, tuple[ReplicaSet, int]]:
    """Replica counts after a change of `spec.replicas`, in the middle of a rollout in proportion.

    With one active ReplicaSet it takes all. With several, surplus and shortage are shared by size, the
    largest gets what rounding leaves over.
    """
    replicas = deployment.spec.replicas
    sets = [item for item in (current, *old) if item is not None]
    active = [item for item in sets if item.spec.replicas]
    if len(active) <= 1:
        only = active[0] if active else current
        return {only.name: (only, replicas)} if only is not None else {}
    if current is not None and current.spec.replicas == replicas == current.status.available_replicas:
        return {item.name: (item, 0) for item in old if item.spec.replicas}
    allowed = replicas + limits(deployment).surge if replicas else 0
    total = sum(item.spec.replicas for item in active)
    difference = allowed - total
    active.sort(key=lambda item: -item.spec.replicas)
    targets = {}
    for item in active:
        share = round(item.spec.replicas * allowed / total) - item.spec.replicas
        share = min(share, difference) if difference > 0 else max(share, difference)
        targets[item.name] = (item, max(item.spec.replicas + share, 0))
        difference -= share
    largest = active[0]
    targets[largest.name] = (largest, max(targets[largest.name][1] + difference, 0))
    return targets


def complete(deployment: Deployment, current: ReplicaSet | None, old: Sequence[ReplicaSet]) -> bool:
    """Whether all pods are of the present template and available, and the status was seen at this spec."""
    replicas = deployment.spec.replicas
    return (
        current is not None
        and current.status.replicas == replicas
        and current.status.available_replicas == replicas
        and not any(item.status.replicas for item in old)
    )
