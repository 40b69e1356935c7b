"""Deployments: which ReplicaSet should have how many pods next, and what the status says.

Rules: the Kubernetes documentation of Deployments and the behaviour of kube-controller-manager, as far as
`kubectl rollout` and `kubectl wait` can see it. One decision makes one step; the next change asks again.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from emu.controllers import rollout
from emu.controllers.actions import (
    Action,
    Context,
    Create,
    Delete,
    Patch,
    Report,
    Requeue,
    adopt,
    owner_reference,
    perform,
    plain,
    release,
)
from emu.controllers.deployment_status import deployment_status, requeue_for_progress
from emu.controllers.workqueue import WorkQueue
from emu.core.objects import Deployment, Pod, ReplicaSet

REVISION = "deployment.kubernetes.io/revision"
DESIRED_REPLICAS = "deployment.kubernetes.io/desired-replicas"
MAX_REPLICAS = "deployment.kubernetes.io/max-replicas"
HASH_LABEL = "pod-template-hash"
_NOT_COPIED = (
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    "deployment.kubernetes.io/revision-history",
    DESIRED_REPLICAS,
    MAX_REPLICAS,
    "deprecated.deployment.rollback.to",
)


class Observed(NamedTuple):
    """What a decision about a Deployment is made on."""

    deployment: Deployment
    owned: Sequence[ReplicaSet]
    orphans: Sequence[ReplicaSet] = ()
    """ReplicaSets of the namespace that nobody owns."""
    old_pods: int = 0
    """Pods of replaced templates that still exist, terminating ones too (Recreate waits for them)."""


def decide(seen: Observed, now: float) -> list[Action]:
    """What to do for a Deployment at wall-clock time `now`."""
    deployment = seen.deployment
    if deployment.metadata.deletion_timestamp is not None:
        return []
    selector = deployment.spec.selector
    actions: list[Action] = []
    sets: list[ReplicaSet] = []
    for item in seen.owned:
        if selector.matches(item.metadata.labels):
            sets.append(item)
        else:
            actions.append(release(item, deployment))
    for item in seen.orphans:
        if selector.matches(item.metadata.labels) and item.metadata.deletion_timestamp is None:
            sets.append(item)
            actions.append(adopt(item, deployment))
    current, old = rollout.split(deployment, sets)
    revision = max((revision_of(item) for item in old), default=0) + 1
    if current is not None:
        revision = max(revision, revision_of(current))
    steps = _steps(deployment, current, old, seen.old_pods, revision)
    created = next((step.document["metadata"]["name"] for step in steps if isinstance(step, Create)), "")
    actions += steps
    actions += _mark_revision(deployment, current, revision)
    status = deployment_status(deployment, current, old, created, now)
    if status is not None:
        actions.append(
            Patch(
                Deployment.resource,
                deployment.namespace,
                deployment.name,
                {"status": status},
                subresource="status",
            )
        )
    actions += _forget_history(deployment, current, old)
    after = requeue_for_progress(deployment, current, old, now)
    if after is not None:
        actions.append(Requeue(after))
    return actions


def revision_of(item: ReplicaSet | Deployment) -> int:
    """The revision annotation as a number, 0 when there is none."""
    text = item.metadata.annotations.get(REVISION, "")
    return int(text) if text.isdigit() else 0


def _steps(
    deployment: Deployment,
    current: ReplicaSet | None,
    old: Sequence[ReplicaSet],
    old_pods: int,
    revision: int,
) -> list[Action]:
    """The next changes of replica counts."""
    if deployment.spec.paused:
        return _scale_all(deployment, rollout.proportional(deployment, current, old))
    scaled = rollout.was_scaled(deployment, current, old, DESIRED_REPLICAS)
    if scaled:
        return _scale_all(deployment, rollout.proportional(deployment, current, old))
    recreate = deployment.spec.strategy.type == "Recreate"
    if recreate:
        targets = rollout.recreate(deployment, current, old, old_pods)
    else:
        targets = rollout.rolling(deployment, current, old)
    steps: list[Action] = []
    if current is None and targets.current is not None:
        steps += _create(deployment, old, revision, targets.current)
    elif current is not None and targets.current is not None:
        steps += _scale(deployment, current, targets.current)
    for item in old:
        if item.name in targets.old:
            steps += _scale(deployment, item, targets.old[item.name])
    return steps


def _create(deployment: Deployment, old: Sequence[ReplicaSet], revision: int, replicas: int) -> list[Action]:
    name = f"{deployment.name}-{rollout.template_hash(deployment)}"
    steps: list[Action] = [
        Create(ReplicaSet.resource, new_replica_set(deployment, revision, replicas)),
    ]
    if replicas:
        steps.append(
            Report(deployment, "ScalingReplicaSet", f"Scaled up replica set {name} from 0 to {replicas}")
        )
    return steps


def new_replica_set(deployment: Deployment, revision: int, replicas: int) -> dict[str, Any]:
    """The ReplicaSet of a Deployment's present template."""
    label = rollout.template_hash(deployment)
    template = deployment.spec.template
    labels = {**template.metadata.labels, HASH_LABEL: label}
    selector = plain(deployment.spec.selector)
    selector["matchLabels"] = {**selector.get("matchLabels", {}), HASH_LABEL: label}
    metadata = {**plain(template.metadata), "labels": labels}
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": f"{deployment.name}-{label}",
            "namespace": deployment.namespace,
            "labels": labels,
            "annotations": {
                **_copied_annotations(deployment),
                **_sizes(deployment),
                REVISION: str(revision),
            },
            "ownerReferences": [owner_reference(deployment)],
        },
        "spec": {
            "replicas": replicas,
            "minReadySeconds": deployment.spec.min_ready_seconds,
            "selector": selector,
            "template": {"metadata": metadata, "spec": template.spec},
        },
    }


