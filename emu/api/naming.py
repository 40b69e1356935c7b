"""The forms of names, labels and annotations, with the words in which apimachinery refuses them.

A rule gives all that is wrong with a text, in upstream's order; `check` makes field errors of that.
Source: apimachinery `api/validate/content`, `util/validation` and `api/validation/objectmeta.go`; RFC 1123.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from emu.api.errors import FieldError, invalid, required, too_long

Rule = Callable[[str], list[str]]
"""Gives what is wrong with a text, [] if nothing."""

NameRule = Callable[[str], str]
"""Gives the first thing that is wrong with a name, "" if nothing."""

_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_LABEL_RE = re.compile(_LABEL)
_SUBDOMAIN_RE = re.compile(rf"{_LABEL}(\.{_LABEL})*")
_UNDERSCORED = r"_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?"
_UNDERSCORED_SUBDOMAIN_RE = re.compile(rf"{_LABEL}(\.{_UNDERSCORED})*|{_UNDERSCORED}(\.{_UNDERSCORED})*")
_QUALIFIED = r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_QUALIFIED_RE = re.compile(_QUALIFIED)
_LABEL_VALUE_RE = re.compile(rf"({_QUALIFIED})?")
_CONFIG_KEY_RE = re.compile(r"[-._a-zA-Z0-9]+")
_QUALIFIED_FORM = (
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric "
    "character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
    "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)

_ANNOTATIONS_LIMIT = 256 * 1024
_STANDARD_FINALIZERS = ("foregroundDeletion", "kubernetes", "orphan")


def _length(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def _longer_than(text: str, limit: int) -> list[str]:
    return [f"must be no more than {limit} bytes"] if _length(text) > limit else []


# --- rules ---


def dns_label_faults(name: str) -> list[str]:
    """RFC 1123 label."""
    faults = _longer_than(name, 63)
    if not _LABEL_RE.fullmatch(name):
        faults.append(
            "must not contain dots"
            if _SUBDOMAIN_RE.fullmatch(name)
            else "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and "
            "must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used "
            "for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
        )
    return faults


def dns_subdomain_faults(name: str) -> list[str]:
    """RFC 1123 subdomain."""
    faults = _longer_than(name, 253)
    if not _SUBDOMAIN_RE.fullmatch(name):
        faults.append(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', "
            "and must start and end with an alphanumeric character (e.g. 'example.com', regex used for "
            r"validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
        )
    return faults


def dns_search_faults(name: str) -> list[str]:
    """RFC 1123 subdomain that may have underscores, as in a resolver's search list."""
    faults = _longer_than(name, 253)
    if not _UNDERSCORED_SUBDOMAIN_RE.fullmatch(name):
        faults.append(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or "
            "'.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for "
            r"validation is '_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*')"
        )
    return faults


