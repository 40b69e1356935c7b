"""The templates of a persistent virtual server, as Linux' ip_vs_conn.c keeps them.

A template ties a client's address to a destination. Its timer starts again with each new connection. One
that runs out while connections of the client are there goes on for a minute at a time, and a connection is
there until it has left TIME_WAIT.
"""

from __future__ import annotations

import math

TEMPLATES_AT_MOST = 65536
RESTART_SECONDS = 60.0


class Template:
    """A client's tie to a destination."""

    __slots__ = ("connections", "expires", "key", "released", "timeout")

    def __init__(self, key: str, timeout: float, now: float) -> None:
        self.key = key
        """The destination's."""
        self.timeout = timeout
        self.expires = now + timeout
        self.connections = 0
        self.released = now
        """When the last of its connections went."""

    def release(self, count: int, now: float) -> None:
        """Some of its connections are gone; one that is older than the template was not counted."""
        self.connections = max(self.connections - count, 0)
        self.released = now

    def alive(self, now: float) -> bool:
        """Whether it still ties. What its timer has done since it was last looked at is made up for here."""
        if now < self.expires:
            return True
        held_until = now if self.connections else self.released
        if held_until < self.expires:
            return False
        minutes = math.floor((held_until - self.expires) / RESTART_SECONDS) + 1
        if now >= self.expires + minutes * RESTART_SECONDS:
            return False
        self.expires += minutes * RESTART_SECONDS
        self.timeout = RESTART_SECONDS
        return True

    def restart(self, now: float) -> None:
        """A new connection uses it. One that has gone on for a minute keeps that as its timeout."""
        self.expires = now + self.timeout


class Templates:
    """Templates by client address. The client that connected longest ago may be forgotten."""

    def __init__(self) -> None:
        self._templates: dict[str, Template] = {}

    def find(self, client: str, now: float) -> Template | None:
        """The template of a client, unless it has expired."""
        template = self._templates.get(client)
        return template if template is not None and template.alive(now) else None

    def holding(self, client: str, key: str) -> Template | None:
        """The template that holds a client's connections to a destination."""
        template = self._templates.get(client)
        return template if template is not None and template.key == key else None

    def use(self, client: str, template: Template, now: float) -> None:
        """A new connection of a client goes by its template."""
        template.restart(now)
        del self._templates[client]
        self._templates[client] = template

    def add(self, client: str, key: str, timeout: float, now: float) -> None:
        """Tie a client to a destination."""
        templates = self._templates
        templates.pop(client, None)
        templates[client] = Template(key, timeout, now)
        oldest = next(iter(templates))
        if len(templates) > TEMPLATES_AT_MOST or not templates[oldest].alive(now):
            del templates[oldest]

    def drop(self, client: str) -> None:
        """Forget a client."""
        self._templates.pop(client, None)

    def clear(self) -> None:
        """Forget everyone."""
        self._templates.clear()
