"""What is wrong with a container: its name, ports, environment, handlers and resources.

Source: `validateContainerCommon` and what it calls in `pkg/apis/core/validation`.
"""

from __future__ import annotations

import re
from typing import Any

from emu.api.errors import FieldError, duplicate, forbidden, invalid, not_supported, required
from emu.api.kinds.downward import check_field_ref, check_resource_ref
from emu.api.kinds.ports import check_port, check_port_name, check_port_number, check_protocol
from emu.api.kinds.quantities import canonical, value_of
from emu.api.kinds.volumes import Volumes, check_mounts
from emu.api.naming import (
    check,
    config_key_faults,
    dns_label_faults,
    dns_subdomain_faults,
    qualified_name_faults,
)
from emu.api.resource import Document

_MESSAGE_POLICIES = ("File", "FallbackToLogsOnError")
_PULL_POLICIES = ("Always", "IfNotPresent", "Never")
_RESTART_POLICIES = ("Always", "Never", "OnFailure")
_SCHEMES = ("HTTP", "HTTPS")
_FIELDS_OF_VARIABLES = (
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
)
_STANDARD_RESOURCES = ("cpu", "ephemeral-storage", "memory")
_HUGE_PAGES = "hugepages-"
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_PROBE_NUMBERS = (
    "initialDelaySeconds",
    "timeoutSeconds",
    "periodSeconds",
    "successThreshold",
    "failureThreshold",
)
_NEGATIVE = "must be greater than or equal to 0"
_HEADER_RE = re.compile(r"[-A-Za-z0-9]+")


def check_container(container: Document, path: str, volumes: Volumes) -> list[FieldError]:
    """Errors that any container can have, init containers too."""
    errors: list[FieldError] = []
    name, image = container.get("name", ""), container.get("image", "")
    errors += check(name, f"{path}.name", dns_label_faults) if name else [required(f"{path}.name")]
    if not image:
        errors.append(required(f"{path}.image"))
    policy = container.get("terminationMessagePolicy", "File")
    if policy not in _MESSAGE_POLICIES:
        errors.append(not_supported(f"{path}.terminationMessagePolicy", policy, _MESSAGE_POLICIES))
    errors += _check_ports(container.get("ports") or [], f"{path}.ports")
    errors += _check_env(container.get("env") or [], f"{path}.env")
    errors += _check_env_from(container.get("envFrom") or [], f"{path}.envFrom")
    errors += check_mounts(container, volumes, path)
    if (policy := container.get("imagePullPolicy")) not in _PULL_POLICIES and image:
        errors.append(not_supported(f"{path}.imagePullPolicy", policy, _PULL_POLICIES))
    errors += check_resources(container.get("resources") or {}, f"{path}.resources")
    return errors + check_ids(container.get("securityContext") or {}, f"{path}.securityContext")


def check_restart_policy(container: Document, path: str) -> list[FieldError]:
    """Errors of a container's own restart policy, which its rules need."""
    policy, rules = container.get("restartPolicy"), container.get("restartPolicyRules")
    if policy is None:
        why = "must specify restartPolicy when restart rules are used"
        return [required(f"{path}.restartPolicy", why)] if rules else []
    if policy not in _RESTART_POLICIES:
        return [not_supported(f"{path}.restartPolicy", policy, _RESTART_POLICIES)]
    return []


def check_ids(context: Document, path: str) -> list[FieldError]:
    """Errors of the user and group numbers of a security context."""
    given: list[tuple[str, Any]] = [
        (key, context[key]) for key in ("fsGroup", "runAsUser", "runAsGroup") if key in context
    ]
    given += [
        (f"supplementalGroups[{number}]", group)
        for number, group in enumerate(context.get("supplementalGroups") or ())
    ]
    return [
        invalid(f"{path}.{key}", value, f"must be between 0 and {0xFFFFFFFF}, inclusive")
        for key, value in given
        if not 0 <= value <= 0xFFFFFFFF
    ]


# --- ports ---


