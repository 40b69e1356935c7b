"""What a row of the resource table is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec

from emu.api.errors import FieldError, Target
from emu.api.naming import NameRule, dns_subdomain

Document = dict[str, Any]
Cells = Callable[[Document, float], list[Any]]
"""The cells of a table row, given an object and the time in seconds since the epoch."""


class Column(NamedTuple):
    """A column of a Table. Priority 1 is shown with `-o wide` only."""

    name: str
    type: str = "string"
    priority: int = 0
    format: str = ""

    def definition(self) -> dict[str, Any]:
        """The entry of `columnDefinitions`."""
        form = "name" if self.name == "Name" else self.format
        return {
            "name": self.name,
            "type": self.type,
            "format": form,
            "description": "",
            "priority": self.priority,
        }


PLAIN_COLUMNS = (Column("Name"), Column("Created At", "date"))
"""Those of kinds without columns of their own, as the API server prints what has no printer."""


def plain_cells(document: Document, now: float) -> list[Any]:
    """Name and time of creation."""
    metadata = document["metadata"]
    return [metadata.get("name", ""), metadata.get("creationTimestamp")]


def nothing(document: Document) -> None:
    """A hook that has nothing to do."""


def nothing_to_keep(new: Document, old: Document) -> None:
    """An update hook that has nothing to do."""


def no_errors(document: Document) -> list[FieldError]:
    """A validation without rules."""
    return []


def no_update_errors(new: Document, old: Document) -> list[FieldError]:
    """An update validation without rules."""
    return []


def no_fields(document: Document) -> Mapping[str, str]:
    """No fields for selectors but those of the metadata."""
    return {}


def as_it_is(document: Document) -> Document:
    """A conversion between two forms that are the same."""
    return document


class View(NamedTuple):
    """Another form of objects that are stored as another resource, such as Events of events.k8s.io."""

    of: str
    """The name of the resource that stores them."""
    shown: Callable[[Document], Document] = as_it_is
    """From the stored form to this one, without changing the argument; apiVersion and kind are set after."""
    stored: Callable[[Document], Document] = as_it_is
    """From this form to the stored one, likewise."""


ALL_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


class Resource(msgspec.Struct, frozen=True, kw_only=True):
    """One kind that is served, and what is particular to it.

    An object goes through the hooks in this order: `default`; on update `keep`, which carries over what a
    writer may leave out; then `validate` and, on update, `validate_update`, or `validate_status` where the
    status was written.
    """

    group: str = ""
    version: str = "v1"
    plural: str
    singular: str
    kind: str
    namespaced: bool = True
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    verbs: tuple[str, ...] = ALL_VERBS
    """Verbs of the main resource."""
    view: View | None = None
    """Set where the objects are those of another resource in another form; `name` is then that one's."""
    strategic: bool = True
    """Whether strategic merge patches are understood; those of custom resources are not."""
    has_status: bool = False
    status_at_creation: bool = False
    """Whether a create may carry a status, as a kubelet's registration of its Node does."""
    has_scale: bool = False
    label_selector: bool = True
    """Whether `spec.selector` is a LabelSelector, or a plain map of labels."""
    more_subresources: tuple[str, ...] = ()
    """Served besides status and scale."""
    unserved_subresources: tuple[str, ...] = ()
    """Those that Kubernetes has and emu answers with 501."""
    has_generation: bool = False
    unconditional_update: bool = True
    """Whether a PUT may leave out the resourceVersion."""
    default_propagation: str | None = None
    """What becomes of dependents when a DELETE does not say; None leaves it to the finalizers."""
    deletion_answers_object: bool = False
    """Whether DELETE answers with the object, as the published OpenAPI says for some kinds, or a Status."""
    name_rule: NameRule = dns_subdomain
    columns: tuple[Column, ...] = PLAIN_COLUMNS
    cells: Cells = plain_cells
    default: Callable[[Document], None] = nothing
    keep: Callable[[Document, Document], None] = nothing_to_keep
    validate: Callable[[Document], list[FieldError]] = no_errors
    validate_update: Callable[[Document, Document], list[FieldError]] = no_update_errors
    validate_status: Callable[[Document], list[FieldError]] = no_errors
    fields: Callable[[Document], Mapping[str, str]] = no_fields
    field_labels: tuple[str, ...] = ()
    """What field selectors may name besides metadata.name and metadata.namespace."""

    @property
    def api_version(self) -> str:
        """The `apiVersion` of its objects."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def name(self) -> str:
        """`deployments.apps`, or `pods`: how the store knows it."""
        if self.view is not None:
            return self.view.of
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def show(self, document: Document) -> Document:
        """A stored document in the form of this row."""
        if self.view is None:
            return document
        return {**self.view.shown(document), "apiVersion": self.api_version, "kind": self.kind}

    def to_store(self, document: Document) -> Document:
        """A document of this row in the form that is stored; the registry names that kind."""
        if self.view is None:
            return document
        stored = self.view.stored(document)
        return {key: value for key, value in stored.items() if key not in ("apiVersion", "kind")}

    @property
    def subresources(self) -> tuple[str, ...]:
        """Names of the subresources."""
        return (
            *(("status",) if self.has_status else ()),
            *(("scale",) if self.has_scale else ()),
            *self.more_subresources,
        )

    def target(self, name: str = "") -> Target:
        """What errors are about."""
        return Target(self.group, self.plural, self.kind, name)


def stored_row(row: Resource, view: Resource, *, creates: bool) -> Resource:
    """The row that stores the objects of a view, refusing what the view's own row refuses besides.

    Validation of a view's row sees the shown form; `validate` counts for creates, `validate_update` for
    updates, since what is there already may have been written in the stored form.
    """
    show = view.show

    def validate(document: Document) -> list[FieldError]:
        return [*row.validate(document), *view.validate(show(document))]

    def validate_update(new: Document, old: Document) -> list[FieldError]:
        return [*row.validate_update(new, old), *view.validate_update(show(new), show(old))]

    if creates:
        return msgspec.structs.replace(row, validate=validate)
    return msgspec.structs.replace(row, validate_update=validate_update)
