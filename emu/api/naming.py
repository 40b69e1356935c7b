"""The forms of names, labels and annotations, with the words in which apimachinery refuses them.

Source: apimachinery `util/validation` and `api/validation`; RFC 1035 and RFC 1123.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from emu.api.errors import FieldError, invalid, required

NameRule = Callable[[str], str]
"""Gives what is wrong with a name, "" if nothing."""

_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_LABEL_RE = re.compile(_LABEL)
_SUBDOMAIN_RE = re.compile(rf"{_LABEL}(\.{_LABEL})*")
_QUALIFIED = r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_QUALIFIED_RE = re.compile(_QUALIFIED)
_LABEL_VALUE_RE = re.compile(rf"({_QUALIFIED})?")

_ANNOTATIONS_LIMIT = 256 * 1024


def dns_label(name: str) -> str:
    """RFC 1123 label."""
    if len(name) > 63:
        return "must be no more than 63 bytes"
    if not _LABEL_RE.fullmatch(name):
        return (
            "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must "
            "start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for "
            "validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
        )
    return ""


def dns_subdomain(name: str) -> str:
    """RFC 1123 subdomain."""
    if len(name) > 253:
        return "must be no more than 253 bytes"
    if not _SUBDOMAIN_RE.fullmatch(name):
        return (
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', "
            "and must start and end with an alphanumeric character (e.g. 'example.com', regex used for "
            r"validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
        )
    return ""


def port_name(name: str) -> str:
    """The name of a container port (IANA_SVC_NAME)."""
    if len(name) > 15:
        return "must be no more than 15 characters"
    if not re.fullmatch(r"[-a-z0-9]*", name):
        return "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)"
    if not re.search(r"[a-z]", name):
        return "must contain at least one letter (a-z)"
    if "--" in name:
        return "must not contain consecutive hyphens"
    if name.startswith("-") or name.endswith("-"):
        return "must not begin or end with a hyphen"
    return ""


def qualified_name(name: str) -> str:
    """The key of a label: an optional DNS prefix and a name."""
    prefix, slash, rest = name.rpartition("/")
    if slash:
        if not prefix:
            return "prefix part must be non-empty"
        wrong = dns_subdomain(prefix)
        if wrong:
            return f"prefix part {wrong}"
    if not rest:
        return "name part must be non-empty"
    if len(rest) > 63:
        return "name part must be no more than 63 bytes"
    if not _QUALIFIED_RE.fullmatch(rest):
        return (
            "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with "
            "an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for "
            "validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
        )
    return ""


def label_value(value: str) -> str:
    """The value of a label."""
    if len(value) > 63:
        return "must be no more than 63 bytes"
    if not _LABEL_VALUE_RE.fullmatch(value):
        return (
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', "
            "and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or "
            "'12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
        )
    return ""


def check_labels(labels: Mapping[str, str] | None, path: str) -> list[FieldError]:
    """Errors of a map of labels."""
    errors = []
    for key, value in (labels or {}).items():
        if wrong := qualified_name(key):
            errors.append(invalid(path, key, wrong))
        if wrong := label_value(value):
            errors.append(invalid(path, value, wrong))
    return errors


def check_metadata(document: dict[str, Any], rule: NameRule) -> list[FieldError]:
    """Errors of `metadata`."""
    metadata = document["metadata"]
    errors: list[FieldError] = []
    name = metadata.get("name", "")
    if not name:
        errors.append(required("metadata.name", "name or generateName is required"))
    elif wrong := rule(name):
        errors.append(invalid("metadata.name", name, wrong))
    errors += check_labels(metadata.get("labels"), "metadata.labels")
    annotations = metadata.get("annotations") or {}
    errors.extend(
        invalid("metadata.annotations", key, wrong)
        for key in annotations
        if (wrong := qualified_name(key.lower()))
    )
    if sum(len(key) + len(value) for key, value in annotations.items()) > _ANNOTATIONS_LIMIT:
        errors.append(
            FieldError(
                "metadata.annotations",
                "FieldValueTooLong",
                f"Too long: may not be more than {_ANNOTATIONS_LIMIT} bytes",
            )
        )
    errors.extend(
        invalid("metadata.finalizers", finalizer, wrong)
        for finalizer in metadata.get("finalizers") or ()
        if (wrong := qualified_name(finalizer))
    )
    return errors
