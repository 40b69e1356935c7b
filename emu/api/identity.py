"""What a body says of itself: its kind, its name and namespace, and the version that its writer has seen."""

from __future__ import annotations

from emu.api.errors import BadRequestError, ConflictError, InvalidError, invalid
from emu.api.resource import Document, Resource
from emu.api.store import Item


def check_kind(resource: Resource, document: Document) -> None:
    """The body is of the kind that the path serves. Raises BadRequestError."""
    kind, api_version = document.get("kind"), document.get("apiVersion")
    if api_version and api_version != resource.api_version:
        raise BadRequestError(
            f"the API version in the data ({api_version}) does not match the expected API version "
            f"({resource.api_version})"
        )
    if kind and kind != resource.kind:
        raise BadRequestError(
            f'{kind} in version "{resource.version}" cannot be handled as a {resource.kind}'
        )
    if not isinstance(document.get("metadata", {}), dict):
        raise BadRequestError("metadata: expected an object")


def check_namespace(resource: Resource, namespace: str, document: Document) -> None:
    """The body is of the namespace of the path, or names none. Raises BadRequestError."""
    given = (document.get("metadata") or {}).get("namespace")
    if resource.namespaced and given and given != namespace:
        raise BadRequestError(
            "the namespace of the provided object does not match the namespace sent on the request"
        )


def check_name(resource: Resource, namespace: str, name: str, document: Document) -> None:
    """The body is about the object of the path. Raises BadRequestError."""
    metadata = document.setdefault("metadata", {})
    given = metadata.get("name")
    if not given:
        raise BadRequestError(
            f"the name of the object ({name} based on URL) was undeterminable: name must be provided"
        )
    if given != name:
        raise BadRequestError(f"the name of the object ({given}) does not match the name on the URL ({name})")
    if resource.namespaced and metadata.get("namespace", namespace) != namespace:
        raise BadRequestError(
            f"the namespace of the object ({metadata['namespace']}) does not match the namespace on the "
            f"request ({namespace})"
        )


def check_version(
    resource: Resource, name: str, given: Document, item: Item, old: Document, *, patches: bool
) -> None:
    """The writer has seen the stored version, or does not care. Raises ConflictError and InvalidError."""
    version, uid = given.get("resourceVersion"), given.get("uid")
    if not version and not resource.unconditional_update:
        error = invalid("metadata.resourceVersion", version or "", "must be specified for an update")
        raise InvalidError(resource.target(name), [error])
    if version and version != str(item.version):
        raise ConflictError(resource.target(name))
    if uid and uid != old["metadata"]["uid"]:
        if patches:
            raise InvalidError(resource.target(name), [invalid("metadata.uid", uid, "field is immutable")])
        raise ConflictError(resource.target(name), uid_mismatch(uid, old))


def uid_mismatch(wanted: str, document: Document) -> str:
    """Why an object is not the one that was meant."""
    found = document["metadata"]["uid"]
    return f"Precondition failed: UID in precondition: {wanted}, UID in object meta: {found}"
