"""Where a cluster's configuration comes from: flag beats environment beats file beats default."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import yaml

from emu.core.config import ConfigError, parse_config
from emu.core.settings import Settings, StateDir

DEFAULT_STATE_DIR = ".emu"
DEFAULT_FILE = "emu.yaml"

_FROM_ENVIRONMENT = {
    "EMU_PROXY_MODE": "proxyMode",
    "EMU_IPVS_SCHEDULER": "ipvsScheduler",
    "EMU_CLUSTER_DOMAIN": "clusterDomain",
    "EMU_COREFILE": "corefile",
    "EMU_SLOT": "slot",
    "EMU_LOG_LEVEL": "logLevel",
    "EMU_LOG_FORMAT": "logFormat",
}
_NUMBERS = ("slot",)
_OTHER_VARIABLES = ("EMU_STATE_DIR", "EMU_CONFIG", "EMU_NODES")


def state_dir(flag: Path | None, environ: Mapping[str, str] = os.environ) -> StateDir:
    """The state directory, absolute."""
    return StateDir((flag or Path(environ.get("EMU_STATE_DIR") or DEFAULT_STATE_DIR)).absolute())


def load_settings(
    state: Path | None = None,
    file: Path | None = None,
    flags: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Settings:
    """The settings of a component or a new cluster.

    `flags` holds camelCase keys of emu.yaml, and `nodeCount`; a value of None was not given. Raises
    ConfigError that names the key and the remedy.
    """
    _check_variables(environ)
    merged = _read_file(file, environ)
    count = environ.get("EMU_NODES")
    for variable, key in _FROM_ENVIRONMENT.items():
        if environ.get(variable):
            merged[key] = _number(variable, environ[variable]) if key in _NUMBERS else environ[variable]
    given = {key: value for key, value in (flags or {}).items() if value is not None}
    nodes = given.pop("nodeCount", _number("EMU_NODES", count) if count else None)
    config = parse_config({**merged, **given})
    if nodes is not None:
        config = config.with_node_count(nodes)
    if config.corefile is not None:  # the processes need not run in this directory
        config = msgspec.structs.replace(config, corefile=str(Path(config.corefile).absolute()))
    return Settings(config, state_dir(state, environ))


def running_settings(state: Path | None = None, environ: Mapping[str, str] = os.environ) -> Settings:
    """The settings that the cluster in a state directory was started with.

    Raises ConfigError when none is running there.
    """
    where = state_dir(state, environ)
    file = resolved_file(where)
    if not file.exists():
        raise ConfigError(f"no cluster is running in {where.root}: start one with `emu up`")
    return Settings(parse_config(_parse(file)), where)


def resolved_file(state: StateDir) -> Path:
    """Where a running cluster keeps its configuration, all defaults resolved."""
    return state.run / "cluster.json"


def write_resolved(settings: Settings) -> None:
    """Write the resolved configuration for the components' processes and for later commands."""
    resolved_file(settings.state).write_bytes(msgspec.json.format(msgspec.json.encode(settings.config)))


def component_environment(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment of supervised processes: their configuration is complete, so no EMU_* remains."""
    return {name: value for name, value in environ.items() if not name.startswith("EMU_")}


def _check_variables(environ: Mapping[str, str]) -> None:
    known = {*_FROM_ENVIRONMENT, *_OTHER_VARIABLES}
    for name in environ:
        if name.startswith("EMU_") and name not in known:
            raise ConfigError(
                f'unknown environment variable "{name}"; the known ones are {", ".join(sorted(known))}'
            )


def _read_file(file: Path | None, environ: Mapping[str, str]) -> dict[str, Any]:
    if file is None and environ.get("EMU_CONFIG"):
        file = Path(environ["EMU_CONFIG"])
    if file is None:
        default = Path(DEFAULT_FILE)
        return _parse(default) if default.exists() else {}
    return _parse(file)


def _parse(file: Path) -> dict[str, Any]:
    try:
        data = yaml.safe_load(file.read_text())
    except FileNotFoundError:
        raise ConfigError(f"the configuration file {file} does not exist") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the configuration file {file} cannot be read: {error}") from None
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f", line {where.line + 1}" if where else ""
        raise ConfigError(f"{file}{line} is not YAML: {getattr(error, 'problem', None) or error}") from None
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ConfigError(f"{file} holds a {type(data).__name__}, not settings such as `proxyMode: ipvs`")
    return data


def _number(name: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ConfigError(f'bad value for {name}: "{text}" is not a whole number') from None
