"""What the verbs do: the life of an object from a decoded body to a stored version.

Everything here is synchronous, so a read, the decision and the write are one step for all clients.
"""

from __future__ import annotations

import secrets
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Protocol

from emu.api import deletion, namespaces, ownership, schemas
from emu.api.apply import apply
from emu.api.errors import (
    AlreadyExistsError,
    BadRequestError,
    ConflictError,
    FieldError,
    InvalidError,
    NotFoundError,
)
from emu.api.identity import check_kind, check_name, check_namespace, check_version
from emu.api.naming import check_metadata
from emu.api.options import DeleteOptions, WriteOptions
from emu.api.ownership import APPLY, UPDATE, Manager
from emu.api.resource import Document, Resource, stored_row
from emu.api.store import Item, Key, Store

_NAME_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
_OMITTED_WHEN_EMPTY = ("annotations", "finalizers", "labels", "managedFields", "ownerReferences")
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


def now_text(now: float | None = None) -> str:
    """The time as `metav1.Time`."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))


BY_THE_SERVER = WriteOptions(manager="kube-apiserver")


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
        for item in self.store.items(namespaces.RESOURCE):
            if namespaces.is_terminating(item):
                namespaces.empty(self, item.key.name)

    # --- reading ---

    def get(self, resource: Resource, namespace: str, name: str) -> Item:
        """The current version. Raises NotFoundError."""
        item = self.store.get(Key(resource.name, namespace, name))
        if item is None:
            raise NotFoundError(resource.target(name))
        return item

    # --- create ---

    def create(
        self,
        resource: Resource,
        namespace: str,
        document: Document,
        options: WriteOptions = BY_THE_SERVER,
        *,
        applied: bool = False,
    ) -> Document:
        """Create an object and give it as stored. One that is `applied` says itself who owns its fields."""
        check_kind(resource, document)
        check_namespace(resource, namespace, document)
        metadata = document.setdefault("metadata", {})
        if metadata.get("resourceVersion"):
            raise BadRequestError("resourceVersion should not be set on objects to be created")
        for field in (*_OWNED_BY_SERVER, "resourceVersion", "generation"):
            metadata.pop(field, None)
        if not metadata.get("name") and metadata.get("generateName"):
            metadata["name"] = self._generate(resource, namespace, metadata["generateName"])
        name = metadata.get("name", "")
        if resource.namespaced:
            metadata["namespace"] = namespace
            namespaces.check_creation(
                self.store, self.resources[namespaces.RESOURCE], resource, namespace, name
            )
        else:
            metadata.pop("namespace", None)
        if resource.has_status and not resource.status_at_creation:
            document.pop("status", None)
        metadata["uid"] = str(uuid.uuid4())
        metadata["creationTimestamp"] = now_text()
        if resource.has_generation:
            metadata["generation"] = 1
        document["apiVersion"], document["kind"] = resource.api_version, resource.kind
        _omit_empty(metadata)
        resource.default(document)
        if not applied:
            creator = Manager(options.manager, UPDATE, resource.api_version)
            ownership.track(None, document, schemas.root(resource), creator, now_text())
        admission = self._admissions.get(resource.name)
        if admission is not None:
            admission.admit(document, None)
        self._refuse(
            resource, name, check_metadata(document, resource.name_rule) + resource.validate(document)
        )
        key = Key(resource.name, namespace if resource.namespaced else "", name)
        if self.store.get(key) is not None:
            raise AlreadyExistsError(resource.target(name))
        if options.dry_run:
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
        options: WriteOptions = BY_THE_SERVER,
        *,
        subresource: str = "",
        applied: bool = False,
    ) -> Document:
        """Replace an object by what `change` makes of a copy of it, and give it as stored.

        With subresource "status" only the status is taken from the result, else everything but the status.
        A result that is `applied` says itself who owns its fields. Raises ConflictError when it carries a
        resourceVersion other than that of the stored object.
        """
        item = self.get(resource, namespace, name)
        old = item.document()
        new = change(item.document())
        check_kind(resource, new)
        check_name(resource, namespace, name, new)
        check_version(resource, name, new["metadata"], item, old, patches=options.patches)
        if subresource == "status":
            new = _with_status_of(new, old, applied=applied)
            self._track(resource, new, old, options, subresource, applied=applied)
            errors = resource.validate_status(new)
        else:
            self._prepare(resource, new, old)
            self._track(resource, new, old, options, subresource, applied=applied)
            admission = self._admissions.get(resource.name)
            if admission is not None:
                admission.admit(new, old)
            errors = [
                *check_metadata(new, resource.name_rule),
                *ownership.check(new["metadata"].get("managedFields") or ()),
                *resource.validate(new),
                *resource.validate_update(new, old),
                *deletion.new_finalizers(new, old),
            ]
        self._refuse(resource, name, errors)
        ownership.keep_times(new, old)
        if new == old or options.dry_run:
            return new
        return self.store_version(resource, item.key, new, old)

    @staticmethod
    def _track(
        resource: Resource,
        new: Document,
        old: Document,
        options: WriteOptions,
        subresource: str,
        *,
        applied: bool,
    ) -> None:
        """Tell in managedFields who wrote what; before admission, whose values nobody owns."""
        if applied:
            return
        writer = Manager(options.manager, UPDATE, resource.api_version, subresource)
        if subresource == "scale":
            ownership.track_scale(old, new, writer, now_text())
        else:
            ownership.track(old, new, schemas.root(resource), writer, now_text())

    def apply(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        configuration: Document,
        options: WriteOptions,
        *,
        subresource: str = "",
    ) -> tuple[Document, bool]:
        """Server-side apply of an object of a row; gives it as stored, and whether it was created.

        Raises ApplyConflictError for what others own, unless `options.force`.
        """
        manager = Manager(options.manager, APPLY, resource.api_version, subresource)
        node = schemas.root(resource)

        def change(live: Document | None) -> Document:
            shown = resource.show(live) if live is not None else None
            result = apply(shown, configuration, node, manager, now_text(), force=options.force)
            return resource.to_store(result)

        if subresource or self.store.get(Key(resource.name, namespace, name)) is not None:
            row = self.row_of(resource, creates=False)
            updated = self.update(
                row, namespace, name, change, options, subresource=subresource, applied=True
            )
            return updated, False
        given = configuration.get("metadata")
        if isinstance(given, dict) and given.get("uid"):
            why = f"Precondition failed: UID in precondition: {given['uid']}, UID in object meta: "
            raise ConflictError(resource.target(name), why)
        document = change(None)
        check_name(resource, namespace, name, document)
        row = self.row_of(resource, creates=True)
        return self.create(row, namespace, document, options, applied=True), True

    def row_of(self, resource: Resource, *, creates: bool) -> Resource:
        """The row that checks and stores what is written through `resource`, which may be a view."""
        row = self.resources[resource.name]
        return row if resource.view is None else stored_row(row, resource, creates=creates)

    def _prepare(self, resource: Resource, new: Document, old: Document) -> None:
        """Carry over what belongs to the server, and count the generation."""
        metadata, before = new.setdefault("metadata", {}), old["metadata"]
        for key in (*_OWNED_BY_SERVER, "name", "namespace", "resourceVersion", "generation"):
            if key in before:
                metadata[key] = before[key]
            else:
                metadata.pop(key, None)
        new["apiVersion"], new["kind"] = resource.api_version, resource.kind
        _omit_empty(metadata)
        if resource.has_status:
            if "status" in old:
                new["status"] = old["status"]
            else:
                new.pop("status", None)
        resource.keep(new, old)
        resource.default(new)
        if resource.has_generation and new.get("spec") != old.get("spec"):
            metadata["generation"] = before.get("generation", 0) + 1

    def store_version(self, resource: Resource, key: Key, new: Document, old: Document) -> Document:
        """Store a checked version, or remove the object if this version lets a deletion finish."""
        metadata = new["metadata"]
        if metadata.get("deletionTimestamp") and not deletion.is_held(resource, new):
            return self.remove_version(key, new, old)
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
        deletion.check_preconditions(resource, name, item, old, options.preconditions)
        if resource.name == namespaces.RESOURCE:
            namespaces.check_deletion(resource, name)
        new = item.document()
        metadata = new["metadata"]
        deletion.set_finalizers(metadata, options.propagation_policy, resource.default_propagation)
        if options.dry_run:
            return new, True
        grace = deletion.grace_period(resource, new, options)
        marked = "deletionTimestamp" in metadata
        if marked and grace == 0:
            metadata["deletionGracePeriodSeconds"] = 0
        if grace > 0 or deletion.is_held(resource, new):
            if marked and grace >= old["metadata"].get("deletionGracePeriodSeconds", 0):
                return old, False
            metadata["deletionTimestamp"] = now_text(time.time() + grace)
            metadata["deletionGracePeriodSeconds"] = grace
            if resource.has_generation:
                metadata["generation"] = metadata.get("generation", 0) + 1
            if resource.name == namespaces.RESOURCE:
                new["status"] = {**new.get("status", {}), "phase": "Terminating"}
            self.store.put(item.key, new)
            if resource.name == namespaces.RESOURCE:
                last = namespaces.empty(self, name)
                return last or new, last is not None
            return new, False
        return self.remove_version(item.key, new, old), True

    def remove(self, key: Key) -> None:
        """Remove an object at once, whatever holds it."""
        item = self.store.get(key)
        if item is not None:
            self.remove_version(key, item.document(), item.document())

    def remove_version(self, key: Key, last: Document, old: Document) -> Document:
        """Remove an object; `last` is what its watchers see."""
        self.store.delete(key, last)
        admission = self._admissions.get(key.resource)
        if admission is not None:
            admission.committed(None, old)
        if key.namespace:
            namespaces.finish(self, key.namespace)
        return last


def _omit_empty(metadata: Document) -> None:
    """Maps and lists that hold nothing are not there, as Go's `omitempty` leaves them out."""
    for key in _OMITTED_WHEN_EMPTY:
        if key in metadata and not metadata[key]:
            del metadata[key]


def _with_status_of(new: Document, old: Document, *, applied: bool) -> Document:
    """The old object with the new status, and with the new owners of fields if they come along."""
    document = {**old, "status": new.get("status") or {}, "metadata": dict(old["metadata"])}
    if applied:
        document["metadata"]["managedFields"] = new["metadata"].get("managedFields", [])
    return document
