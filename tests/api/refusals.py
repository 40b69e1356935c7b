"""What the tables of the validation tests share."""

from collections.abc import Callable
from typing import Any

import pytest

from emu.api.errors import InvalidError
from emu.api.registry import Registry
from emu.api.resources import BY_NAME

PORT_RANGE = "must be between 1 and 65535, inclusive"
LABEL = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start "
    "and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
SUBDOMAIN = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must "
    "start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    r"'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
QUALIFIED = (
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric "
    "character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
    "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)
LABEL_VALUE = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must "
    "start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used "
    "for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)
BAD_IP = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
BAD_CIDR = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"

Table = list[tuple[str, dict[str, Any], list[str]]]
"""Rows of a table: the rule, what is given, and the errors."""

_REASONS = {
    "Invalid value": "FieldValueInvalid",
    "Required value": "FieldValueRequired",
    "Unsupported value": "FieldValueNotSupported",
    "Duplicate value": "FieldValueDuplicate",
    "Forbidden": "FieldValueForbidden",
    "Not found": "FieldValueNotFound",
    "Too long": "FieldValueTooLong",
    "Too many": "FieldValueTooMany",
}


def rows(table: Table) -> list[Any]:
    """A table as parameters, each named after its rule."""
    return [pytest.param(given, errors, id=rule) for rule, given, errors in table]


def create(registry: Registry, kind: str, document: dict[str, Any]) -> dict[str, Any]:
    return registry.create(BY_NAME[kind], "default", document)


def update(registry: Registry, kind: str, name: str, **spec: Any) -> dict[str, Any]:
    """Set fields of the spec; None removes one."""

    def change(document: dict[str, Any]) -> dict[str, Any]:
        document["spec"].update(spec)
        document["spec"] = {key: value for key, value in document["spec"].items() if value is not None}
        return document

    return registry.update(BY_NAME[kind], "default", name, change)


def replace(registry: Registry, kind: str, document: dict[str, Any], subresource: str = "") -> dict[str, Any]:
    """PUT a document over the stored one."""
    name = document["metadata"]["name"]
    return registry.update(BY_NAME[kind], "default", name, lambda _: document, subresource=subresource)


def refused(call: Callable[[], Any]) -> list[str]:
    """The causes of the 422 that a call ends in, as `field: message`; reasons are checked on the way."""
    with pytest.raises(InvalidError) as error:
        call()
    assert error.value.code == 422
    found = []
    for cause in error.value.details["causes"]:
        assert cause["reason"] == _REASONS[cause["message"].partition(":")[0]]
        found.append(f"{cause['field']}: {cause['message']}")
    return found
