"""Which objects a list gives, as of which version, and where its pages go on.

The pages of one list are one snapshot: the continue token carries its version. Source of the rules and words:
apiserver's `pkg/storage` (continue tokens, `ListReadConsistency`), apimachinery's `ValidateListOptions`.
"""

from __future__ import annotations

import base64
import binascii
import posixpath
import re
from bisect import bisect_left
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from emu.api.errors import (
    BadRequestError,
    ExpiredError,
    FieldError,
    InvalidError,
    Target,
    TooLargeVersionError,
    forbidden,
    not_supported,
)
from emu.api.queries import matcher, number, version_of
from emu.api.routes import Route
from emu.api.store import Item, Store

_encode = msgspec.json.Encoder().encode

_TOKEN_VERSION = "meta.k8s.io/v1"
_LATEST = -1
"""The version in a token that goes on with whatever is there by then."""
_MATCH = "resourceVersionMatch"
_TOO_OLD = (
    "The provided continue parameter is too old to display a consistent list result. You can start a new "
    "list without the continue parameter, or use the continue token in this response to retrieve the "
    "remainder of the results. Continuing with the provided token results in an inconsistent list - objects "
    "that were created, modified, or deleted between the time the first chunk was returned and now may show "
    "up in the list."
)


class ExpiredTokenError(ExpiredError):
    """The version of a continue token is no longer retained; the Status offers a token for the rest."""

    def __init__(self, token: str) -> None:
        super().__init__(_TOO_OLD)
        self._token = token

    def status(self) -> dict[str, Any]:
        """The Status document, its `metadata.continue` set."""
        return {**super().status(), "metadata": {"continue": self._token}}


class Listed(NamedTuple):
    """The objects of a list, or of one page, and the list's `metadata`."""

    items: list[Item]
    metadata: dict[str, Any]


def listed(store: Store, route: Route, query: Mapping[str, str]) -> Listed:
    """What a list request gives.

    Raises InvalidError for options that do not go together, BadRequestError for what cannot be read,
    ExpiredError for a version that is no longer retained, and TooLargeVersionError for one of the future.
    """
    _check_options(query)
    matches = matcher(route.resource, query)
    limit = number(query, "limit") or 0
    token = query.get("continue", "")
    if token:
        start, version = _decode_token(token)
        if query.get("resourceVersion", "") not in ("", "0"):
            raise BadRequestError("specifying resource version is not allowed when using continue")
        exact = None if version < 0 else version
    else:
        start, exact = "", _exact_version(query, limit)
    check_reached(store, exact or (0 if token else version_of(query.get("resourceVersion", ""))))
    version = store.version if exact is None else exact
    try:
        items = store.items_at(version, route.resource.name, route.namespace)
    except ExpiredError:
        if token:
            raise ExpiredTokenError(_encode_token(start, _LATEST)) from None
        raise
    if matches is not None:
        items = [item for item in items if matches(item)]
    metadata: dict[str, Any] = {"resourceVersion": str(version)}
    whole = bool(route.namespace) or not route.resource.namespaced
    if start:
        items = items[bisect_left(items, start, key=lambda item: _start_of(item, whole)) :]
    if 0 < limit < len(items):
        # The first key after the last one that is given, as etcd's ranges go on.
        metadata["continue"] = _encode_token(f"{_start_of(items[limit - 1], whole)}\0", version)
        if matches is None:
            metadata["remainingItemCount"] = len(items) - limit
        items = items[:limit]
    return Listed(items, metadata)


def check_reached(store: Store, version: int) -> None:
    """Raise TooLargeVersionError for a version of the future."""
    if version > store.version:
        raise TooLargeVersionError(version, store.version)


def _check_options(query: Mapping[str, str]) -> None:
    errors: list[FieldError] = []
    version, match = query.get("resourceVersion", ""), query.get(_MATCH, "")
    if match:
        if not version:
            errors.append(
                forbidden(_MATCH, "resourceVersionMatch is forbidden unless resourceVersion is provided")
            )
        if query.get("continue"):
            errors.append(forbidden(_MATCH, "resourceVersionMatch is forbidden when continue is provided"))
        if match not in ("Exact", "NotOlderThan"):
            errors.append(not_supported(_MATCH, match, ("Exact", "NotOlderThan", "")))
        if match == "Exact" and version == "0":
            why = 'resourceVersionMatch "exact" is forbidden for resourceVersion "0"'
            errors.append(forbidden(_MATCH, why))
    if "sendInitialEvents" in query:
        errors.append(forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list"))
    refuse_options(errors)


def check_watch_options(query: Mapping[str, str]) -> None:
    """Raise InvalidError for options of a watch that do not go together."""
    errors: list[FieldError] = []
    match, initial = query.get(_MATCH, ""), "sendInitialEvents" in query
    if initial and match != "NotOlderThan":
        why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
        errors.append(forbidden(_MATCH, why))
    if match:
        if not initial:
            why = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
            errors.append(forbidden(_MATCH, why))
        if match != "NotOlderThan":
            errors.append(not_supported(_MATCH, match, ("NotOlderThan",)))
        if query.get("continue"):
            errors.append(forbidden(_MATCH, "resourceVersionMatch is forbidden when continue is provided"))
    refuse_options(errors)


def refuse_options(errors: list[FieldError]) -> None:
    """Raise InvalidError when there are errors."""
    if errors:
        raise InvalidError(Target("meta.k8s.io", "", "ListOptions"), errors)


def _exact_version(query: Mapping[str, str], limit: int) -> int | None:
    """The version that a list must be of; None for the newest, which is never too old."""
    version, match = version_of(query.get("resourceVersion", "")), query.get(_MATCH, "")
    if version and (match == "Exact" or (not match and limit > 0)):
        return version
    return None


# --- tokens ---


def _start_of(item: Item, whole: bool) -> str:
    """An item's key below the list's own prefix: its name if that prefix says all else."""
    return item.key.name if whole else item.path


def _encode_token(start: str, version: int) -> str:
    text = _encode({"v": _TOKEN_VERSION, "rv": version, "start": start})
    return base64.urlsafe_b64encode(text).decode().rstrip("=")


def _decode_token(token: str) -> tuple[str, int]:
    """Where a page starts, and the version of its list."""
    try:
        return _parse_token(token)
    except ValueError as error:
        raise BadRequestError(f"invalid continue token: continue key is not valid{error}") from None


class _Token(msgspec.Struct):
    v: str = ""
    rv: int = 0
    start: str = ""


def _parse_token(token: str) -> tuple[str, int]:
    """Raises ValueError with what follows the words of all errors."""
    try:
        text = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        wrong = re.search(r"[^A-Za-z0-9_-]|$", token)
        good = wrong.start() if wrong else 0
        raise ValueError(f": illegal base64 data at input byte {good}") from None
    try:
        found = msgspec.json.decode(text, type=_Token)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(f": {error}") from None
    if found.v != _TOKEN_VERSION:
        raise ValueError(f": server does not recognize this encoded version {found.v}")
    if found.rv == 0:
        raise ValueError(f": incorrect encoded start resourceVersion (version {_TOKEN_VERSION})")
    if not found.start:
        raise ValueError(f": encoded start key empty (version {_TOKEN_VERSION})")
    key = found.start if found.start.startswith("/") else f"/{found.start}"
    if key.startswith("//") or posixpath.normpath(key) != key:
        raise ValueError(f": {found.start}")
    return key[1:], found.rv
