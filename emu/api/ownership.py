"""Who owns which fields of an object: the entries of `metadata.managedFields`.

Pure functions over documents; `now` is the time of the write as `metav1.Time`. Documents and entries that are
given are never changed in place, but for the `metadata` key of the new document of `track`.

Source: KEP-555, and apimachinery `util/managedfields`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from emu.api import fieldsets
from emu.api.errors import FieldError, invalid, too_long
from emu.api.fieldsets import FieldSet, difference, union
from emu.api.resource import Document
from emu.api.schemas import Node
from emu.api.shapes import Comparison, Shape, compare, shape_of

APPLY, UPDATE = "Apply", "Update"
BEFORE_FIRST_APPLY = "before-first-apply"
_ANCIENT = "ancient-changes"
_MAX_UPDATERS = 10
_MAX_NAME, _MAX_SUBRESOURCE = 128, 256

_UNOWNED_METADATA = (
    "name",
    "namespace",
    "creationTimestamp",
    "selfLink",
    "uid",
    "clusterName",
    "generation",
    "managedFields",
    "resourceVersion",
)
_UNOWNED: FieldSet = {
    "f:apiVersion": {},
    "f:kind": {},
    "f:metadata": {".": {}, **{fieldsets.field(name): {} for name in _UNOWNED_METADATA}},
}
"""Fields that nobody owns."""


class Manager(NamedTuple):
    """Whose entry it is. `operation` is "Apply" or "Update"."""

    name: str
    operation: str
    api_version: str
    subresource: str = ""

    @property
    def identity(self) -> Manager:
        """What tells entries apart: an applier has one for all versions."""
        named = self if self.name else self._replace(name="unknown")
        return named._replace(api_version="") if self.operation == APPLY else named

    def __str__(self) -> str:
        """As messages about conflicts have it."""
        text = f'"{self.name}"'
        if self.subresource:
            text += f' with subresource "{self.subresource}"'
        return f"{text} using {self.api_version}" if self.operation == UPDATE else text


class Entry(NamedTuple):
    """One entry of `managedFields`: the fields, the version that they are in, and the time ("" is none)."""

    fields: FieldSet
    api_version: str
    time: str


_TEXTS = ("manager", "operation", "apiVersion", "time", "fieldsType", "subresource")

Owners = dict[Manager, Entry]
"""The entries of an object by the identity of the manager."""


# --- entries ---


def decode(entries: Any) -> Owners:
    """The entries that a client sends. Raises ValueError for what is no list of entries."""
    if not isinstance(entries, list):
        raise ValueError(f"expected a list, not {entries!r}")
    result: Owners = {}
    for index, entry in enumerate(entries):
        if not isinstance(entry, dict) or any(not isinstance(entry.get(key, ""), str) for key in _TEXTS):
            raise ValueError(f"no managed fields entry: {entry!r}")
        if entry.get("operation") not in (APPLY, UPDATE):
            raise ValueError("operation must be `Apply` or `Update`")
        if not entry.get("apiVersion"):
            raise ValueError("apiVersion must not be empty")
        if entry.get("fieldsType") != "FieldsV1":
            raise ValueError(f"invalid fieldsType in managed fields entry {index}")
        manager, known = _read(entry)
        result[manager] = known._replace(fields=fieldsets.parse(known.fields))
    return result


def owners(document: Document | None) -> Owners:
    """The entries of a stored object: none where there are others than this server writes."""
    metadata = document.get("metadata") if document else None
    try:
        return dict(map(_read, (metadata or {}).get("managedFields") or ()))
    except (AttributeError, KeyError, TypeError):
        return {}


def _read(entry: dict[str, Any]) -> tuple[Manager, Entry]:
    operation, api_version = entry["operation"], entry["apiVersion"]
    manager = Manager(
        entry.get("manager", ""),
        operation,
        "" if operation == APPLY else api_version,
        entry.get("subresource", ""),
    )
    return manager, Entry(entry.get("fieldsV1") or {}, api_version, entry.get("time", ""))


def encode(held: Owners) -> list[dict[str, Any]]:
    """The list for `managedFields`: appliers first, then by time."""
    return [
        {
            "manager": manager.name,
            "operation": manager.operation,
            "apiVersion": entry.api_version,
            **({"time": entry.time} if entry.time else {}),
            "fieldsType": "FieldsV1",
            "fieldsV1": entry.fields,
            **({"subresource": manager.subresource} if manager.subresource else {}),
        }
        for manager, entry in sorted(held.items(), key=_encoding_order)
    ]


def _encoding_order(held: tuple[Manager, Entry]) -> tuple[str, ...]:
    manager, entry = held
    return (manager.operation, entry.time, manager.name, entry.api_version, manager.subresource)


def set_owners(document: Document, held: Owners) -> None:
    """Put the entries into a document. Its `metadata` is replaced, not changed."""
    metadata = {**(document.get("metadata") or {})}
    if held:
        metadata["managedFields"] = encode(held)
    else:
        metadata.pop("managedFields", None)
    document["metadata"] = metadata


def check(entries: Iterable[dict[str, Any]]) -> list[FieldError]:
    """What is wrong with the entries of an object that is about to be stored."""
    errors = []
    for index, entry in enumerate(entries):
        path = f"metadata.managedFields[{index}]"
        errors += check_manager(entry.get("manager", ""), f"{path}.manager")
        if len(entry.get("subresource", "").encode()) > _MAX_SUBRESOURCE:
            errors.append(too_long(f"{path}.subresource", _MAX_SUBRESOURCE))
    return errors


def check_manager(name: str, path: str = "fieldManager") -> list[FieldError]:
    """What is wrong with the name of a field manager."""
    errors = []
    if len(name.encode()) > _MAX_NAME:
        errors.append(too_long(path, _MAX_NAME))
    position = 0
    for character in name:
        # Go prints the code point, and counts in bytes.
        if not character.isprintable():
            detail = f"invalid character U+{ord(character):04X} (at position {position})"
            errors.append(invalid(path, name, detail))
        position += len(character.encode())
    return errors


# --- what a request may own ---


def without_unowned(fields: FieldSet) -> FieldSet:
    """Without the fields that nobody owns."""
    return difference(fields, _UNOWNED)


def writable(fields: FieldSet, subresource: str) -> FieldSet:
    """Without what a request cannot write: the status, or all but the status through its subresource."""
    if subresource == "status":
        return {step: below for step, below in fields.items() if step == "f:status"}
    return {step: below for step, below in fields.items() if step != "f:status"}


def compared(old: Document, new: Document, shape: Shape, subresource: str) -> Comparison:
    """What a request changed, of what it can write."""
    if subresource == "status":
        old, new = ({key: one[key] for key in ("status",) if key in one} for one in (old, new))
    found = compare(old, new, shape)
    return Comparison(writable(found.changed, subresource), writable(found.removed, subresource))


# --- tracking ---


def track(old: Document | None, new: Document, node: Node, manager: Manager, now: str) -> None:
    """Set `metadata.managedFields` of a document that is about to be stored; `old` is None for a create.

    What the write changed or added is the manager's then and nobody else's, what it removed is nobody's. An
    object without entries is not tracked before it is first applied, unless it is being created. A client may
    send entries: `[]` or `[{}]` forgets all; valid ones count instead of those of the old object, but not
    through a subresource; others are ignored.
    """
    held = _entries_to_use(old, new, manager.subresource)
    if not held and old is not None:
        set_owners(new, {})
        return
    found = compared(old or {}, new, shape_of(node), manager.subresource)
    fields = without_unowned(found.changed)
    own = held.pop(manager.identity, None)
    held = taken(held, found)
    if own is not None:
        held.update(taken({manager.identity: own}, Comparison({}, found.removed)))
    if fields:
        add_to(held, manager, fields, now)
    set_owners(new, _capped(held))
    if old is not None and not fields:
        keep_times(new, old)


def _entries_to_use(old: Document | None, new: Document, subresource: str) -> Owners:
    stored = owners(old)
    if subresource and old is not None:
        return stored
    given = (new.get("metadata") or {}).get("managedFields")
    if given is None or (old is not None and given == (old.get("metadata") or {}).get("managedFields")):
        return stored
    if given in ([], [{}]):
        return {}
    try:
        return decode(given) or stored
    except (ValueError, RecursionError):
        return stored


def taken(held: Owners, found: Comparison) -> Owners:
    """The entries without the fields that were changed or removed, and without those that are left empty."""
    result: Owners = {}
    for manager, entry in held.items():
        fields = difference(difference(entry.fields, found.changed), found.removed)
        if fields:
            result[manager] = entry if fields is entry.fields else entry._replace(fields=fields)
    return result


def add_to(held: Owners, manager: Manager, fields: FieldSet, time: str) -> None:
    """Add fields to the entry of a manager."""
    known = held.get(manager.identity)
    if known is not None:
        fields = union(known.fields, fields)
    held[manager.identity] = Entry(fields, manager.api_version, time)


def _capped(held: Owners) -> Owners:
    """Merge the oldest updaters of a version into one entry while there are more than ten."""
    updaters = [manager for manager in held if manager.operation == UPDATE]
    count = len(updaters)
    if count <= _MAX_UPDATERS:
        return held
    result = dict(held)
    first: dict[str, Manager] = {}
    for manager in sorted(updaters, key=lambda one: (held[one].time, one)):
        if count <= _MAX_UPDATERS:
            break
        entry = held[manager]
        if entry.api_version not in first:
            first[entry.api_version] = manager
            continue
        bucket = Manager(_ANCIENT, UPDATE, entry.api_version)
        known = result[bucket] if bucket in result else result.pop(first[entry.api_version])
        del result[manager]
        result[bucket] = entry._replace(fields=union(entry.fields, known.fields))
        count -= 1
    return result


def keep_times(new: Document, old: Document) -> None:
    """Undo new times of entries where nothing else differs from the old object, so that the write is none."""
    given, stored = new["metadata"].get("managedFields"), old["metadata"].get("managedFields")
    if not given or not stored or len(given) != len(stored) or given == stored:
        return
    if any({**one, "time": ""} != {**other, "time": ""} for one, other in zip(given, stored, strict=True)):
        return
    if {**new, "metadata": {**new["metadata"], "managedFields": stored}} == old:
        new["metadata"] = {**new["metadata"], "managedFields": stored}


# --- the scale subresource ---

_REPLICAS = ("f:spec", "f:replicas")
_SCALE_VERSION = "autoscaling/v1"


def track_scale(old: Document, new: Document, manager: Manager, now: str) -> None:
    """Set `metadata.managedFields` of a workload whose replicas were written through its Scale.

    `manager` has the version of the workload, and the subresource "scale".
    """
    parent = owners(old)
    scale = scale_owners(parent)
    changed = (old.get("spec") or {}).get("replicas") != (new.get("spec") or {}).get("replicas")
    if scale and changed:
        scale = {}
        add_to(scale, manager, fieldsets.single(_REPLICAS), now)
    set_owners(new, parent_owners(parent, scale, manager.api_version))


def scale_owners(parent: Owners) -> Owners:
    """The entries of a Scale: those of its workload that own `spec.replicas`."""
    fields = fieldsets.single(_REPLICAS)
    return {
        manager: entry._replace(fields=fields, api_version=_SCALE_VERSION)
        for manager, entry in parent.items()
        if fieldsets.contains(entry.fields, _REPLICAS)
    }


def parent_owners(parent: Owners, scale: Owners, api_version: str) -> Owners:
    """The entries of a workload after its Scale was written: `spec.replicas` as the Scale's entries have it.

    An entry that is new has no time, as upstream has it.
    """
    replicas = fieldsets.single(_REPLICAS)
    result: Owners = {}
    for manager, entry in parent.items():
        if manager in scale or not fieldsets.contains(entry.fields, _REPLICAS):
            result[manager] = entry
        elif left := difference(entry.fields, replicas):
            result[manager] = entry._replace(fields=left)
    for manager, entry in scale.items():
        if manager in parent or not fieldsets.contains(entry.fields, _REPLICAS):
            continue
        own = manager if manager.operation == APPLY else manager._replace(api_version=api_version)
        result[own] = Entry(replicas, api_version, "")
    return result
