"""The API's errors: types that know their HTTP code, reason and wording, and field errors that make up 422s.

The wording follows apimachinery's `api/errors` and `util/validation/field`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec

from emu.core.errors import UserError


class PortTakenError(UserError):
    """The API server's own port is in use."""

    def __init__(self, address: str, port: int) -> None:
        super().__init__(
            f"the API server cannot listen on {address}:{port}, another process does: stop it, or choose "
            "another port with `ports.apiserver` in emu.yaml or another `--slot`"
        )


class StateError(UserError):
    """A file in the state directory cannot be used."""


class FieldError(NamedTuple):
    """Something wrong with one field. `message` is what follows the path."""

    field: str
    reason: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"


_HTML = {ord(char): f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"}


def _quoted(value: Any) -> str:
    """A value as upstream shows it: a text as Go quotes it, everything else as Go's JSON."""
    if isinstance(value, str):
        return go_quote(value)
    return msgspec.json.encode(value).decode().translate(_HTML)


_GO_ESCAPES = {
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
    "\\": "\\\\",
    '"': '\\"',
}


def go_quote(text: str) -> str:
    """A text in double quotes, as Go's `%q`."""
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return f'"{text}"'
    return f'"{"".join(_go_escape(char) for char in text)}"'


def _go_escape(char: str) -> str:
    if char in _GO_ESCAPES:
        return _GO_ESCAPES[char]
    if char.isprintable():
        return char
    number = ord(char)
    if number < 0x80:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def go_strings(texts: Iterable[str]) -> str:
    """A list of texts as Go's `%#v`."""
    return f"[]string{{{', '.join(go_quote(text) for text in texts)}}}"


def invalid(field: str, value: Any, detail: str) -> FieldError:
    """A value that breaks a rule."""
    return FieldError(field, "FieldValueInvalid", f"Invalid value: {_quoted(value)}: {detail}")


def required(field: str, detail: str = "") -> FieldError:
    """A value that is missing."""
    return FieldError(
        field, "FieldValueRequired", f"Required value: {detail}" if detail else "Required value"
    )


def not_supported(field: str, value: Any, supported: Iterable[str]) -> FieldError:
    """A value that is none of an enumeration."""
    known = ", ".join(f'"{item}"' for item in supported)
    return FieldError(
        field, "FieldValueNotSupported", f"Unsupported value: {_quoted(value)}: supported values: {known}"
    )


def duplicate(field: str, value: Any) -> FieldError:
    """A value that may be there once only."""
    return FieldError(field, "FieldValueDuplicate", f"Duplicate value: {_quoted(value)}")


def not_found(field: str, value: Any, detail: str = "") -> FieldError:
    """A value that names something which is not there."""
    message = f"Not found: {_quoted(value)}"
    return FieldError(field, "FieldValueNotFound", f"{message}: {detail}" if detail else message)


def forbidden(field: str, detail: str) -> FieldError:
    """A field that may not be set here."""
    return FieldError(field, "FieldValueForbidden", f"Forbidden: {detail}")


def too_long(field: str, limit: int) -> FieldError:
    """A text that is too long."""
    return FieldError(field, "FieldValueTooLong", f"Too long: may not be more than {limit} bytes")


def too_many(field: str, count: int, limit: int) -> FieldError:
    """A list that is too long."""
    return FieldError(field, "FieldValueTooMany", f"Too many: {count}: must have at most {limit} items")


_MODIFIED = "the object has been modified; please apply your changes to the latest version and try again"


_SUMMARY_BYTES = 30


class StatusError(Exception):
    """An error that is answered as a `v1.Status`."""

    code = 500
    reason = "InternalError"
    retry_after = 0
    """Seconds after which a client may try again, 0 if it need not."""

    def __init__(self, message: str, details: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.details = details or {}

    def status(self) -> dict[str, Any]:
        """The Status document."""
        document: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
        }
        if self.details:
            document["details"] = self.details
        document["code"] = self.code
        return document


class Target(NamedTuple):
    """What a Status is about: API group ("" is core), plural, kind, and the name if there is one."""

    group: str
    plural: str
    kind: str
    name: str = ""

    @property
    def qualified_plural(self) -> str:
        """`deployments.apps`, or `pods`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def qualified_kind(self) -> str:
        """`Deployment.apps`, or `Pod`."""
        return f"{self.kind}.{self.group}" if self.group else self.kind

    def details(self, kind: str) -> dict[str, Any]:
        """`details` of a Status; `kind` is the plural or the kind, as upstream varies it."""
        found = {"name": self.name, "group": self.group, "kind": kind}
        return {key: value for key, value in found.items() if value}


class BadRequestError(StatusError):
    """The request cannot be understood."""

    code = 400
    reason = "BadRequest"


class UnrecognizedError(BadRequestError):
    """The body cannot be read as the kind of object that the path takes."""

    def __init__(self, kind: str, why: str, body: bytes) -> None:
        super().__init__(
            f"the object provided is unrecognized (must be of type {kind}): {why} ({_summary(body)})"
        )


def _summary(body: bytes) -> str:
    """The beginning of a body, as text or in hexadecimal digits."""
    if not body:
        return "<empty>"
    start, rest = body[:_SUMMARY_BYTES], " ..." if len(body) > _SUMMARY_BYTES else ""
    shown = start.decode("utf-8", "replace") if body.startswith(b"{") else start.hex()
    return shown + rest


class UnauthorizedError(StatusError):
    """No token, or not the cluster's."""

    code = 401
    reason = "Unauthorized"

    def __init__(self) -> None:
        super().__init__("Unauthorized")


class ForeignHostError(StatusError):
    """The request was meant for another host: a page that a browser shows must not reach the cluster."""

    code = 403
    reason = "Forbidden"

    def __init__(self, host: str) -> None:
        super().__init__(
            f'forbidden: this API server is not "{host}"; use 127.0.0.1, localhost, or a name of the Service '
            "kubernetes"
        )


class ForbiddenError(StatusError):
    """The request is understood and refused."""

    code = 403
    reason = "Forbidden"

    def __init__(self, target: Target, why: str, causes: Sequence[dict[str, str]] = ()) -> None:
        details = target.details(target.plural)
        if causes:
            details["causes"] = list(causes)
        super().__init__(f'{target.qualified_plural} "{target.name}" is forbidden: {why}', details)


class NotFoundError(StatusError):
    """The object does not exist."""

    code = 404
    reason = "NotFound"

    def __init__(self, target: Target) -> None:
        super().__init__(
            f'{target.qualified_plural} "{target.name}" not found', target.details(target.plural)
        )


class NoSuchPathError(StatusError):
    """Nothing is served at this path."""

    code = 404
    reason = "NotFound"

    def __init__(self) -> None:
        super().__init__("the server could not find the requested resource")


class NotServedError(StatusError):
    """Kubernetes has this subresource, and emu does not serve it yet."""

    code = 501
    reason = "NotImplemented"

    def __init__(self, plural: str, subresource: str) -> None:
        super().__init__(
            f"emu does not serve {plural}/{subresource} yet; docs/concepts/fidelity.md lists what differs"
        )


class MethodNotAllowedError(StatusError):
    """The verb is not served at this path."""

    code = 405
    reason = "MethodNotAllowed"

    def __init__(self, verb: str = "") -> None:
        super().__init__(
            f"{verb} is not supported on resources of this path"
            if verb
            else "the server does not allow this method on the requested resource"
        )


class NotAcceptableError(StatusError):
    """None of the accepted media types can be given."""

    code = 406
    reason = "NotAcceptable"

    def __init__(self) -> None:
        super().__init__(
            "only the following media types are accepted: application/json, application/yaml, "
            "application/json;as=Table;v=v1;g=meta.k8s.io"
        )


class AlreadyExistsError(StatusError):
    """An object of that name is there."""

    code = 409
    reason = "AlreadyExists"

    def __init__(self, target: Target) -> None:
        super().__init__(
            f'{target.qualified_plural} "{target.name}" already exists', target.details(target.plural)
        )


class ConflictError(StatusError):
    """The object was changed meanwhile, or a precondition does not hold."""

    code = 409
    reason = "Conflict"

    def __init__(
        self,
        target: Target,
        why: str = _MODIFIED,
    ) -> None:
        super().__init__(
            f'Operation cannot be fulfilled on {target.qualified_plural} "{target.name}": {why}',
            target.details(target.plural),
        )


class ExpiredError(StatusError):
    """A resourceVersion or a continue token is older than what is retained."""

    code = 410
    reason = "Expired"


class TooLargeVersionError(StatusError):
    """A resourceVersion has not been reached yet."""

    code = 504
    reason = "Timeout"
    retry_after = 1

    def __init__(self, version: int, current: int) -> None:
        why = "Too large resource version"
        super().__init__(
            f"Timeout: {why}: {version}, current: {current}",
            {
                "causes": [{"reason": "ResourceVersionTooLarge", "message": why}],
                "retryAfterSeconds": self.retry_after,
            },
        )


class TooLargeError(StatusError):
    """The body is too large."""

    code = 413
    reason = "RequestEntityTooLarge"

    def __init__(self, limit: int) -> None:
        super().__init__(f"Request entity too large: limit is {limit}")


class UnsupportedMediaTypeError(StatusError):
    """The body is in a form that is not understood."""

    code = 415
    reason = "UnsupportedMediaType"


class InvalidError(StatusError):
    """Fields break rules; `causes` lists them."""

    code = 422
    reason = "Invalid"

    def __init__(self, target: Target, errors: Sequence[FieldError]) -> None:
        texts = list(dict.fromkeys(str(error) for error in errors))
        listed = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
        details = target.details(target.kind)
        details["causes"] = [
            {"reason": error.reason, "message": error.message, "field": error.field} for error in errors
        ]
        super().__init__(f'{target.qualified_kind} "{target.name}" is invalid: {listed}', details)


class UnprocessableError(StatusError):
    """A patch that can be read and not applied."""

    code = 422
    reason = "Invalid"


class TooManyRequestsError(StatusError):
    """It cannot be done now; the client may try again."""

    code = 429
    reason = "TooManyRequests"

    def __init__(self, message: str, why: str, retry_after: int = 0) -> None:
        """With `retry_after` seconds clients wait and ask again themselves; with 0 they are told at once."""
        causes = [{"reason": "DisruptionBudget", "message": why}]
        super().__init__(message, {"causes": causes})
        self.retry_after = retry_after
        if retry_after:
            self.details["retryAfterSeconds"] = retry_after


class InternalError(StatusError):
    """The server failed."""

    def __init__(self, message: str) -> None:
        super().__init__(f"Internal error occurred: {message}")
