"""How the parts of a document are owned: what is one field, what is a map, and how list items are told apart.

A shape is compiled from a node of the published OpenAPI once, since every write walks documents along shapes.

Source: kube-openapi `schemaconv`, and `typed` of sigs.k8s.io/structured-merge-diff.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from emu.api import fieldsets
from emu.api.fieldsets import SELF, FieldSet
from emu.api.schemas import Node, resolved, types

_OBJECT_META = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"

# Upstream's types hold these by value, so they are in every object, if only empty: nobody adds them.
_ALWAYS_THERE = frozenset(
    ("containers", "jobTemplate", "metadata", "spec", "status", "strategy", "template", "updateStrategy")
)


class Shape:
    """The shape of one node.

    It is owned as one field (`whole`), by the keys of a map or an object (`by_key`), or by the items of a
    list (`by_item`), which `keys` tell apart if they are objects. Without a schema (`deduced`) it is owned by
    key where the value is a map.
    """

    def __init__(self, node: Node) -> None:
        target = resolved(node)
        given = {**target, **node}
        self.node = node
        self.type: str = target.get("type", "")
        self.fields: dict[str, tuple[str, Shape]] = {}
        """The steps and shapes of fields that were met."""
        self._properties: Node = target.get("properties") or {}
        self._values: Node | None = target.get("additionalProperties")
        self._items: Node | None = target.get("items")
        self._inner: Shape | None = None
        self.always = frozenset(
            key for key in _ALWAYS_THERE & self._properties.keys() if _holds_fields(self._properties[key])
        )
        scalar = bool(given.get("x-kubernetes-int-or-string"))
        self.deduced = not (self.type or self._properties or scalar)
        self.by_item = given.get("x-kubernetes-list-type") in ("map", "set")
        self.keys = tuple(sorted(given.get("x-kubernetes-list-map-keys", ())))
        atomic = given.get("x-kubernetes-map-type") == "atomic"
        self.by_key = self.deduced or (self.holds_entries and not atomic)
        self.whole = not (self.by_item or self.by_key)

    def declares(self, key: str) -> bool:
        """Whether a key is a field of the type, not an entry of a map."""
        return key in self._properties

    def below(self, key: str) -> tuple[str, Shape]:
        """The step to a key, and its shape. A key that the type does not have is taken as it comes."""
        found = self.fields.get(key)
        if found is not None:
            return found
        node = self._properties.get(key)
        if node is None:
            return fieldsets.field(key), self.entries
        found = fieldsets.field(key), Shape(node)
        self.fields[key] = found
        return found

    @property
    def holds_items(self) -> bool:
        """Whether values are lists, owned by items or whole."""
        return self._items is not None

    @property
    def holds_entries(self) -> bool:
        """Whether values are objects or maps, owned by entries or whole."""
        return bool(self._properties) or self._values is not None

    @property
    def open(self) -> bool:
        """Whether keys that the type does not declare may be there."""
        return self._values is not None or self.deduced

    @property
    def entries(self) -> Shape:
        """The shape of the values of a map."""
        if self._values is None:
            return UNKNOWN
        return self._inner_shape(self._values)

    @property
    def items(self) -> Shape:
        """The shape of the items of a list."""
        return UNKNOWN if self._items is None else self._inner_shape(self._items)

    def _inner_shape(self, node: Node) -> Shape:
        if self._inner is None:
            self._inner = Shape(node)
        return self._inner

    def step(self, item: Any) -> str:
        """The step to an item of a list that is owned by item. Raises ValueError where there is none."""
        if not self.keys:
            if isinstance(item, (dict, list)) or item is None:
                raise ValueError(_UNFIT_IN_SET[type(item)])
            return fieldsets.value(item)
        if len(self.keys) == 1 and isinstance(item, dict):
            key = self.keys[0]
            value = item.get(key)
            if isinstance(value, str):
                return fieldsets.string_item(key, value)
        if not isinstance(item, dict):
            what = "a null element" if item is None else "non-map elements"
            raise ValueError(f"associative list with keys may not have {what}")
        keys = [(key, item[key] if key in item else self._default(key)) for key in self.keys]
        if any(isinstance(value, (dict, list)) for _, value in keys):
            raise ValueError("associative list with keys may not have maps or lists as keys")
        return fieldsets.item(tuple(keys))

    def _default(self, key: str) -> Any:
        """Keys that may be missing count with their default: that of `protocol`, or Go's zero value."""
        if key == "protocol":
            return "TCP"
        return 0 if self.items.below(key)[1].type == "integer" else ""


def _holds_fields(node: Node) -> bool:
    target = resolved(node)
    return "properties" in target or target.get("type") == "array"


_UNFIT_IN_SET = {
    dict: "associative list without keys has an element that's a map type",
    list: "not supported: associative list with lists as elements",
    type(None): "associative list without keys has an element that's an explicit null",
}

UNKNOWN = Shape({})
"""The shape of a node without a schema: maps by their keys, lists and scalars whole."""

_shapes: dict[int, Shape] = {}


def shape_of(node: Node) -> Shape:
    """The shape of the definition of a kind. Without one (`{}`), only the metadata is known."""
    found = _shapes.get(id(node))
    if found is None or found.node is not node:
        if not node:
            return _schemaless()
        found = _shapes[id(node)] = Shape(node)
    return found


def _schemaless() -> Shape:
    found = _shapes.get(0)
    if found is None:
        found = Shape({})
        meta = types().get(_OBJECT_META)
        if meta is not None:
            found.fields["metadata"] = fieldsets.field("metadata"), Shape(meta)
        _shapes[0] = found
    return found


