"""Who a request comes from: the cluster's administrator, or a ServiceAccount by its token.

Whoever is known may do everything: RBAC objects are stored and not evaluated.
Tokens of ServiceAccounts are JWTs (RFC 7519) with the claims of KEP-1205, signed with a key of the cluster.
"""

from __future__ import annotations

import hashlib
import hmac
import time
import uuid
from collections.abc import Callable
from typing import Any, NamedTuple

from emu.api.errors import UnauthorizedError

_ALGORITHM = "HS256"
_MIN_SECONDS = 600
_DEFAULT_SECONDS = 3600
AUDIENCE = "https://kubernetes.default.svc.cluster.local"

UidOf = Callable[[str, str], str | None]
"""The uid of a ServiceAccount by namespace and name, None when there is none."""


class User(NamedTuple):
    """Who a request comes from."""

    name: str
    groups: tuple[str, ...]
    uid: str = ""

    def info(self) -> dict[str, Any]:
        """The `UserInfo` of authentication.k8s.io/v1."""
        document: dict[str, Any] = {"username": self.name, "groups": list(self.groups)}
        return {**document, "uid": self.uid} if self.uid else document


_AUTHENTICATED = "system:authenticated"
ADMINISTRATOR = User("kubernetes-admin", ("system:masters", _AUTHENTICATED))


class Authenticator:
    """Knows the administrator's token, and makes and reads those of ServiceAccounts."""

    def __init__(self, token: str, uid_of: UidOf) -> None:
        self._token = token.encode()
        self._key = hashlib.sha256(b"service account tokens" + token.encode()).digest()
        self._uid_of = uid_of

    def user(self, authorization: str) -> User:
        """The user of an Authorization header. Raises UnauthorizedError."""
        scheme, _, token = authorization.partition(" ")
        user = self.user_of_token(token) if scheme.lower() == "bearer" else None
        if user is None:
            raise UnauthorizedError
        return user

    def user_of_token(self, token: str) -> User | None:
        """The user of a token; None for one that is not valid, or whose ServiceAccount is gone."""
        if hmac.compare_digest(token.encode("utf-8", "surrogateescape"), self._token):
            return ADMINISTRATOR
        if token.count(".") != 2:
            return None
        # Imported here since most processes never see such a token.
        import jwt

        try:
            claims = jwt.decode(
                token, self._key, algorithms=[_ALGORITHM], audience=AUDIENCE, options={"require": ["exp"]}
            )
            about = claims["kubernetes.io"]
            namespace, account = about["namespace"], about["serviceaccount"]
        except (jwt.InvalidTokenError, KeyError, TypeError, UnicodeError):
            return None
        if self._uid_of(namespace, account["name"]) != account["uid"]:
            return None
        return _service_account(namespace, account["name"], account["uid"])

    def issue(
        self,
        namespace: str,
        name: str,
        uid: str,
        *,
        seconds: int | None = None,
        audiences: list[str] | None = None,
    ) -> tuple[str, int]:
        """A token of a ServiceAccount and when it ends, in seconds since the epoch."""
        import jwt

        now = int(time.time())
        expires = now + max(_MIN_SECONDS, seconds or _DEFAULT_SECONDS)
        claims = {
            "aud": audiences or [AUDIENCE],
            "exp": expires,
            "iat": now,
            "iss": AUDIENCE,
            "jti": str(uuid.uuid4()),
            "kubernetes.io": {"namespace": namespace, "serviceaccount": {"name": name, "uid": uid}},
            "nbf": now,
            "sub": f"system:serviceaccount:{namespace}:{name}",
        }
        return jwt.encode(claims, self._key, algorithm=_ALGORITHM), expires


def _service_account(namespace: str, name: str, uid: str) -> User:
    groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", _AUTHENTICATED)
    return User(f"system:serviceaccount:{namespace}:{name}", groups, uid)
