"""Pods: defaults, validation and columns. Workloads use the same for their templates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from emu.api.errors import FieldError, duplicate, forbidden, invalid, not_supported, required
from emu.api.kinds import cells
from emu.api.kinds.ports import PROTOCOLS
from emu.api.naming import check_labels, dns_label, dns_subdomain, port_name
from emu.api.resource import Column, Document

COLUMNS = (
    cells.NAME,
    Column("Ready"),
    Column("Status"),
    Column("Restarts"),
    cells.AGE,
    Column("IP", priority=1),
    Column("Node", priority=1),
    Column("Nominated Node", priority=1),
    Column("Readiness Gates", priority=1),
)
FIELD_LABELS = (
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.schedulerName",
    "spec.serviceAccountName",
    "spec.hostNetwork",
    "status.phase",
    "status.podIP",
    "status.nominatedNodeName",
)
_PROBE_DEFAULTS = {
    "timeoutSeconds": 1,
    "periodSeconds": 10,
    "successThreshold": 1,
    "failureThreshold": 3,
}


# --- defaults ---


def default(document: Document) -> None:
    """Defaults of a Pod, as of a fresh one."""
    spec = document.setdefault("spec", {})
    default_spec(spec)
    spec.setdefault("enableServiceLinks", True)
    spec.setdefault("preemptionPolicy", "PreemptLowerPriority")
    spec.setdefault("priority", 0)
    spec.setdefault("serviceAccountName", "default")
    spec["serviceAccount"] = spec["serviceAccountName"]
    _default_tolerations(spec)
    status = document.setdefault("status", {})
    status.setdefault("phase", "Pending")
    status.setdefault("qosClass", _qos(spec))


def default_spec(spec: Document) -> None:
    """Defaults of a pod's spec, in a Pod or in a template."""
    spec.setdefault("restartPolicy", "Always")
    spec.setdefault("terminationGracePeriodSeconds", 30)
    spec.setdefault("dnsPolicy", "ClusterFirst")
    spec.setdefault("securityContext", {})
    spec.setdefault("schedulerName", "default-scheduler")
    for container in (*(spec.get("initContainers") or ()), *(spec.get("containers") or ())):
        _default_container(container, host_network=bool(spec.get("hostNetwork")))


def _default_container(container: Document, *, host_network: bool) -> None:
    container.setdefault("terminationMessagePath", "/dev/termination-log")
    container.setdefault("terminationMessagePolicy", "File")
    container.setdefault("resources", {})
    image = str(container.get("image", ""))
    if "imagePullPolicy" not in container and image:
        tag = image.rpartition("/")[2].partition(":")[2]
        latest = "@" not in image and tag in ("", "latest")
        container["imagePullPolicy"] = "Always" if latest else "IfNotPresent"
    for port in container.get("ports") or ():
        port.setdefault("protocol", "TCP")
        if not port.get("hostPort"):
            port.pop("hostPort", None)
            if host_network and "containerPort" in port:
                port["hostPort"] = port["containerPort"]
    for key in ("livenessProbe", "readinessProbe", "startupProbe"):
        if probe := container.get(key):
            for field, value in _PROBE_DEFAULTS.items():
                probe[field] = probe.get(field) or value
            if http := probe.get("httpGet"):
                http.setdefault("path", "/")
                http.setdefault("scheme", "HTTP")
    for variable in container.get("env") or ():
        reference = (variable.get("valueFrom") or {}).get("fieldRef")
        if reference:
            reference.setdefault("apiVersion", "v1")


def _default_tolerations(spec: Document) -> None:
    """The admission plug-in DefaultTolerationSeconds."""
    tolerations = spec.setdefault("tolerations", [])
    for key in ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"):
        if not any(
            t.get("key") in (key, None, "") and t.get("effect") in ("NoExecute", None, "")
            for t in tolerations
        ):
            tolerations.append(
                {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}
            )


def _qos(spec: Document) -> str:
    resources = [
        container.get("resources") or {}
        for container in (*(spec.get("initContainers") or ()), *(spec.get("containers") or ()))
    ]
    if not any(entry.get("requests") or entry.get("limits") for entry in resources):
        return "BestEffort"
    for entry in resources:
        limits, requests = entry.get("limits") or {}, entry.get("requests") or {}
        for name in ("cpu", "memory"):
            if name not in limits or requests.get(name, limits[name]) != limits[name]:
                return "Burstable"
    return "Guaranteed"


# --- validation ---


def validate(document: Document) -> list[FieldError]:
    """Errors of a Pod."""
    return validate_spec(document["spec"], "spec")


