"""The status of a Deployment: counts, and the conditions Available and Progressing that clients wait for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from emu.client.events import timestamp
from emu.controllers import rollout
from emu.controllers.timestamps import seconds_since
from emu.core.objects import Condition, Deployment, ReplicaSet, condition

# A deadline of this many seconds (the largest int32) means: none.
_NO_DEADLINE = 2**31 - 1


def deployment_status(
    deployment: Deployment,
    current: ReplicaSet | None,
    old: Sequence[ReplicaSet],
    created: str,
    now: float,
) -> dict[str, Any] | None:
    """The status as the value of a merge patch, None when the present one is right.

    `created` is the name of the ReplicaSet that is being created, "" when there is none.
    """
    counts = _counts(deployment, current, old)
    before = {
        "observedGeneration": deployment.status.observed_generation,
        "replicas": deployment.status.replicas,
        "updatedReplicas": deployment.status.updated_replicas,
        "readyReplicas": deployment.status.ready_replicas,
        "availableReplicas": deployment.status.available_replicas,
        "unavailableReplicas": deployment.status.unavailable_replicas,
    }
    wanted = [_available(deployment, counts["availableReplicas"])]
    progressing = _progressing(deployment, current, old, counts, created, now)
    if progressing is not None:
        wanted.append(progressing)
    conditions, changed = merge_conditions(deployment.status.conditions, wanted, now)
    if counts == before and not changed:
        return None
    return {**counts, "conditions": conditions}


def _counts(deployment: Deployment, current: ReplicaSet | None, old: Sequence[ReplicaSet]) -> dict[str, int]:
    sets = [item for item in (current, *old) if item is not None]
    total = sum(item.status.replicas for item in sets)
    available = sum(item.status.available_replicas for item in sets)
    wanted = sum(item.spec.replicas for item in sets)
    return {
        "observedGeneration": deployment.metadata.generation,
        "replicas": total,
        "updatedReplicas": current.status.replicas if current is not None else 0,
        "readyReplicas": sum(item.status.ready_replicas for item in sets),
        "availableReplicas": available,
        "unavailableReplicas": max(wanted - available, 0),
    }


def _available(deployment: Deployment, available: int) -> Condition:
    if available >= deployment.spec.replicas - rollout.limits(deployment).unavailable:
        return Condition(
            type="Available",
            status="True",
            reason="MinimumReplicasAvailable",
            message="Deployment has minimum availability.",
        )
    return Condition(
        type="Available",
        status="False",
        reason="MinimumReplicasUnavailable",
        message="Deployment does not have minimum availability.",
    )


def _progressing(
    deployment: Deployment,
    current: ReplicaSet | None,
    old: Sequence[ReplicaSet],
    counts: dict[str, int],
    created: str,
    now: float,
) -> Condition | None:
    """The condition Progressing, None when it stays as it is."""
    before = condition(deployment.status.conditions, "Progressing")
    if deployment.spec.paused:
        return _pause(before)
    if created:
        return _true("NewReplicaSetCreated", f'Created new replica set "{created}"', now)
    name = current.name if current is not None else deployment.name
    if rollout.complete(deployment, current, old):
        done = _true("NewReplicaSetAvailable", f'ReplicaSet "{name}" has successfully progressed.', now)
        same = before is not None and (before.reason, before.message) == (done.reason, done.message)
        return None if same else done
    status = deployment.status
    moved = (
        counts["updatedReplicas"] > status.updated_replicas
        or counts["readyReplicas"] > status.ready_replicas
        or counts["availableReplicas"] > status.available_replicas
        or counts["replicas"] - counts["updatedReplicas"] < status.replicas - status.updated_replicas
    )
    resumed = before is not None and before.reason == "DeploymentPaused"
    if moved or before is None or resumed:
        return _true("ReplicaSetUpdated", f'ReplicaSet "{name}" is progressing.', now)
    if before.reason == "NewReplicaSetAvailable":
        return None
    left = _seconds_left(deployment, before, now)
    if left is not None and left <= 0 and before.reason != "ProgressDeadlineExceeded":
        return Condition(
            type="Progressing",
            status="False",
            reason="ProgressDeadlineExceeded",
            message=f'ReplicaSet "{name}" has timed out progressing.',
            last_update_time=timestamp(now),
        )
    return None


def _pause(before: Condition | None) -> Condition | None:
    if before is not None and before.reason in ("DeploymentPaused", "ProgressDeadlineExceeded"):
        return None
    return Condition(
        type="Progressing", status="Unknown", reason="DeploymentPaused", message="Deployment is paused"
    )


def _true(reason: str, message: str, now: float) -> Condition:
    return Condition(
        type="Progressing", status="True", reason=reason, message=message, last_update_time=timestamp(now)
    )


def _seconds_left(deployment: Deployment, before: Condition, now: float) -> float | None:
    deadline = deployment.spec.progress_deadline_seconds
    if deadline == _NO_DEADLINE or before.status != "True":
        return None
    return deadline - seconds_since(before.last_update_time or before.last_transition_time, now)


def requeue_for_progress(
    deployment: Deployment, current: ReplicaSet | None, old: Sequence[ReplicaSet], now: float
) -> float | None:
    """Seconds until progressDeadlineSeconds must be judged, None when nothing is awaited."""
    before = condition(deployment.status.conditions, "Progressing")
    if before is None or deployment.spec.paused or before.reason == "NewReplicaSetAvailable":
        return None
    if rollout.complete(deployment, current, old):
        return None
    left = _seconds_left(deployment, before, now)
    return left + 1.0 if left is not None and left > 0 else None


def merge_conditions(
    present: Sequence[Condition], wanted: Sequence[Condition], now: float
) -> tuple[list[dict[str, Any]], bool]:
    """The conditions as documents, and whether they differ. lastTransitionTime moves with the status only."""
    by_type = {item.type: item for item in present}
    changed = False
    documents = {item.type: _document(item) for item in present}
    for item in wanted:
        before = by_type.get(item.type)
        if before is not None and (
            (before.status, before.reason, before.message) == (item.status, item.reason, item.message)
            and item.last_update_time in (None, before.last_update_time)
        ):
            continue
        changed = True
        transition = before.last_transition_time if before and before.status == item.status else None
        documents[item.type] = {
            **_document(item),
            "lastUpdateTime": item.last_update_time or timestamp(now),
            "lastTransitionTime": transition or timestamp(now),
        }
    return list(documents.values()), changed


def _document(item: Condition) -> dict[str, Any]:
    document: dict[str, Any] = {
        "type": item.type,
        "status": item.status,
        "reason": item.reason,
        "message": item.message,
    }
    if item.last_update_time:
        document["lastUpdateTime"] = item.last_update_time
    if item.last_transition_time:
        document["lastTransitionTime"] = item.last_transition_time
    return document
