"""What the verbs do: the life of an object from a decoded body to a stored version.

Everything here is synchronous, so a read, the decision and the write are one step for all clients.
"""

from __future__ import annotations

import secrets
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import msgspec

from emu.api.errors import (
    AlreadyExistsError,
    BadRequestError,
    ConflictError,
    FieldError,
    ForbiddenError,
    InvalidError,
    MethodNotAllowedError,
    NotFoundError,
    invalid,
)
from emu.api.naming import check_metadata
from emu.api.resource import Document, Resource
from emu.api.store import Item, Key, Store

_NAME_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
_OWNED_BY_SERVER = ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink")


class Admission(Protocol):
    """Decides on values that the server gives out, such as addresses.

    `admit` may change the new document and raises a StatusError to refuse; nothing is taken until
    `committed` is called with what was stored, so that a refused or dry write leaves nothing behind.
    """

    def admit(self, new: Document, old: Document | None) -> None:
        """Before validation of a create (old is None) or an update."""

    def committed(self, new: Document | None, old: Document | None) -> None:
        """After a create, update or deletion (new is None), and for each stored object at start."""


class Preconditions(NamedTuple):
    """`preconditions` of DeleteOptions."""

    uid: str | None = None
    resource_version: str | None = None


class DeleteOptions(NamedTuple):
    """What a DELETE asks for."""

    grace_period_seconds: int | None = None
    propagation_policy: str | None = None
    preconditions: Preconditions = Preconditions()
    dry_run: bool = False