def _copied_annotations(deployment: Deployment) -> dict[str, str]:
    return {key: value for key, value in deployment.metadata.annotations.items() if key not in _NOT_COPIED}


def _sizes(deployment: Deployment) -> dict[str, str]:
    """The annotations by which a later change of `spec.replicas` is told from a rollout."""
    replicas = deployment.spec.replicas
    return {DESIRED_REPLICAS: str(replicas), MAX_REPLICAS: str(replicas + rollout.limits(deployment).surge)}


def _scale_all(deployment: Deployment, targets: Mapping[str, tuple[ReplicaSet, int]]) -> list[Action]:
    return [step for item, replicas in targets.values() for step in _scale(deployment, item, replicas)]


def _scale(deployment: Deployment, item: ReplicaSet, replicas: int) -> list[Action]:
    sizes = _sizes(deployment)
    has_sizes = sizes.items() <= item.metadata.annotations.items()
    if replicas == item.spec.replicas and (has_sizes or not replicas):
        return []
    patch: dict[str, Any] = {
        "metadata": {"resourceVersion": item.metadata.resource_version, "annotations": sizes}
    }
    steps: list[Action] = []
    if replicas != item.spec.replicas:
        patch["spec"] = {"replicas": replicas}
        way = "up" if replicas > item.spec.replicas else "down"
        steps.append(
            Report(
                deployment,
                "ScalingReplicaSet",
                f"Scaled {way} replica set {item.name} from {item.spec.replicas} to {replicas}",
            )
        )
    return [Patch(ReplicaSet.resource, item.namespace, item.name, patch), *steps]


def _mark_revision(deployment: Deployment, current: ReplicaSet | None, revision: int) -> list[Action]:
    """Keep the revision on the Deployment and on its present ReplicaSet, which an undo makes the newest."""
    steps: list[Action] = []
    if current is not None:
        wanted = {**_copied_annotations(deployment), REVISION: str(revision)}
        if not wanted.items() <= current.metadata.annotations.items():
            if (before := revision_of(current)) and before != revision:
                history = current.metadata.annotations.get("deployment.kubernetes.io/revision-history", "")
                wanted["deployment.kubernetes.io/revision-history"] = ",".join(
                    [*filter(None, history.split(",")), str(before)]
                )
            steps.append(
                Patch(
                    ReplicaSet.resource,
                    current.namespace,
                    current.name,
                    {"metadata": {"annotations": wanted}},
                )
            )
    if revision_of(deployment) != revision and (current is not None or not deployment.spec.paused):
        patch = {"metadata": {"annotations": {REVISION: str(revision)}}}
        steps.append(Patch(Deployment.resource, deployment.namespace, deployment.name, patch))
    return steps