def validate_spec(spec: Document, path: str) -> list[FieldError]:
    """Errors of a pod's spec at `path`."""
    containers = spec.get("containers") or []
    errors: list[FieldError] = []
    if not containers:
        errors.append(required(f"{path}.containers"))
    names: set[str] = set()
    for key in ("initContainers", "containers"):
        for number, container in enumerate(spec.get(key) or ()):
            errors += _validate_container(container, f"{path}.{key}[{number}]", names)
    errors += _check_host_ports(containers, f"{path}.containers")
    errors += _validate_scalars(spec, path)
    errors += check_labels(spec.get("nodeSelector"), f"{path}.nodeSelector")
    return errors


def _validate_scalars(spec: Document, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for key, supported in (
        ("restartPolicy", ("Always", "OnFailure", "Never")),
        ("dnsPolicy", ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None")),
    ):
        if spec.get(key) not in supported:
            errors.append(not_supported(f"{path}.{key}", spec.get(key), supported))
    if spec.get("terminationGracePeriodSeconds", 0) < 0:
        value = spec["terminationGracePeriodSeconds"]
        errors.append(
            invalid(f"{path}.terminationGracePeriodSeconds", value, "must be greater than or equal to 0")
        )
    errors += [
        invalid(f"{path}.{key}", spec[key], wrong)
        for key in ("hostname", "subdomain")
        if spec.get(key) and (wrong := dns_label(spec[key]))
    ]
    if spec.get("nodeName") and (wrong := dns_subdomain(spec["nodeName"])):
        errors.append(invalid(f"{path}.nodeName", spec["nodeName"], wrong))
    return errors


def _validate_container(container: Document, path: str, names: set[str]) -> list[FieldError]:
    errors: list[FieldError] = []
    name = container.get("name", "")
    if not name:
        errors.append(required(f"{path}.name"))
    elif wrong := dns_label(name):
        errors.append(invalid(f"{path}.name", name, wrong))
    elif name in names:
        errors.append(duplicate(f"{path}.name", name))
    names.add(name)
    image = container.get("image", "")
    if not image:
        errors.append(required(f"{path}.image"))
    elif image != image.strip():
        errors.append(invalid(f"{path}.image", image, "must not have leading or trailing whitespace"))
    policies = ("Always", "IfNotPresent", "Never")
    if image and container.get("imagePullPolicy") not in policies:
        errors.append(not_supported(f"{path}.imagePullPolicy", container.get("imagePullPolicy"), policies))
    errors += _validate_ports(container.get("ports") or [], f"{path}.ports")
    for number, variable in enumerate(container.get("env") or ()):
        if not variable.get("name"):
            errors.append(required(f"{path}.env[{number}].name"))
    for key in ("livenessProbe", "readinessProbe", "startupProbe"):
        if container.get(key):
            errors += _validate_probe(container[key], f"{path}.{key}", key)
    return errors


def _validate_ports(ports: list[Document], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    names: set[str] = set()
    for number, port in enumerate(ports):
        here = f"{path}[{number}]"
        name = port.get("name")
        if name:
            if wrong := port_name(name):
                errors.append(invalid(f"{here}.name", name, wrong))
            elif name in names:
                errors.append(duplicate(f"{here}.name", name))
            names.add(name)
        if not port.get("containerPort"):
            errors.append(required(f"{here}.containerPort"))
        else:
            errors += check_port(port["containerPort"], f"{here}.containerPort")
        if port.get("hostPort"):
            errors += check_port(port["hostPort"], f"{here}.hostPort")
        if port.get("protocol") not in PROTOCOLS:
            errors.append(not_supported(f"{here}.protocol", port.get("protocol"), PROTOCOLS))
    return errors


def _check_host_ports(containers: list[Document], path: str) -> list[FieldError]:
    """A host port is there once for each protocol and host address."""
    errors: list[FieldError] = []
    seen: set[tuple[Any, ...]] = set()
    for number, container in enumerate(containers):
        for index, port in enumerate(container.get("ports") or ()):
            if not port.get("hostPort"):
                continue
            at = (port.get("protocol"), port.get("hostIP", ""), port["hostPort"])
            if at in seen:
                errors.append(
                    duplicate(f"{path}[{number}].ports[{index}].hostPort", f"{at[0]}/{at[1]}/{at[2]}")
                )
            seen.add(at)
    return errors


def _validate_probe(probe: Document, path: str, kind: str) -> list[FieldError]:
    errors: list[FieldError] = []
    handlers = [key for key in ("exec", "httpGet", "tcpSocket", "grpc") if probe.get(key) is not None]
    if not handlers:
        errors.append(required(path, "must specify a handler type"))
    errors += [
        forbidden(f"{path}.{extra}", "may not specify more than 1 handler type") for extra in handlers[1:]
    ]
    for handler in handlers:
        if handler != "exec":
            port = probe[handler].get("port", 0)
            if isinstance(port, int):
                errors += check_port(port, f"{path}.{handler}.port")
            elif wrong := port_name(port):
                errors.append(invalid(f"{path}.{handler}.port", port, wrong))
    errors += [
        invalid(f"{path}.{key}", probe[key], "must be greater than or equal to 0")
        for key in (
            "initialDelaySeconds",
            "timeoutSeconds",
            "periodSeconds",
            "successThreshold",
            "failureThreshold",
        )
        if probe.get(key, 0) < 0
    ]
    if kind != "readinessProbe" and probe.get("successThreshold", 1) != 1:
        errors.append(invalid(f"{path}.successThreshold", probe["successThreshold"], "must be 1"))
    return errors


def check_port(port: Any, path: str) -> list[FieldError]:
    """A port number."""
    if isinstance(port, int) and 1 <= port <= 65535:
        return []
    return [invalid(path, port, "must be between 1 and 65535, inclusive")]


def validate_update(new: Document, old: Document) -> list[FieldError]:
    """A pod's spec is fixed, but for a few fields."""
    before, after = _fixed_part(old["spec"]), _fixed_part(new["spec"])
    if before == after:
        return []
    return [
        forbidden(
            "spec",
            "pod updates may not change fields other than `spec.containers[*].image`,"
            "`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,"
            "`spec.tolerations` (only additions to existing tolerations),"
            "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)",
        )
    ]


def _fixed_part(spec: Document) -> Document:
    fixed = {key: value for key, value in spec.items() if key not in ("tolerations", "activeDeadlineSeconds")}
    for key in ("containers", "initContainers"):
        fixed[key] = [
            {name: value for name, value in container.items() if name != "image"}
            for container in spec.get(key) or ()
        ]
    return fixed


# --- selectors and columns ---


def fields(document: Document) -> Mapping[str, str]:
    """What field selectors see."""
    spec, status = document["spec"], document.get("status") or {}
    return {
        "spec.nodeName": spec.get("nodeName", ""),
        "spec.restartPolicy": spec.get("restartPolicy", ""),
        "spec.schedulerName": spec.get("schedulerName", ""),
        "spec.serviceAccountName": spec.get("serviceAccountName", ""),
        "spec.hostNetwork": str(bool(spec.get("hostNetwork"))).lower(),
        "status.phase": status.get("phase", ""),
        "status.podIP": status.get("podIP", ""),
        "status.nominatedNodeName": status.get("nominatedNodeName", ""),
    }


def row(document: Document, now: float) -> list[Any]:
    """A row of `kubectl get pods`."""
    spec, status = document["spec"], document.get("status") or {}
    statuses = status.get("containerStatuses") or []
    ready = sum(1 for entry in statuses if entry.get("ready"))
    gates = spec.get("readinessGates") or []
    conditions = {entry["type"]: entry["status"] for entry in status.get("conditions") or ()}
    passed = sum(1 for gate in gates if conditions.get(gate["conditionType"]) == "True")
    return [
        document["metadata"]["name"],
        f"{ready}/{len(spec.get('containers') or ())}",
        _status_text(document, conditions),
        _restarts(statuses, now),
        cells.age(document, now),
        status.get("podIP") or cells.NONE,
        spec.get("nodeName") or cells.NONE,
        status.get("nominatedNodeName") or cells.NONE,
        f"{passed}/{len(gates)}" if gates else cells.NONE,
    ]


def _restarts(statuses: list[Document], now: float) -> str:
    count = sum(entry.get("restartCount", 0) for entry in statuses)
    ended = [
        entry["lastState"]["terminated"]["finishedAt"]
        for entry in statuses
        if (entry.get("lastState") or {}).get("terminated", {}).get("finishedAt")
    ]
    return f"{count} ({cells.since(max(ended), now)} ago)" if count and ended else str(count)


def _status_text(document: Document, conditions: Mapping[str, str]) -> str:
    status = document.get("status") or {}
    text: str = status.get("reason") or status.get("phase", "")
    running = False
    for entry in reversed(status.get("containerStatuses") or []):
        state = entry.get("state") or {}
        waiting, terminated = state.get("waiting") or {}, state.get("terminated") or {}
        if waiting.get("reason"):
            text = waiting["reason"]
        elif terminated:
            signal, code = terminated.get("signal"), terminated.get("exitCode", 0)
            text = terminated.get("reason") or (f"Signal:{signal}" if signal else f"ExitCode:{code}")
        elif entry.get("ready") and state.get("running"):
            running = True
    if text == "Completed" and running:
        text = "Running" if conditions.get("Ready") == "True" else "NotReady"
    if document["metadata"].get("deletionTimestamp"):
        return "Unknown" if status.get("reason") == "NodeLost" else "Terminating"
    return text