def now_text(now: float | None = None) -> str:
    """The time as `metav1.Time`."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))


class Registry:
    """The verbs over a store."""

    def __init__(
        self, store: Store, resources: Mapping[str, Resource], admissions: Mapping[str, Admission]
    ) -> None:
        self.store = store
        self.resources = resources
        self._admissions = admissions
        for resource in resources.values():
            store.register(resource.name, resource.fields)

    def load(self) -> None:
        """Read the store, and what was given out."""
        self.store.load()
        for name, admission in self._admissions.items():
            for item in self.store.items(name):
                admission.committed(item.document(), None)
        for item in self.store.items("namespaces"):
            if item.fields.get("status.phase") == "Terminating":
                self._empty_namespace(item.key.name)

    # --- reading ---

    def get(self, resource: Resource, namespace: str, name: str) -> Item:
        """The current version. Raises NotFoundError."""
        item = self.store.get(Key(resource.name, namespace, name))
        if item is None:
            raise NotFoundError(resource.target(name))
        return item

    # --- create ---

    def create(
        self, resource: Resource, namespace: str, document: Document, *, dry_run: bool = False
    ) -> Document:
        """Create an object and give it as stored."""
        self._check_identity(resource, namespace, "", document)
        metadata = document.setdefault("metadata", {})
        for field in (*_OWNED_BY_SERVER, "resourceVersion", "generation"):
            metadata.pop(field, None)
        if not metadata.get("name") and metadata.get("generateName"):
            metadata["name"] = self._generate(resource, namespace, metadata["generateName"])
        name = metadata.get("name", "")
        if resource.namespaced:
            metadata["namespace"] = namespace
            self._check_namespace(resource, namespace, name)
        else:
            metadata.pop("namespace", None)
        if resource.has_status and not resource.status_at_creation:
            document.pop("status", None)
        metadata["uid"] = str(uuid.uuid4())
        metadata["creationTimestamp"] = now_text()
        if resource.has_generation:
            metadata["generation"] = 1
        document["apiVersion"], document["kind"] = resource.api_version, resource.kind
        resource.default(document)
        admission = self._admissions.get(resource.name)
        if admission is not None:
            admission.admit(document, None)
        self._refuse(
            resource, name, check_metadata(document, resource.name_rule) + resource.validate(document)
        )
        key = Key(resource.name, namespace if resource.namespaced else "", name)
        if self.store.get(key) is not None:
            raise AlreadyExistsError(resource.target(name))
        if dry_run:
            return document
        self.store.put(key, document)
        if admission is not None:
            admission.committed(document, None)
        return document

    def _generate(self, resource: Resource, namespace: str, prefix: str) -> str:
        while True:
            name = prefix[:58] + "".join(secrets.choice(_NAME_ALPHABET) for _ in range(5))
            if self.store.get(Key(resource.name, namespace if resource.namespaced else "", name)) is None:
                return name

    def _check_namespace(self, resource: Resource, namespace: str, name: str) -> None:
        found = self.store.get(Key("namespaces", "", namespace))
        if found is None:
            raise NotFoundError(self.resources["namespaces"].target(namespace))
        if found.fields.get("status.phase") == "Terminating":
            raise ForbiddenError(
                resource.target(name),
                f"unable to create new content in namespace {namespace} because it is being terminated",
                [
                    {
                        "reason": "NamespaceTerminating",
                        "message": f"namespace {namespace} is being terminated",
                        "field": "metadata.namespace",
                    }
                ],
            )

    def _check_identity(self, resource: Resource, namespace: str, name: str, document: Document) -> None:
        """The body is about the object of the path."""
        kind, api_version = document.get("kind"), document.get("apiVersion")
        if (kind and kind != resource.kind) or (api_version and api_version != resource.api_version):
            group_version = api_version or resource.api_version
            raise BadRequestError(
                f'{kind or resource.kind} in version "{group_version}" cannot be handled as a '
                f'{resource.kind} of version "{resource.api_version}"'
            )
        metadata = document.get("metadata")
        if metadata is None:
            return
        if not isinstance(metadata, dict):
            raise BadRequestError("metadata: expected an object")
        given = metadata.get("namespace")
        if resource.namespaced and given and given != namespace:
            raise BadRequestError(
                "the namespace of the provided object does not match the namespace sent on the request"
            )
        if name and metadata.get("name") and metadata["name"] != name:
            raise BadRequestError(
                f"the name of the object ({metadata['name']}) does not match the name on the URL ({name})"
            )

    @staticmethod
    def _refuse(resource: Resource, name: str, errors: list[FieldError]) -> None:
        if errors:
            raise InvalidError(resource.target(name), errors)

    # --- update ---

    def update(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        change: Callable[[Document], Document],
        *,
        subresource: str = "",
        dry_run: bool = False,
    ) -> Document:
        """Replace an object by what `change` makes of a copy of it, and give it as stored.

        With subresource "status" only the status is taken from the result, else everything but the status.
        Raises ConflictError when the result carries another resourceVersion than the stored object.
        """
        item = self.get(resource, namespace, name)
        old = item.document()
        new = change(item.document())
        self._check_identity(resource, namespace, name, new)
        given = (new.get("metadata") or {}).get("resourceVersion")
        if given and given != str(item.version):
            raise ConflictError(resource.target(name))
        uid = (new.get("metadata") or {}).get("uid")
        if uid and uid != old["metadata"]["uid"]:
            raise ConflictError(
                resource.target(name),
                _uid_mismatch(uid, old),
            )
        if subresource == "status":
            new = {**old, "status": new.get("status") or {}}
            errors = resource.validate_status(new)
        else:
            self._prepare(resource, new, old)
            admission = self._admissions.get(resource.name)
            if admission is not None:
                admission.admit(new, old)
            errors = [
                *check_metadata(new, resource.name_rule),
                *resource.validate(new),
                *resource.validate_update(new, old),
            ]
        self._refuse(resource, name, errors)
        if new == old or dry_run:
            return new
        return self._store(resource, item.key, new, old)

    def _prepare(self, resource: Resource, new: Document, old: Document) -> None:
        """Carry over what belongs to the server, and count the generation."""
        metadata, before = new.setdefault("metadata", {}), old["metadata"]
        for key in (*_OWNED_BY_SERVER, "name", "namespace", "resourceVersion", "generation"):
            if key in before:
                metadata[key] = before[key]
            else:
                metadata.pop(key, None)
        new["apiVersion"], new["kind"] = resource.api_version, resource.kind
        if resource.has_status:
            if "status" in old:
                new["status"] = old["status"]
            else:
                new.pop("status", None)
        resource.keep(new, old)
        resource.default(new)
        if resource.has_generation and new.get("spec") != old.get("spec"):
            metadata["generation"] = before.get("generation", 0) + 1

    def _store(self, resource: Resource, key: Key, new: Document, old: Document) -> Document:
        metadata = new["metadata"]
        if metadata.get("deletionTimestamp") and not self._held(resource, new):
            return self._remove(key, new, old)
        self.store.put(key, new)
        admission = self._admissions.get(resource.name)
        if admission is not None:
            admission.committed(new, old)
        return new

    # --- delete ---

    def delete(
        self, resource: Resource, namespace: str, name: str, options: DeleteOptions
    ) -> tuple[Document, bool]:
        """Delete an object, or mark it where something must happen first.

        Gives the object as it was last and whether it is gone.
        """
        item = self.get(resource, namespace, name)
        old = item.document()
        self._check_preconditions(resource, name, item, old, options.preconditions)
        new = item.document()
        metadata = new["metadata"]
        if options.propagation_policy == "Foreground":
            self._add_finalizer(metadata, "foregroundDeletion")
        elif options.propagation_policy == "Orphan":
            self._add_finalizer(metadata, "orphan")
        if options.dry_run:
            return new, True
        grace = self._grace(resource, new, options)
        marked = "deletionTimestamp" in metadata
        if marked and grace == 0:
            metadata["deletionGracePeriodSeconds"] = 0
        if grace > 0 or self._held(resource, new):
            if marked and grace >= old["metadata"].get("deletionGracePeriodSeconds", 0):
                return old, False
            metadata["deletionTimestamp"] = now_text(time.time() + grace)
            metadata["deletionGracePeriodSeconds"] = grace
            if resource.has_generation:
                metadata["generation"] = metadata.get("generation", 0) + 1
            if resource.name == "namespaces":
                new["status"] = {**new.get("status", {}), "phase": "Terminating"}
            self.store.put(item.key, new)
            if resource.name == "namespaces":
                return self._empty_namespace(name) or new, False
            return new, False
        return self._remove(item.key, new, old), True

    def _check_preconditions(
        self, resource: Resource, name: str, item: Item, old: Document, conditions: Preconditions
    ) -> None:
        if conditions.uid and conditions.uid != old["metadata"]["uid"]:
            raise ConflictError(
                resource.target(name),
                _uid_mismatch(conditions.uid, old),
            )
        if conditions.resource_version and conditions.resource_version != str(item.version):
            raise ConflictError(
                resource.target(name),
                f"Precondition failed: ResourceVersion in precondition: {conditions.resource_version}, "
                f"ResourceVersion in object meta: {item.version}",
            )
        if resource.name == "namespaces" and name in ("default", "kube-system", "kube-public"):
            raise ForbiddenError(resource.target(name), "this namespace may not be deleted")

    @staticmethod
    def _add_finalizer(metadata: Document, name: str) -> None:
        if name not in metadata.get("finalizers", ()):
            metadata["finalizers"] = [*metadata.get("finalizers", ()), name]

    @staticmethod
    def _grace(resource: Resource, document: Document, options: DeleteOptions) -> int:
        """Seconds that a Pod on a node is given to end; the kubelet deletes it with 0 when it has."""
        if resource.name != "pods":
            return 0
        spec, status = document["spec"], document.get("status") or {}
        if not spec.get("nodeName") or status.get("phase") in ("Succeeded", "Failed"):
            return 0
        asked = options.grace_period_seconds
        return int(spec.get("terminationGracePeriodSeconds", 30) if asked is None else max(asked, 0))

    @staticmethod
    def _held(resource: Resource, document: Document) -> bool:
        """Whether an object that is marked for deletion stays for now."""
        metadata = document["metadata"]
        if metadata.get("finalizers"):
            return True
        if resource.name == "namespaces":
            return bool((document.get("spec") or {}).get("finalizers"))
        return bool(metadata.get("deletionGracePeriodSeconds")) and resource.name == "pods"

    def remove(self, key: Key) -> None:
        """Remove an object at once, whatever holds it."""
        item = self.store.get(key)
        if item is not None:
            self._remove(key, item.document(), item.document())

    def _remove(self, key: Key, last: Document, old: Document) -> Document:
        self.store.delete(key, last)
        admission = self._admissions.get(key.resource)
        if admission is not None:
            admission.committed(None, old)
        if key.namespace:
            self.finish_namespace(key.namespace)
        return last

    def _empty_namespace(self, namespace: str) -> Document | None:
        """Delete what a terminating namespace holds, then the namespace when nothing is left.

        Pods on nodes go when their kubelet says so, and objects with finalizers when those are done; the
        last of them takes the namespace along.
        """
        left = False
        for resource in self.resources.values():
            if not resource.namespaced:
                continue
            for item in self.store.items(resource.name, namespace):
                _, gone = self.delete(resource, namespace, item.key.name, DeleteOptions())
                left = left or not gone
        return None if left else self.finish_namespace(namespace)

    def finish_namespace(self, namespace: str) -> Document | None:
        """Remove a terminating namespace that is empty. Gives it as it was last, None if it stays."""
        item = self.store.get(Key("namespaces", "", namespace))
        if item is None or item.fields.get("status.phase") != "Terminating":
            return None
        if any(
            self.store.items(resource.name, namespace)
            for resource in self.resources.values()
            if resource.namespaced
        ):
            return None
        old = item.document()
        new = item.document()
        new["spec"] = {key: value for key, value in new.get("spec", {}).items() if key != "finalizers"}
        if new["metadata"].get("finalizers"):
            self.store.put(item.key, new)
            return new
        return self._remove(item.key, new, old)

    # --- subresources ---

    def bind(self, namespace: str, name: str, binding: Document, *, dry_run: bool = False) -> None:
        """`pods/binding`: put a pod on a node."""
        pods = self.resources["pods"]
        target = (binding.get("target") or {}).get("name", "")
        if not target:
            raise InvalidError(
                pods.target(name), [FieldError("target.name", "FieldValueRequired", "Required value")]
            )
        item = self.get(pods, namespace, name)
        old, new = item.document(), item.document()
        if new["metadata"].get("deletionTimestamp"):
            raise ConflictError(
                pods.target(name), f"pod {name} is being deleted, cannot be assigned to a host"
            )
        if new["spec"].get("nodeName"):
            raise ConflictError(
                pods.target(name), f'pod {name} is already assigned to node "{new["spec"]["nodeName"]}"'
            )
        new["spec"]["nodeName"] = target
        conditions = new.setdefault("status", {}).setdefault("conditions", [])
        conditions[:] = [entry for entry in conditions if entry.get("type") != "PodScheduled"]
        conditions.append({"type": "PodScheduled", "status": "True", "lastTransitionTime": now_text()})
        if not dry_run:
            self._store(pods, item.key, new, old)

    def scale_of(self, resource: Resource, item: Item) -> Document:
        """The autoscaling/v1 Scale of a workload."""
        return scale_document(resource, item.document())

    def set_scale(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        change: Callable[[Document], Document],
        *,
        dry_run: bool = False,
    ) -> Document:
        """Change the replicas of a workload through its Scale."""

        def apply(document: Document) -> Document:
            scale = change(scale_document(resource, document))
            replicas = (scale.get("spec") or {}).get("replicas", 0)
            if not isinstance(replicas, int) or isinstance(replicas, bool):
                raise BadRequestError("spec.replicas: expected an integer")
            if replicas < 0:
                raise InvalidError(
                    resource.target(name),
                    [invalid("spec.replicas", replicas, "must be greater than or equal to 0")],
                )
            document["spec"]["replicas"] = replicas
            given = (scale.get("metadata") or {}).get("resourceVersion")
            if given:
                document["metadata"]["resourceVersion"] = given
            return document

        return scale_document(resource, self.update(resource, namespace, name, apply, dry_run=dry_run))

    def finalize(self, name: str, document: Document) -> Document:
        """`namespaces/finalize`: only the finalizers of the spec change."""
        namespaces = self.resources["namespaces"]
        item = self.get(namespaces, "", name)
        old = item.document()
        new = {**item.document(), "spec": document.get("spec") or {}}
        if not new["metadata"].get("deletionTimestamp"):
            raise MethodNotAllowedError("finalize")
        return self._store(namespaces, item.key, new, old)


def _uid_mismatch(wanted: str, document: Document) -> str:
    found = document["metadata"]["uid"]
    return f"Precondition failed: UID in precondition: {wanted}, UID in object meta: {found}"


def scale_document(resource: Resource, document: Document) -> Document:
    """The autoscaling/v1 Scale of a workload's document."""
    metadata, spec, status = document["metadata"], document["spec"], document.get("status") or {}
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {
            key: metadata[key]
            for key in ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
            if key in metadata
        },
        "spec": {"replicas": spec.get("replicas", 0)},
        "status": {
            "replicas": status.get("replicas", 0),
            "selector": selector_text(spec.get("selector") or {}),
        },
    }


def selector_text(document: Mapping[str, Any]) -> str:
    """A label selector in the form of a query."""
    terms = [f"{key}={value}" for key, value in sorted((document.get("matchLabels") or {}).items())]
    for entry in document.get("matchExpressions") or ():
        match entry["operator"]:
            case "Exists":
                terms.append(entry["key"])
            case "DoesNotExist":
                terms.append(f"!{entry['key']}")
            case _:
                terms.append(
                    f"{entry['key']} {entry['operator'].lower()} ({','.join(entry.get('values') or ())})"
                )
    return ",".join(terms)


def without_nulls(value: Any) -> Any:
    """A decoded body without the keys whose value is null, as Go's decoding has it."""
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [without_nulls(item) for item in value]
    return value


def decode(body: bytes) -> Any:
    """A JSON body. Raises BadRequestError."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequestError(f"the body is not JSON: {error}") from None