def _forget_history(
    deployment: Deployment, current: ReplicaSet | None, old: Sequence[ReplicaSet]
) -> list[Action]:
    """Delete what lies beyond revisionHistoryLimit, once the rollout is complete."""
    if not rollout.complete(deployment, current, old):
        return []
    empty = [
        item
        for item in old
        if not item.spec.replicas and not item.status.replicas and item.metadata.deletion_timestamp is None
    ]
    empty.sort(key=revision_of)
    surplus = len(empty) - deployment.spec.revision_history_limit
    return [
        Delete(ReplicaSet.resource, item.namespace, item.name, item.metadata.uid)
        for item in empty[: max(surplus, 0)]
    ]


class DeploymentController:
    """Rolls out all Deployments."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._recorder = context.recorder("deployment-controller")
        informers = context.informers
        self._deployments = informers.reflector(Deployment)
        self._by_uid = informers.index(Deployment, "uid", lambda item: (item.metadata.uid,))
        self._sets = informers.by_controller(ReplicaSet)
        self._orphans = informers.index(
            ReplicaSet, "orphans", lambda item: () if item.metadata.controller else (item.namespace,)
        )
        self._pods = informers.by_controller(Pod)
        self._sets_by_uid = informers.index(ReplicaSet, "uid", lambda item: (item.metadata.uid,))
        self._queue = WorkQueue("deployment", self._sync, workers=4)
        self._deployments.subscribe(self._deployment_changed)
        informers.reflector(ReplicaSet).subscribe(self._set_changed)
        informers.reflector(Pod).subscribe(self._pod_changed)

    async def run(self) -> None:
        """Work until cancelled."""
        await self._context.informers.synced()
        await self._queue.run()

    def _deployment_changed(self, key: str, before: Deployment | None, now: Deployment | None) -> None:
        if now is not None:
            self._queue.add(key)

    def _set_changed(self, key: str, before: ReplicaSet | None, now: ReplicaSet | None) -> None:
        for item in (before, now):
            if item is None:
                continue
            if (owner := item.metadata.controller) is not None:
                for owner_key in self._by_uid.get(owner.uid):
                    self._queue.add(owner_key)
            elif item is now:
                for owner_key, deployment in self._deployments.items.items():
                    if deployment.namespace == item.namespace and deployment.spec.selector.matches(
                        item.metadata.labels
                    ):
                        self._queue.add(owner_key)

    def _pod_changed(self, key: str, before: Pod | None, now: Pod | None) -> None:
        """Recreate waits until the last old pod is gone, which no ReplicaSet's status tells."""
        if now is not None or before is None or before.metadata.controller is None:
            return
        for replica_set in self._sets_by_uid.get(before.metadata.controller.uid).values():
            if (owner := replica_set.metadata.controller) is None:
                continue
            for owner_key, deployment in self._by_uid.get(owner.uid).items():
                if deployment.spec.strategy.type == "Recreate":
                    self._queue.add(owner_key)

    async def _sync(self, key: str) -> float | None:
        deployment = self._deployments.items.get(key)
        if deployment is None:
            return None
        owned = list(self._sets.get(deployment.metadata.uid).values())
        _, old = rollout.split(deployment, owned)
        old_pods = sum(
            1 for item in old for pod in self._pods.get(item.metadata.uid).values() if not pod.finished
        )
        seen = Observed(deployment, owned, tuple(self._orphans.get(deployment.namespace).values()), old_pods)
        return await perform(self._context, self._recorder, decide(seen, time.time()))
