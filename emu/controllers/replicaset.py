"""ReplicaSets: as many pods as asked for, adopted, released, created and deleted.

Rules: the Kubernetes documentation of ReplicaSets and the behaviour of kube-controller-manager.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

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
from emu.controllers.timestamps import seconds_since
from emu.controllers.workqueue import WorkQueue
from emu.core.objects import Pod, ReplicaSet, ReplicaSetStatus, condition

# No vowels and none of 0, 1, 3: names cannot become words.
NAME_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
_BURST = 500
_NAME_LIMIT = 63
_FORGET_DELETION_SECONDS = 30.0
_PHASE_ORDER = {"Pending": 0, "Unknown": 1, "Running": 2}


def random_suffix() -> str:
    """Five random characters, as `metadata.generateName` adds them."""
    return "".join(random.choices(NAME_ALPHABET, k=5))


class Family(NamedTuple):
    """The pods of a ReplicaSet's namespace, as it sees them."""

    mine: tuple[Pod, ...]
    """Owned, matching, neither finished nor terminating: what counts."""
    lost: tuple[Pod, ...]
    """Owned, and not matching any more."""
    orphans: tuple[Pod, ...]
    """Matching and owned by nobody."""


def family(replica_set: ReplicaSet, owned: Iterable[Pod], others: Iterable[Pod]) -> Family:
    """Sort pods by what they are to a ReplicaSet. `others` may hold pods that do not matter."""
    selector = replica_set.spec.selector
    mine: list[Pod] = []
    lost: list[Pod] = []
    for pod in owned:
        if pod.terminating or pod.finished:
            continue
        (mine if selector.matches(pod.metadata.labels) else lost).append(pod)
    orphans = [
        pod
        for pod in others
        if pod.metadata.controller is None
        and not pod.terminating
        and not pod.finished
        and selector.matches(pod.metadata.labels)
    ]
    return Family(tuple(mine), tuple(lost), tuple(orphans))


def decide(replica_set: ReplicaSet, pods: Family, now: float) -> list[Action]:
    """What to do for a ReplicaSet at wall-clock time `now`: claims, pods, status, in this order."""
    if replica_set.metadata.deletion_timestamp is not None:
        return []
    actions: list[Action] = [release(pod, replica_set) for pod in pods.lost]
    actions += [adopt(pod, replica_set) for pod in pods.orphans]
    mine = [*pods.mine, *pods.orphans]
    missing = replica_set.spec.replicas - len(mine)
    if missing > 0:
        actions += [Create(Pod.resource, new_pod(replica_set)) for _ in range(min(missing, _BURST))]
    elif missing < 0:
        actions += [
            Delete(Pod.resource, pod.namespace, pod.name, pod.metadata.uid)
            for pod in victims(mine, now)[: min(-missing, _BURST)]
        ]
    status = status_of(replica_set, mine, now)
    if status != replica_set.status:
        patch = {"status": dict.fromkeys(_STATUS_FIELDS, 0) | plain(status)}
        actions.append(
            Patch(ReplicaSet.resource, replica_set.namespace, replica_set.name, patch, subresource="status")
        )
    waiting = [
        left
        for pod in mine
        if pod.ready and (left := _seconds_to_available(pod, replica_set.spec.min_ready_seconds, now)) > 0
    ]
    if waiting:
        actions.append(Requeue(min(waiting)))
    return actions


_STATUS_FIELDS = (
    "replicas",
    "fullyLabeledReplicas",
    "readyReplicas",
    "availableReplicas",
    "observedGeneration",
)


def status_of(replica_set: ReplicaSet, mine: list[Pod], now: float) -> ReplicaSetStatus:
    """The status that the pods amount to. Available: Ready for at least minReadySeconds."""
    template_labels = replica_set.spec.template.metadata.labels.items()
    ready = [pod for pod in mine if pod.ready]
    available = [
        pod for pod in ready if _seconds_to_available(pod, replica_set.spec.min_ready_seconds, now) <= 0
    ]
    return ReplicaSetStatus(
        replicas=len(mine),
        fully_labeled_replicas=sum(1 for pod in mine if template_labels <= pod.metadata.labels.items()),
        ready_replicas=len(ready),
        available_replicas=len(available),
        observed_generation=replica_set.metadata.generation,
    )


def _seconds_to_available(pod: Pod, min_ready_seconds: int, now: float) -> float:
    if not min_ready_seconds:
        return 0.0
    ready = condition(pod.status.conditions, "Ready")
    since = ready.last_transition_time if ready is not None else None
    return min_ready_seconds - seconds_since(since, now)