def port_name_faults(name: str) -> list[str]:
    """The name of a container port (IANA_SVC_NAME)."""
    faults = _longer_than(name, 15)
    if not re.fullmatch(r"[-a-z0-9]+", name):
        faults.append("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
    if not re.search(r"[a-z]", name):
        faults.append("must contain at least one letter (a-z)")
    if "--" in name:
        faults.append("must not contain consecutive hyphens")
    if name.startswith("-") or name.endswith("-"):
        faults.append("must not begin or end with a hyphen")
    return faults


def qualified_name_faults(name: str) -> list[str]:
    """The key of a label: an optional DNS prefix and a name."""
    parts = name.split("/")
    if len(parts) > 2:
        return [
            f"a valid label key {_QUALIFIED_FORM} with an optional DNS subdomain prefix and '/' "
            "(e.g. 'example.com/MyName')"
        ]
    faults: list[str] = []
    if len(parts) == 2:
        wrong = dns_subdomain_faults(parts[0]) if parts[0] else ["must be non-empty"]
        faults += [f"prefix part {fault}" for fault in wrong]
    rest = parts[-1]
    faults += [f"name part {fault}" for fault in (_longer_than(rest, 63) if rest else ["must be non-empty"])]
    if not _QUALIFIED_RE.fullmatch(rest):
        faults.append(f"name part {_QUALIFIED_FORM}")
    return faults


def label_value_faults(value: str) -> list[str]:
    """The value of a label."""
    faults = _longer_than(value, 63)
    if not _LABEL_VALUE_RE.fullmatch(value):
        faults.append(
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', "
            "and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or "
            "'12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
        )
    return faults


def config_key_faults(key: str) -> list[str]:
    """A key of a ConfigMap or Secret."""
    faults = _longer_than(key, 253)
    if not _CONFIG_KEY_RE.fullmatch(key):
        faults.append(
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  "
            "or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
        )
    if key in (".", ".."):
        faults.append(f"must not be '{key}'")
    elif key.startswith(".."):
        faults.append("must not start with '..'")
    return faults


def _first(faults: list[str]) -> str:
    return faults[0] if faults else ""


def dns_label(name: str) -> str:
    """The first thing that is wrong with an RFC 1123 label, "" if nothing."""
    return _first(dns_label_faults(name))


def dns_subdomain(name: str) -> str:
    """The first thing that is wrong with an RFC 1123 subdomain, "" if nothing."""
    return _first(dns_subdomain_faults(name))


def port_name(name: str) -> str:
    """The first thing that is wrong with the name of a container port, "" if nothing."""
    return _first(port_name_faults(name))


def qualified_name(name: str) -> str:
    """The first thing that is wrong with the key of a label, "" if nothing."""
    return _first(qualified_name_faults(name))


def path_segment_faults(name: str) -> list[str]:
    """A name that can stand in a path, which is all that some kinds ask for."""
    if name in (".", ".."):
        return [f"may not be '{name}'"]
    return [f"may not contain '{part}'" for part in ("/", "%") if part in name]


def path_segment(name: str) -> str:
    """The first thing that is wrong with a name that need only stand in a path, "" if nothing."""
    return _first(path_segment_faults(name))


# --- field errors ---


def check(value: str, path: str, rule: Rule) -> list[FieldError]:
    """All that a rule finds wrong with a value."""
    found = _known_faults(rule, value) if len(value) <= _CACHED_LENGTH else rule(value)
    return [invalid(path, value, fault) for fault in found] if found else []


# Most names are those of many objects: keys and values of labels, ports, containers.
_CACHED = 8192
_CACHED_LENGTH = 253


@lru_cache(_CACHED)
def _known_faults(rule: Rule, value: str) -> tuple[str, ...]:
    return tuple(rule(value))


def check_reference(reference: Mapping[str, Any], path: str) -> list[FieldError]:
    """Errors of the kind and the name in a reference to an object."""
    errors: list[FieldError] = []
    for key in ("kind", "name"):
        if not reference.get(key):
            errors.append(required(f"{path}.{key}"))
        elif wrong := path_segment(reference[key]):
            errors.append(invalid(f"{path}.{key}", reference[key], wrong))
    return errors


def check_labels(labels: Mapping[str, str] | None, path: str) -> list[FieldError]:
    """Errors of a map of labels."""
    errors: list[FieldError] = []
    for key, value in (labels or {}).items():
        errors += check(key, path, qualified_name_faults)
        errors += check(value, path, label_value_faults)
    return errors


def check_annotations(annotations: Mapping[str, str] | None, path: str) -> list[FieldError]:
    """Errors of a map of annotations."""
    found = annotations or {}
    errors = [invalid(path, key, fault) for key in found for fault in qualified_name_faults(key.lower())]
    if sum(_length(key) + _length(value) for key, value in found.items()) > _ANNOTATIONS_LIMIT:
        errors.append(too_long(path, _ANNOTATIONS_LIMIT))
    return errors


def check_metadata(document: dict[str, Any], rule: NameRule) -> list[FieldError]:
    """Errors of `metadata`."""
    metadata = document["metadata"]
    errors: list[FieldError] = []
    prefix, name = metadata.get("generateName", ""), metadata.get("name", "")
    if prefix and (wrong := rule(_completed(prefix))):
        errors.append(invalid("metadata.generateName", prefix, wrong))
    if not name:
        errors.append(required("metadata.name", "name or generateName is required"))
    elif wrong := rule(name):
        errors.append(invalid("metadata.name", name, wrong))
    errors += check_labels(metadata.get("labels"), "metadata.labels")
    errors += check_annotations(metadata.get("annotations"), "metadata.annotations")
    errors += _check_owners(metadata.get("ownerReferences") or [])
    errors += _check_finalizers(metadata.get("finalizers") or [])
    return errors


def _completed(prefix: str) -> str:
    """A prefix that ends in a dash, as it is judged: something will follow the dash."""
    return f"{prefix[:-2]}a" if len(prefix) > 1 and prefix.endswith("-") else prefix


def _check_finalizers(finalizers: list[str]) -> list[FieldError]:
    path = "metadata.finalizers"
    errors = [error for name in finalizers for error in check(name, path, qualified_name_faults)]
    if "orphan" in finalizers and "foregroundDeletion" in finalizers:
        errors.append(invalid(path, finalizers, "finalizer orphan and foregroundDeletion cannot be both set"))
    errors += [
        invalid(
            f"{path}[{number}]", name, "name is neither a standard finalizer name nor is it fully qualified"
        )
        for number, name in enumerate(finalizers)
        if "/" not in name and name not in _STANDARD_FINALIZERS
    ]
    return errors


_OWNER_FIELDS = ("apiVersion", "kind", "name", "uid", "controller", "blockOwnerDeletion")


def _check_owners(owners: list[dict[str, Any]]) -> list[FieldError]:
    path = "metadata.ownerReferences"
    errors: list[FieldError] = []
    shown = [_shown_owner(owner) for owner in owners]
    controller = ""
    for owner in shown:
        version = owner["apiVersion"].rpartition("/")[2] if owner["apiVersion"].count("/") <= 1 else ""
        if not version:
            errors.append(invalid(f"{path}.apiVersion", owner["apiVersion"], "version must not be empty"))
        errors += [
            invalid(f"{path}.{key}", "", "must not be empty")
            for key in ("kind", "name", "uid")
            if not owner[key]
        ]
        if (owner["apiVersion"], owner["kind"]) == ("v1", "Event"):
            errors.append(invalid(path, owner, "/v1, Kind=Event is disallowed from being an owner"))
        if owner.get("controller"):
            this = f"{owner['kind']}/{owner['name']}"
            if controller:
                errors.append(
                    invalid(
                        path,
                        shown,
                        'Only one reference can have Controller set to true. Found "true" in references for '
                        f"{controller} and {this}",
                    )
                )
            else:
                controller = this
    return errors


def _shown_owner(owner: dict[str, Any]) -> dict[str, Any]:
    """An owner reference with its fields in the order of Go's struct."""
    filled = {"apiVersion": "", "kind": "", "name": "", "uid": "", **owner}
    return {key: filled[key] for key in _OWNER_FIELDS if key in filled}
