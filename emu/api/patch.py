"""Merge patches (RFC 7386) and JSON patches (RFC 6902). Strategic ones are in `strategic`."""

from __future__ import annotations

from typing import Any

from emu.api.errors import BadRequestError, UnprocessableError

MERGE = "application/merge-patch+json"
JSON = "application/json-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
APPLY = "application/apply-patch+yaml"
_MAX_OPERATIONS = 10_000


def merge_patch(target: Any, patch: Any) -> Any:
    """RFC 7386. The target may be changed."""
    if not isinstance(patch, dict):
        return patch
    if not isinstance(target, dict):
        target = {}
    for key, value in patch.items():
        if value is None:
            target.pop(key, None)
        else:
            target[key] = merge_patch(target.get(key), value)
    return target


def json_patch(target: dict[str, Any], operations: Any) -> dict[str, Any]:
    """RFC 6902. Raises UnprocessableError when an operation cannot be done, a test fails included."""
    # Imported here since few clients send one, and the API server starts in a fraction of a second.
    import jsonpatch
    import jsonpointer

    if not isinstance(operations, list):
        raise BadRequestError("a JSON patch is a list of operations")
    if len(operations) > _MAX_OPERATIONS:
        raise BadRequestError(
            f"The allowed maximum operations in a JSON patch is {_MAX_OPERATIONS}, got {len(operations)}"
        )
    try:
        patched = jsonpatch.JsonPatch(operations).apply(target, in_place=True)
    except jsonpatch.InvalidJsonPatch as error:
        raise BadRequestError(f"not a JSON patch: {error}") from None
    except (jsonpatch.JsonPatchException, jsonpointer.JsonPointerException) as error:
        raise UnprocessableError(
            f"the server rejected our request due to an error in our request: {error}"
        ) from None
    except (TypeError, AttributeError, KeyError, ValueError) as error:
        raise BadRequestError(f"not a JSON patch: {error}") from None
    if not isinstance(patched, dict):
        raise UnprocessableError("the JSON patch leaves no object")
    return patched
