"""What is wrong with a pod's spec, in a Pod or in the template of a workload.

Source: `ValidatePodSpec` in `pkg/apis/core/validation`.
"""

from __future__ import annotations

from typing import Any

from emu.api.errors import FieldError, duplicate, forbidden, invalid, not_supported, required
from emu.api.kinds.containers import (
    check_container,
    check_handlers,
    check_host_ports,
    check_ids,
    check_no_handlers,
    check_resources,
    check_restart_policy,
)
from emu.api.kinds.ip_fields import check_ip
from emu.api.kinds.scheduling import check_scheduling
from emu.api.kinds.volumes import check_volumes
from emu.api.naming import (
    check,
    check_labels,
    dns_label_faults,
    dns_search_faults,
    dns_subdomain_faults,
    qualified_name_faults,
)
from emu.api.resource import Document

_ENUMERATIONS = (
    ("restartPolicy", ("Always", "OnFailure", "Never")),
    ("dnsPolicy", ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None")),
)
_PREEMPTION_POLICIES = ("PreemptLowerPriority", "Never")
_OPERATING_SYSTEMS = ("linux", "windows")
_MAX_INT32 = (1 << 31) - 1
_MAX_NAMESERVERS = 3
_MAX_SEARCHES = 32
_MAX_SEARCH_CHARACTERS = 2048


def validate_spec(spec: Document, path: str, *, of_pod: bool = False) -> list[FieldError]:
    """Errors of a pod's spec at `path`; some rules hold for Pods (`of_pod`) and not for templates."""
    volumes, errors = check_volumes(spec.get("volumes") or [], f"{path}.volumes")
    grace_period = spec.get("terminationGracePeriodSeconds", 30)
    containers, init = spec.get("containers") or [], spec.get("initContainers") or []
    if not containers:
        errors.append(required(f"{path}.containers"))
    names: set[str] = set()
    for number, container in enumerate(containers):
        here, name = f"{path}.containers[{number}]", container.get("name", "")
        errors += check_container(container, here, volumes)
        if name in names:
            errors.append(duplicate(f"{here}.name", name))
        names.add(name)
        errors += check_handlers(container, here, grace_period)
        errors += check_restart_policy(container, here)
    errors += check_host_ports(
        [(f"{path}.containers[{number}]", container) for number, container in enumerate(containers)]
    )
    for number, container in enumerate(init):
        here, name = f"{path}.initContainers[{number}]", container.get("name", "")
        errors += check_container(container, here, volumes)
        errors += check_restart_policy(container, here)
        if name in names:
            errors.append(duplicate(f"{here}.name", name))
        elif name:
            names.add(name)
        # They run one by one, so each is judged for itself.
        errors += check_host_ports([(here, container)])
        if container.get("restartPolicy") == "Always":
            errors += check_handlers(container, here, grace_period)
        else:
            errors += check_no_handlers(container, here)
    errors += _check_host_network(spec, path, of_pod=of_pod)
    errors += [
        not_supported(f"{path}.{key}", spec.get(key, ""), supported)
        for key, supported in _ENUMERATIONS
        if spec.get(key) not in supported
    ]
    errors += check_labels(spec.get("nodeSelector"), f"{path}.nodeSelector")
    errors += _check_security(spec, path)
    errors += _check_dns_config(spec, f"{path}.dnsConfig")
    for number, gate in enumerate(spec.get("readinessGates") or ()):
        at = f"{path}.readinessGates[{number}].conditionType"
        errors += check(gate.get("conditionType", ""), at, qualified_name_faults)
    errors += check_scheduling(spec, path)
    return errors + _check_scalars(spec, path)


def _check_host_network(spec: Document, path: str, *, of_pod: bool) -> list[FieldError]:
    if not spec.get("hostNetwork"):
        return []
    return [
        invalid(
            f"{path}.containers[{number}].ports[{index}].hostPort",
            port.get("hostPort", 0),
            "must match `containerPort` when `hostNetwork` is true",
        )
        for number, container in enumerate(spec.get("containers") or ())
        for index, port in enumerate(container.get("ports") or ())
        if (of_pod or port.get("hostPort")) and port.get("hostPort", 0) != port.get("containerPort", 0)
    ]


def _check_security(spec: Document, path: str) -> list[FieldError]:
    errors = check_ids(spec.get("securityContext") or {}, f"{path}.securityContext")
    if spec.get("shareProcessNamespace") and spec.get("hostPID"):
        why = "ShareProcessNamespace and HostPID cannot both be enabled"
        errors.append(invalid(f"{path}.securityContext.shareProcessNamespace", True, why))
    if spec.get("hostUsers") is False:
        errors += [
            forbidden(f"{path}.{shown}", "when `pod.Spec.HostUsers` is false")
            for key, shown in (("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC"))
            if spec.get(key)
        ]
    return errors


def _check_dns_config(spec: Document, path: str) -> list[FieldError]:
    config = spec.get("dnsConfig")
    if spec.get("dnsPolicy") == "None":
        if config is None:
            return [required(path, "must provide `dnsConfig` when `dnsPolicy` is None")]
        if not config.get("nameservers"):
            why = "must provide at least one DNS nameserver when `dnsPolicy` is None"
            return [required(f"{path}.nameservers", why)]
    errors: list[FieldError] = []
    servers, searches = (config or {}).get("nameservers") or [], (config or {}).get("searches") or []
    if len(servers) > _MAX_NAMESERVERS:
        why = f"must not have more than {_MAX_NAMESERVERS} nameservers"
        errors.append(invalid(f"{path}.nameservers", servers, why))
    for number, server in enumerate(servers):
        errors += check_ip(server, f"{path}.nameservers[{number}]")
    if len(searches) > _MAX_SEARCHES:
        why = f"must not have more than {_MAX_SEARCHES} search paths"
        errors.append(invalid(f"{path}.searches", searches, why))
    if len(" ".join(searches)) > _MAX_SEARCH_CHARACTERS:
        limit = f"{_MAX_SEARCH_CHARACTERS} characters (including spaces)"
        why = f"must not have more than {limit} in the search list"
        errors.append(invalid(f"{path}.searches", searches, why))
    for number, search in enumerate(searches):
        if search != ".":
            errors += check(search.removesuffix("."), f"{path}.searches[{number}]", dns_search_faults)
    errors += [
        required(f"{path}.options[{number}]", "must not be empty")
        for number, option in enumerate((config or {}).get("options") or ())
        if not option.get("name")
    ]
    return errors


def _check_scalars(spec: Document, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for key, rule in (
        ("serviceAccountName", dns_subdomain_faults),
        ("nodeName", dns_subdomain_faults),
        ("hostname", dns_label_faults),
        ("subdomain", dns_label_faults),
        ("priorityClassName", dns_subdomain_faults),
    ):
        if spec.get(key):
            errors += check(spec[key], f"{path}.{key}", rule)
    if "runtimeClassName" in spec:
        errors += check(spec["runtimeClassName"], f"{path}.runtimeClassName", dns_subdomain_faults)
    deadline: Any = spec.get("activeDeadlineSeconds")
    if deadline is not None and not 1 <= deadline <= _MAX_INT32:
        why = f"must be between 1 and {_MAX_INT32}, inclusive"
        errors.append(invalid(f"{path}.activeDeadlineSeconds", deadline, why))
    for number, alias in enumerate(spec.get("hostAliases") or ()):
        here = f"{path}.hostAliases[{number}]"
        errors += check_ip(alias.get("ip", ""), f"{here}.ip")
        for index, name in enumerate(alias.get("hostnames") or ()):
            errors += check(name, f"{here}.hostnames[{index}]", dns_subdomain_faults)
    policy = spec.get("preemptionPolicy")
    if policy is not None and policy not in _PREEMPTION_POLICIES:
        errors.append(not_supported(f"{path}.preemptionPolicy", policy, _PREEMPTION_POLICIES))
    if spec.get("overhead"):
        errors += check_resources({"limits": spec["overhead"]}, f"{path}.overhead")
    system = spec.get("os")
    if system is not None:
        if not system.get("name"):
            errors.append(required(f"{path}.os.name", "cannot be empty"))
        elif system["name"] not in _OPERATING_SYSTEMS:
            errors.append(not_supported(f"{path}.os", system["name"], _OPERATING_SYSTEMS))
    return errors