# --- walks ---


def is_map(value: Any, shape: Shape) -> bool:
    """Whether a value is owned entry by entry."""
    return shape.by_key and isinstance(value, dict)


def is_items(value: Any, shape: Shape) -> bool:
    """Whether a value is owned item by item."""
    return shape.by_item and isinstance(value, list)


def added(value: Any, shape: Shape) -> FieldSet:
    """What the step to a value holds when all of it is new: the value, and all fields below it."""
    if not value:
        return {}
    if shape.by_key and isinstance(value, dict):
        result: FieldSet = {SELF: {}}
        fields = shape.fields
        for key, inner in value.items():
            step, below = fields.get(key) or shape.below(key)
            result[step] = {} if below.whole else added(inner, below)
        return result
    if not shape.by_item or not isinstance(value, list):
        return {}
    result = {SELF: {}}
    items = shape.items
    for item in value:
        step = shape.step(item)
        # Items that have the same keys are owned together.
        result[step] = {} if step in result else added(item, items)
    return result


class Comparison(NamedTuple):
    """What differs between two versions of a document: fields changed or added, and fields removed."""

    changed: FieldSet
    removed: FieldSet


def compare(old: dict[str, Any], new: dict[str, Any], shape: Shape) -> Comparison:
    """What differs between two documents."""
    result = Comparison({}, {})
    _compare_maps(old, new, shape, result.changed, result.removed)
    return result


def _compare_maps(
    old: dict[str, Any], new: dict[str, Any], shape: Shape, changed: FieldSet, removed: FieldSet
) -> None:
    always = shape.always
    for key, after in new.items():
        if key in old:
            before = old[key]
            if before != after:
                step, below = shape.below(key)
                _compare(before, after, below, step, changed, removed)
        else:
            step, below = shape.below(key)
            if key not in always:
                changed[step] = added(after, below)
                continue
            inner: FieldSet = {}
            if isinstance(after, dict):
                _compare_maps({}, after, below, inner, removed)
            elif after:
                _compare_items([], after, below, inner, removed)
            if inner:
                changed[step] = inner
    for key, before in old.items():
        if key not in new:
            step, below = shape.below(key)
            removed[step] = added(before, below)


def _compare(before: Any, after: Any, shape: Shape, step: str, changed: FieldSet, removed: FieldSet) -> None:
    """Two values that differ."""
    if shape.whole:
        changed[step] = {}
        return
    # Null takes the form of what it is compared with; a value of any other form is changed as a whole.
    form = dict if shape.by_key else list
    was: Any = before if isinstance(before, form) else form()
    now: Any = after if isinstance(after, form) else form()
    more: FieldSet = {}
    less: FieldSet = {}
    if shape.by_key:
        _compare_maps(was, now, shape, more, less)
    else:
        _compare_items(was, now, shape, more, less)
    other_form = (was is not before and before is not None) or (now is not after and after is not None)
    if other_form or not (was or now):
        changed[step] = {SELF: {}, **more} if more else more
    elif more:
        changed[step] = more
    if less:
        removed[step] = less


def _compare_items(
    before: list[Any], after: list[Any], shape: Shape, changed: FieldSet, removed: FieldSet
) -> None:
    items = shape.items
    had = {shape.step(item): item for item in before}
    has = {shape.step(item): item for item in after}
    if len(had) != len(before) or len(has) != len(after):
        _compare_repeated(before, after, shape, had, has, changed, removed)
    for step, new in has.items():
        if step not in had:
            changed[step] = added(new, items)
        elif had[step] != new:
            _compare(had[step], new, items, step, changed, removed)
    for step, old in had.items():
        if step not in has:
            removed[step] = added(old, items)


def _compare_repeated(
    before: list[Any],
    after: list[Any],
    shape: Shape,
    had: dict[str, Any],
    has: dict[str, Any],
    changed: FieldSet,
    removed: FieldSet,
) -> None:
    """Compare the items that share their keys with others, and take them out of `had` and `has`.

    Items of the same keys are one field.
    """
    old, new = grouped(before, shape), grouped(after, shape)
    for step in {**old, **new}:
        was, now = old.get(step, []), new.get(step, [])
        if len(was) < 2 and len(now) < 2:
            continue
        had.pop(step, None)
        has.pop(step, None)
        if len(was) == 1 or not now:
            removed[step] = added(was[0], shape.items) if len(was) == 1 else {}
        if now and now != was:
            changed[step] = added(now[0], shape.items) if len(now) == 1 else {}


def grouped(items: list[Any], shape: Shape) -> dict[str, list[Any]]:
    """The items of a list that is owned by item by their steps."""
    result: dict[str, list[Any]] = {}
    for item in items:
        result.setdefault(shape.step(item), []).append(item)
    return result


def mentioned(value: Any, shape: Shape) -> FieldSet:
    """The fields that a configuration names: scalars, whole lists and maps, list items, entries of maps."""
    result: FieldSet = {}
    if is_map(value, shape):
        for key, inner in value.items():
            step, below = shape.below(key)
            node = mentioned(inner, below)
            itself = inner is None or inner == {} or not shape.declares(key) or _is_whole(inner, below)
            if node:
                result[step] = {SELF: {}, **node} if itself else node
            elif itself:
                result[step] = {}
    elif is_items(value, shape):
        items = shape.items
        for step, same in grouped(value, shape).items():
            node = mentioned(same[0], items) if len(same) == 1 else {}
            result[step] = {SELF: {}, **node} if node else {}
    return result


def _is_whole(value: Any, shape: Shape) -> bool:
    return not is_map(value, shape) and not is_items(value, shape)
