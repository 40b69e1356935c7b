"""Connections on which something arrives that is no request: it is answered with a Status too."""

from __future__ import annotations

import logging

from aiohttp import web
from aiohttp.http_exceptions import BadHttpMethod
from aiohttp.web_protocol import RequestHandler

from emu.api import answers
from emu.api.errors import BadRequestError, InternalError, MethodNotAllowedError, StatusError

log = logging.getLogger(__name__)


class Connection(RequestHandler):
    """One connection of a client."""

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to what the parser refuses, or to what the handler does not answer itself."""
        error: StatusError
        if isinstance(exc, BadHttpMethod):
            error = MethodNotAllowedError()
        elif status < 500:
            error = BadRequestError(f"the request is not HTTP: {' '.join((message or '').split())}")
        else:
            log.error("a request from %s failed", request.remote, exc_info=exc)
            error = InternalError(f"{type(exc).__name__}: {exc}")
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has begun, and cannot become an error any more")
        answer = answers.failure(error)
        response = web.Response(body=answer.body, status=answer.status, content_type=answer.content_type)
        response.force_close()
        return response


class Server(web.Server):
    """Makes the connections."""

    def __call__(self) -> RequestHandler:
        """A new one."""
        return Connection(self, loop=self._loop, **self._kwargs)
