"""What a request asks for besides its object: the options of creates, updates, patches and deletions.

Source: apimachinery `apis/meta/v1/validation`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from emu.api.errors import (
    BadRequestError,
    FieldError,
    InvalidError,
    Target,
    forbidden,
    invalid,
    not_supported,
    required,
    too_long,
)
from emu.api.negotiation import parse_bool

_META_GROUP = "meta.k8s.io"
_MANAGER_LIMIT = 128
_VALIDATIONS = ("", "Ignore", "Strict", "Warn")
_POLICIES = ("Foreground", "Background", "Orphan", "nil")
UNKNOWN_MANAGER = "unknown"

FieldValidation = Literal["Ignore", "Strict", "Warn"]


class WriteOptions(NamedTuple):
    """CreateOptions, UpdateOptions and PatchOptions in one."""

    manager: str = UNKNOWN_MANAGER
    """Whom managedFields name: `fieldManager`, or the client's program."""
    dry_run: bool = False
    validation: FieldValidation = "Ignore"
    force: bool = False
    """Whether an apply takes fields over from others."""
    patches: bool = False
    """Whether it is a patch, and what it says of identity therefore a change rather than a precondition."""


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


def write_options(
    kind: str, query: Mapping[str, str], user_agent: str, *, applies: bool = False
) -> WriteOptions:
    """The options of a write out of its query.

    `kind` is CreateOptions, UpdateOptions or PatchOptions, for messages; `applies` says that the patch is a
    server-side apply. Raises InvalidError.
    """
    errors: list[FieldError] = []
    manager = query.get("fieldManager", "")
    if applies and not manager:
        errors.append(required("fieldManager", "is required for apply patch"))
    if "force" in query and kind == "PatchOptions" and not applies:
        errors.append(forbidden("force", "may not be specified for non-apply patch"))
    if len(manager.encode()) > _MANAGER_LIMIT:
        errors.append(too_long("fieldManager", _MANAGER_LIMIT))
    elif not manager.isprintable():
        errors.append(invalid("fieldManager", manager, "should only contain printable characters"))
    errors += _check_dry_run(query.get("dryRun"))
    validation = query.get("fieldValidation", "")
    if validation not in _VALIDATIONS:
        errors.append(not_supported("fieldValidation", validation, _VALIDATIONS))
    if errors:
        raise InvalidError(Target(_META_GROUP, "", kind), errors)
    return WriteOptions(
        manager=manager or _program(user_agent),
        dry_run=bool(query.get("dryRun")),
        validation=validation or "Warn",  # type: ignore[arg-type]
        force=parse_bool(query.get("force", "false")),
        patches=kind == "PatchOptions",
    )


def _check_dry_run(value: str | None) -> list[FieldError]:
    return [] if value in (None, "", "All") else [not_supported("dryRun", [value], ("All",))]


def _program(user_agent: str) -> str:
    """The first part of a User-Agent, `kubectl` of `kubectl/v1.33.1 (linux/amd64)`."""
    name = "".join(character for character in user_agent.partition("/")[0] if character.isprintable())
    return name[:_MANAGER_LIMIT] or UNKNOWN_MANAGER


def delete_options(given: Any, query: Mapping[str, str]) -> DeleteOptions:
    """DeleteOptions of a decoded body and the query. Raises BadRequestError and InvalidError."""
    if not isinstance(given, dict):
        raise BadRequestError("DeleteOptions must be an object")
    kind = given.get("kind") or "DeleteOptions"
    if kind != "DeleteOptions":
        raise BadRequestError(f'no kind "{kind}" is registered for the options of a deletion: DeleteOptions')
    preconditions = _typed(given, "preconditions", dict) or {}
    grace = given.get("gracePeriodSeconds")
    if grace is None and query.get("gracePeriodSeconds"):
        grace = _number(query["gracePeriodSeconds"])
    if grace is not None and (not isinstance(grace, int) or isinstance(grace, bool)):
        raise BadRequestError("gracePeriodSeconds: expected an integer")
    policy = _typed(given, "propagationPolicy", str) or query.get("propagationPolicy")
    orphan = given.get("orphanDependents")
    if orphan is None and query.get("orphanDependents"):
        orphan = parse_bool(query["orphanDependents"])
    dry_run = _typed(given, "dryRun", list) or ([query["dryRun"]] if query.get("dryRun") else [])
    errors = _check_dry_run(",".join(map(str, dry_run)))
    if orphan is not None and policy is not None:
        errors.append(
            invalid(
                "propagationPolicy", policy, "orphanDependents and deletionPropagation cannot be both set"
            )
        )
    elif policy is not None and policy not in _POLICIES[:-1]:
        errors.append(not_supported("propagationPolicy", policy, _POLICIES))
    if errors:
        raise InvalidError(Target(_META_GROUP, "", "DeleteOptions"), errors)
    if orphan is not None:
        policy = "Orphan" if orphan else "Background"
    return DeleteOptions(
        grace_period_seconds=grace,
        propagation_policy=policy,
        preconditions=Preconditions(
            _typed(preconditions, "uid", str), _typed(preconditions, "resourceVersion", str)
        ),
        dry_run=bool(dry_run),
    )


def _typed(document: Mapping[str, Any], key: str, kind: type) -> Any:
    value = document.get(key)
    if value is not None and not isinstance(value, kind):
        raise BadRequestError(f"{key}: expected {kind.__name__}, got {type(value).__name__}")
    return value


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise BadRequestError(f'invalid gracePeriodSeconds "{text}": not a number') from None
