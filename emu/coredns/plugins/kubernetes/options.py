"""The lines within a `kubernetes` directive's block."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from emu.core.selectors import parse_label_selector
from emu.coredns.corefile import Directive, Line

Matches = Callable[[Mapping[str, str]], bool]
MAX_TTL = 3600

_ONE_CLUSTER = "emu's DNS always reads the cluster that it is part of"
_REFUSED = {
    "endpoint": _ONE_CLUSTER,
    "tls": _ONE_CLUSTER,
    "kubeconfig": _ONE_CLUSTER,
    "multicluster": "there are no ServiceImports",
    "apiserver_qps": "nothing limits what DNS asks of the API server",
    "apiserver_burst": "nothing limits what DNS asks of the API server",
    "apiserver_max_inflight": "nothing limits what DNS asks of the API server",
    "startup_timeout": "queries are answered at once, by SERVFAIL until all objects are in",
    "resyncperiod": "objects are watched, and nothing needs to be read again",
    "upstream": "names outside are always looked up through the server itself",
    "transfer": "that is a plugin of its own",
}
"""Options that CoreDNS has or had, and why they have no meaning here."""


class Options(NamedTuple):
    """The directive's options that change answers."""

    pods: str = "disabled"
    ttl: int = 5
    namespaces: frozenset[bytes] | None = None
    namespace_labels: Matches | None = None
    labels: Matches | None = None
    endpoint_pod_names: bool = False
    ignore_empty_service: bool = False
    endpoints: bool = True

    @property
    def shows_all(self) -> bool:
        """Whether no namespace and no Service is hidden."""
        return self.namespaces is None and self.namespace_labels is None and self.labels is None


def parse_options(directive: Directive, lines: list[Line]) -> Options:
    """The options of a block's lines. Raises CorefileError that names the line."""
    options = Options()
    for line in lines:
        options = _option(directive, line, options)
        if options.namespaces is not None and options.namespace_labels is not None:
            raise directive.error("namespaces and namespace_labels exclude each other", line.number)
    return options


def _option(directive: Directive, line: Line, options: Options) -> Options:
    args = line.args
    match line.name, args:
        case "pods", ("disabled" | "insecure" | "verified" as mode,):
            return options._replace(pods=mode)
        case "ttl", _:
            return options._replace(ttl=_ttl(directive, line))
        case "namespaces", (_, *_):
            return options._replace(namespaces=frozenset(name.encode() for name in args))
        case "namespace_labels", (_, *_):
            return options._replace(namespace_labels=_selector(directive, line))
        case "labels", (_, *_):
            return options._replace(labels=_selector(directive, line))
        case "endpoint_pod_names", ():
            return options._replace(endpoint_pod_names=True)
        case "ignore", ("empty_service",):
            return options._replace(ignore_empty_service=True)
        case "noendpoints", ():
            return options._replace(endpoints=False)
    if line.name in _REFUSED:
        raise directive.error(f'remove "{line.name}": {_REFUSED[line.name]}', line.number)
    raise directive.error(f'"{" ".join((line.name, *args))}" is not an option', line.number)


def _ttl(directive: Directive, line: Line) -> int:
    text = line.args[0] if len(line.args) == 1 else ""
    if not re.fullmatch("[0-9]{1,4}", text) or int(text) > MAX_TTL:
        raise directive.error(f"ttl is a number of seconds from 0 to {MAX_TTL}", line.number)
    return int(text)


def _selector(directive: Directive, line: Line) -> Matches:
    try:
        return parse_label_selector(" ".join(line.args)).matches
    except ValueError as error:
        raise directive.error(str(error), line.number) from None