def _check_ports(ports: list[Document], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    names: set[str] = set()
    for number, port in enumerate(ports):
        here = f"{path}[{number}]"
        if name := port.get("name"):
            if wrong := check_port_name(name, f"{here}.name"):
                errors += wrong
            elif name in names:
                errors.append(duplicate(f"{here}.name", name))
            else:
                names.add(name)
        if not port.get("containerPort"):
            errors.append(required(f"{here}.containerPort"))
        else:
            errors += check_port_number(port["containerPort"], f"{here}.containerPort")
        if port.get("hostPort"):
            errors += check_port_number(port["hostPort"], f"{here}.hostPort")
        errors += check_protocol(port.get("protocol"), f"{here}.protocol")
    return errors


def check_host_ports(containers: list[tuple[str, Document]]) -> list[FieldError]:
    """A host port is there once for each protocol and host address among containers, each with its path."""
    errors: list[FieldError] = []
    seen: set[str] = set()
    for path, container in containers:
        for number, port in enumerate(container.get("ports") or ()):
            if not port.get("hostPort"):
                continue
            at = f"{port.get('protocol')}/{port.get('hostIP', '')}/{port['hostPort']}"
            if at in seen:
                errors.append(duplicate(f"{path}.ports[{number}].hostPort", at))
            seen.add(at)
    return errors


# --- environment ---


def _variable_name_faults(name: str) -> list[str]:
    if not name:
        return ["environment variable name must be non-empty"]
    if all(" " <= char <= "~" and char != "=" for char in name):
        return []
    return [
        "a valid environment variable name must consist only of printable ASCII characters other than '='"
    ]


def _check_env(variables: list[Document], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for number, variable in enumerate(variables):
        here, name = f"{path}[{number}]", variable.get("name", "")
        errors += check(name, f"{here}.name", _variable_name_faults) if name else [required(f"{here}.name")]
        if "valueFrom" in variable:
            errors += _check_value_from(
                variable["valueFrom"], f"{here}.valueFrom", has_value=bool(variable.get("value"))
            )
    return errors


def _check_value_from(source: Document, path: str, *, has_value: bool) -> list[FieldError]:
    errors: list[FieldError] = []
    if "fieldRef" in source:
        errors += check_field_ref(source["fieldRef"], f"{path}.fieldRef", _FIELDS_OF_VARIABLES)
    if "resourceFieldRef" in source:
        errors += check_resource_ref(source["resourceFieldRef"], f"{path}.resourceFieldRef")
    for key in ("configMapKeyRef", "secretKeyRef"):
        if key in source:
            errors += _check_key_ref(source[key], f"{path}.{key}")
    if not source:
        errors.append(
            invalid(
                path,
                "",
                "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`",
            )
        )
    elif has_value:
        errors.append(invalid(path, "", "may not be specified when `value` is not empty"))
    elif len(source) > 1:
        errors.append(invalid(path, "", "may not have more than one field specified at a time"))
    return errors


def _check_key_ref(reference: Document, path: str) -> list[FieldError]:
    errors = check(reference.get("name", ""), f"{path}.name", dns_subdomain_faults)
    key = reference.get("key", "")
    return errors + (check(key, f"{path}.key", config_key_faults) if key else [required(f"{path}.key")])


def _check_env_from(sources: list[Document], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for number, source in enumerate(sources):
        here = f"{path}[{number}]"
        if source.get("prefix"):
            errors += check(source["prefix"], f"{here}.prefix", _variable_name_faults)
        kinds = [key for key in ("configMapRef", "secretRef") if key in source]
        for key in kinds:
            name = source[key].get("name", "")
            at = f"{here}.{key}.name"
            errors += check(name, at, dns_subdomain_faults) if name else [required(at)]
        if not kinds:
            errors.append(invalid(path, "", "must specify one of: `configMapRef` or `secretRef`"))
        elif len(kinds) > 1:
            errors.append(invalid(path, "", "may not have more than one field specified at a time"))
    return errors


# --- handlers ---


def check_handlers(container: Document, path: str, grace_period: int) -> list[FieldError]:
    """Errors of the lifecycle handlers and probes."""
    errors: list[FieldError] = []
    for key in ("postStart", "preStop"):
        handler = (container.get("lifecycle") or {}).get(key)
        if handler is not None:
            errors += _check_handler(handler, f"{path}.lifecycle.{key}", grace_period)
    for key in _PROBES:
        if container.get(key) is not None:
            errors += _check_probe(container[key], f"{path}.{key}", key, grace_period)
    return errors


def check_no_handlers(container: Document, path: str) -> list[FieldError]:
    """An init container that ends has no use for handlers and probes."""
    return [
        forbidden(f"{path}.{key}", "may not be set for init containers without restartPolicy=Always")
        for key in ("lifecycle", *_PROBES)
        if container.get(key) is not None
    ]


def _check_probe(probe: Document, path: str, kind: str, grace_period: int) -> list[FieldError]:
    errors = _check_handler(probe, path, grace_period)
    errors += [
        invalid(f"{path}.{key}", probe[key], _NEGATIVE) for key in _PROBE_NUMBERS if probe.get(key, 0) < 0
    ]
    seconds, seconds_path = (
        probe.get("terminationGracePeriodSeconds"),
        f"{path}.terminationGracePeriodSeconds",
    )
    if seconds is not None and seconds <= 0:
        errors.append(invalid(seconds_path, seconds, "must be greater than 0"))
    if kind == "readinessProbe":
        if seconds is not None:
            errors.append(invalid(seconds_path, seconds, "must not be set for readinessProbes"))
    elif probe.get("successThreshold", 1) != 1:
        errors.append(invalid(f"{path}.successThreshold", probe["successThreshold"], "must be 1"))
    return errors


def _check_handler(handler: Document, path: str, grace_period: int) -> list[FieldError]:
    kinds = [key for key in ("exec", "httpGet", "tcpSocket", "grpc", "sleep") if handler.get(key) is not None]
    if not kinds:
        return [required(path, "must specify a handler type")]
    first, *others = kinds
    errors = _check_action(first, handler[first], f"{path}.{first}", grace_period)
    return errors + [
        forbidden(f"{path}.{other}", "may not specify more than 1 handler type") for other in others
    ]


def _check_action(kind: str, action: Document, path: str, grace_period: int) -> list[FieldError]:
    if kind == "exec":
        return [] if action.get("command") else [required(f"{path}.command")]
    if kind == "sleep":
        seconds = action.get("seconds", 0)
        if 0 <= seconds <= grace_period:
            return []
        why = f"must be non-negative and less than terminationGracePeriodSeconds ({grace_period})"
        return [invalid(path, seconds, why)]
    errors = [] if kind != "httpGet" or action.get("path") else [required(f"{path}.path")]
    errors += check_port(action.get("port", 0), f"{path}.port")
    if kind == "httpGet":
        if action.get("scheme") not in _SCHEMES:
            errors.append(not_supported(f"{path}.scheme", action.get("scheme", ""), _SCHEMES))
        for header in action.get("httpHeaders") or ():
            errors += check(header.get("name", ""), f"{path}.httpHeaders", _header_faults)
    return errors


def _header_faults(name: str) -> list[str]:
    if _HEADER_RE.fullmatch(name):
        return []
    return [
        "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex "
        "used for validation is '[-A-Za-z0-9]+')"
    ]


# --- resources ---


def check_resources(resources: Document, path: str) -> list[FieldError]:
    """Errors of requests and limits."""
    errors: list[FieldError] = []
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    for name, quantity in limits.items():
        errors += _check_resource(name, quantity, f"{path}.limits[{name}]")
    for name, quantity in requests.items():
        errors += _check_resource(name, quantity, f"{path}.requests[{name}]")
        limit = limits.get(name)
        shown = canonical(quantity)
        if limit is None:
            if not _overcommits(name):
                why = "Limit must be set for non overcommitable resources"
                errors.append(required(f"{path}.limits", why))
        elif value_of(quantity) != value_of(limit) and not _overcommits(name):
            why = f"must be equal to {name} limit of {canonical(limit)}"
            errors.append(invalid(f"{path}.requests", shown, why))
        elif value_of(quantity) > value_of(limit):
            why = f"must be less than or equal to {name} limit of {canonical(limit)}"
            errors.append(invalid(f"{path}.requests", shown, why))
    names = {*limits, *requests}
    if any(name.startswith(_HUGE_PAGES) for name in names) and not names & {"cpu", "memory"}:
        errors.append(forbidden(path, "HugePages require cpu or memory"))
    return errors


def _check_resource(name: str, quantity: Any, path: str) -> list[FieldError]:
    errors = check(name, path, qualified_name_faults)
    standard = name in _STANDARD_RESOURCES or name.startswith(_HUGE_PAGES)
    if "/" not in name and not standard and not errors:
        errors += [
            invalid(path, name, "must be a standard resource type or fully qualified"),
            invalid(path, name, "must be a standard resource for containers"),
        ]
    value = value_of(quantity)
    if value < 0:
        errors.append(invalid(path, canonical(quantity), _NEGATIVE))
    if "/" in name and "kubernetes.io/" not in name and value.denominator != 1:
        errors.append(invalid(path, canonical(quantity), "must be an integer"))
    return errors


def _overcommits(name: str) -> bool:
    native = "/" not in name or "kubernetes.io/" in name
    return native and not name.startswith(_HUGE_PAGES)