def victims(pods: Iterable[Pod], now: float) -> list[Pod]:
    """Pods in the order in which they are given up.

    Unassigned, then Pending, then not Ready, then of low `controller.kubernetes.io/pod-deletion-cost`, then
    from nodes with many of them, then Ready for a short time, then young.
    """
    pods = list(pods)
    on_node: dict[str, int] = {}
    for pod in pods:
        on_node[pod.spec.node_name] = on_node.get(pod.spec.node_name, 0) + 1

    def rank(pod: Pod) -> tuple[Any, ...]:
        ready = condition(pod.status.conditions, "Ready")
        ready_for = seconds_since(ready.last_transition_time, now) if pod.ready and ready else 0.0
        return (
            bool(pod.spec.node_name),
            _PHASE_ORDER.get(pod.status.phase, 1),
            pod.ready,
            _deletion_cost(pod),
            -on_node[pod.spec.node_name],
            ready_for,
            seconds_since(pod.metadata.creation_timestamp, now),
            pod.name,
        )

    return sorted(pods, key=rank)


def _deletion_cost(pod: Pod) -> int:
    try:
        return int(pod.metadata.annotations.get("controller.kubernetes.io/pod-deletion-cost", "0"))
    except ValueError:
        return 0


def new_pod(replica_set: ReplicaSet) -> dict[str, Any]:
    """A pod from the template.

    The five random characters are chosen here and not by the server, so that the name is known before the
    answer comes.
    """
    template = replica_set.spec.template
    prefix = f"{replica_set.name}-"
    metadata = plain(template.metadata)
    metadata.pop("namespace", None)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            **metadata,
            "generateName": prefix,
            "name": f"{prefix[: _NAME_LIMIT - 5]}{random_suffix()}",
            "namespace": replica_set.namespace,
            "ownerReferences": [owner_reference(replica_set)],
        },
        "spec": template.spec,
    }


class ReplicaSetController:
    """Keeps the pods of all ReplicaSets."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._recorder = context.recorder("replicaset-controller")
        self._sets = context.informers.reflector(ReplicaSet)
        self._pods = context.informers.reflector(Pod)
        self._owned = context.informers.by_controller(Pod)
        self._orphans = context.informers.index(
            Pod, "orphans", lambda pod: () if pod.metadata.controller else (pod.namespace,)
        )
        self._sets_in = context.informers.index(ReplicaSet, "namespace", lambda item: (item.namespace,))
        self._sets_by_uid = context.informers.index(ReplicaSet, "uid", lambda item: (item.metadata.uid,))
        self._deleted: dict[str, float] = {}
        self._queue = WorkQueue("replicaset", self._sync, workers=4)
        self._sets.subscribe(self._set_changed)
        self._pods.subscribe(self._pod_changed)

    async def run(self) -> None:
        """Work until cancelled."""
        await self._context.informers.synced()
        await self._queue.run()

    def _set_changed(self, key: str, before: ReplicaSet | None, now: ReplicaSet | None) -> None:
        if now is not None:
            self._queue.add(key)

    def _pod_changed(self, key: str, before: Pod | None, now: Pod | None) -> None:
        if before is not None and (now is None or now.terminating):
            self._deleted.pop(before.metadata.uid, None)
        owners = {
            owner.uid
            for pod in (before, now)
            if pod is not None and (owner := pod.metadata.controller) is not None
        }
        for uid in owners:
            for owner_key in self._sets_by_uid.get(uid):
                self._queue.add(owner_key)
        if now is not None and now.metadata.controller is None and now.metadata.labels:
            for set_key, item in self._sets_in.get(now.namespace).items():
                if item.spec.selector.matches(now.metadata.labels):
                    self._queue.add(set_key)

    async def _sync(self, key: str) -> float | None:
        item = self._sets.items.get(key)
        if item is None:
            return None
        moment = time.monotonic()
        self._deleted = {uid: until for uid, until in self._deleted.items() if until > moment}
        owned = [
            pod
            for pod in self._owned.get(item.metadata.uid).values()
            if pod.metadata.uid not in self._deleted
        ]
        pods = family(item, owned, self._orphans.get(item.namespace).values())
        actions = decide(item, pods, time.time())
        # Their deletion is known here before the watch tells it: they must not be chosen or counted again.
        for action in actions:
            if isinstance(action, Delete):
                self._deleted[action.uid] = moment + _FORGET_DELETION_SECONDS
        try:
            after = await perform(self._context, self._recorder, actions)
        except BaseException:
            for action in actions:
                if isinstance(action, Delete):
                    self._deleted.pop(action.uid, None)
            raise
        for report in reports(item, actions):
            self._recorder.normal(report.about, report.reason, report.message)
        return after


def reports(replica_set: ReplicaSet, actions: Iterable[Action]) -> list[Report]:
    """The Events about pods that were created and deleted."""
    found = []
    for action in actions:
        if isinstance(action, Create):
            name = _name(action.document)
            found.append(Report(replica_set, "SuccessfulCreate", f"Created pod: {name}"))
        elif isinstance(action, Delete):
            found.append(Report(replica_set, "SuccessfulDelete", f"Deleted pod: {action.name}"))
    return found


def _name(document: Mapping[str, Any]) -> str:
    return str(document["metadata"]["name"])
