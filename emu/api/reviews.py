"""Reviews: questions in the form of objects, answered and not stored.

Sources: authorization.k8s.io/v1, authentication.k8s.io/v1 and their validation. RBAC objects are stored and
not evaluated, so every known user may do everything, and the answers say so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from emu.api.authentication import AUDIENCE, Authenticator, User
from emu.api.errors import FieldError, InvalidError, Target, invalid, required
from emu.api.resource import Document

_WHY = "RBAC is stored and not evaluated: every user may do everything"
_EVERYTHING = ["*"]

Review = Callable[[Document, User, Authenticator], Document]
"""The status of a review: given its spec, who asks, and who knows tokens. Raises InvalidError."""


def _access(spec: Document, user: User, authenticator: Authenticator) -> Document:
    _refuse("SelfSubjectAccessReview", _attribute_errors(spec))
    return {"allowed": True, "reason": _WHY}


def _subject_access(spec: Document, user: User, authenticator: Authenticator) -> Document:
    errors = _attribute_errors(spec)
    if not spec.get("user") and not spec.get("groups"):
        errors.append(invalid("spec.user", "", "at least one of user or group must be specified"))
    _refuse("SubjectAccessReview", errors)
    return {"allowed": True, "reason": _WHY}


def _rules(spec: Document, user: User, authenticator: Authenticator) -> Document:
    if not spec.get("namespace"):
        _refuse("SelfSubjectRulesReview", [required("spec.namespace", "namespace must be specified")])
    return {
        "resourceRules": [{"verbs": _EVERYTHING, "apiGroups": _EVERYTHING, "resources": _EVERYTHING}],
        "nonResourceRules": [{"verbs": _EVERYTHING, "nonResourceURLs": _EVERYTHING}],
        "incomplete": False,
    }


def _self(spec: Document, user: User, authenticator: Authenticator) -> Document:
    return {"userInfo": user.info()}


def _token(spec: Document, user: User, authenticator: Authenticator) -> Document:
    token = spec.get("token")
    if not token:
        _refuse("TokenReview", [required("spec.token", "token is required for authentication")])
    found = authenticator.user_of_token(token or "")
    if found is None:
        return {"authenticated": False, "user": {}, "error": "invalid bearer token"}
    return {"authenticated": True, "user": found.info(), "audiences": [AUDIENCE]}


REVIEWS: Mapping[str, Review] = {
    "LocalSubjectAccessReview": _subject_access,
    "SelfSubjectAccessReview": _access,
    "SelfSubjectReview": _self,
    "SelfSubjectRulesReview": _rules,
    "SubjectAccessReview": _subject_access,
    "TokenReview": _token,
}


def _attribute_errors(spec: Document) -> list[FieldError]:
    given = [spec.get("resourceAttributes"), spec.get("nonResourceAttributes")]
    if all(attributes is not None for attributes in given):
        return [
            invalid(
                "spec.nonResourceAttributes",
                spec["nonResourceAttributes"],
                "cannot be specified in combination with resourceAttributes",
            )
        ]
    if all(attributes is None for attributes in given):
        return [
            invalid(
                "spec.resourceAttributes",
                None,
                "exactly one of nonResourceAttributes or resourceAttributes must be specified",
            )
        ]
    return []


def _refuse(kind: str, errors: list[FieldError]) -> None:
    if errors:
        group = "authentication.k8s.io" if kind == "TokenReview" else "authorization.k8s.io"
        raise InvalidError(Target(group, "", kind), errors)
