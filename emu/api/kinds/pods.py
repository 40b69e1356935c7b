"""Pods: defaults, validation and fields. Workloads use the same for their templates."""

from __future__ import annotations

from collections.abc import Mapping

from emu.api.errors import FieldError, forbidden, invalid
from emu.api.kinds.pod_specs import validate_spec as validate_spec
from emu.api.kinds.quantities import canonical, value_of
from emu.api.resource import Document

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
_COMPUTE = ("cpu", "memory")
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
    _default_requests(spec)
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
    spec["restartPolicy"] = spec.get("restartPolicy") or "Always"
    spec.setdefault("terminationGracePeriodSeconds", 30)
    spec["dnsPolicy"] = spec.get("dnsPolicy") or "ClusterFirst"
    spec.setdefault("securityContext", {})
    spec["schedulerName"] = spec.get("schedulerName") or "default-scheduler"
    _canonicalize(spec, "overhead")
    for volume in spec.get("volumes") or ():
        _default_volume(volume)
    for container in (*(spec.get("initContainers") or ()), *(spec.get("containers") or ())):
        _default_container(container, host_network=bool(spec.get("hostNetwork")))


def _default_container(container: Document, *, host_network: bool) -> None:
    container.setdefault("terminationMessagePath", "/dev/termination-log")
    container.setdefault("terminationMessagePolicy", "File")
    resources = container.setdefault("resources", {})
    _canonicalize(resources, "limits")
    _canonicalize(resources, "requests")
    image = str(container.get("image", ""))
    if "imagePullPolicy" not in container and image:
        tag = image.rpartition("/")[2].partition(":")[2]
        latest = "@" not in image and tag in ("", "latest")
        container["imagePullPolicy"] = "Always" if latest else "IfNotPresent"
    for port in container.get("ports") or ():
        port["protocol"] = port.get("protocol") or "TCP"
        if not port.get("hostPort"):
            port.pop("hostPort", None)
            if host_network and "containerPort" in port:
                port["hostPort"] = port["containerPort"]
    for key in ("livenessProbe", "readinessProbe", "startupProbe"):
        if probe := container.get(key):
            for field, value in _PROBE_DEFAULTS.items():
                probe[field] = probe.get(field) or value
            _default_http(probe)
    lifecycle = container.get("lifecycle") or {}
    for key in ("postStart", "preStop"):
        _default_http(lifecycle.get(key) or {})
    for variable in container.get("env") or ():
        _default_field_ref(variable.get("valueFrom") or {})


def _default_http(handler: Document) -> None:
    if http := handler.get("httpGet"):
        http["path"] = http.get("path") or "/"
        http["scheme"] = http.get("scheme") or "HTTP"


def _default_field_ref(holder: Document) -> None:
    if reference := holder.get("fieldRef"):
        reference["apiVersion"] = reference.get("apiVersion") or "v1"


def _default_volume(volume: Document) -> None:
    """What has no source is an emptyDir; files have modes."""
    if set(volume) <= {"name"}:
        volume["emptyDir"] = {}
    for key in ("configMap", "downwardAPI", "projected", "secret"):
        if (source := volume.get(key)) is not None:
            source.setdefault("defaultMode", 0o644)
    for file in (volume.get("downwardAPI") or {}).get("items") or ():
        _default_field_ref(file)
    for source in (volume.get("projected") or {}).get("sources") or ():
        if "serviceAccountToken" in source:
            source["serviceAccountToken"].setdefault("expirationSeconds", 3600)
        for file in (source.get("downwardAPI") or {}).get("items") or ():
            _default_field_ref(file)
    if "hostPath" in volume:
        volume["hostPath"].setdefault("type", "")
    if "sizeLimit" in (volume.get("emptyDir") or {}):
        volume["emptyDir"]["sizeLimit"] = canonical(volume["emptyDir"]["sizeLimit"])


def _canonicalize(holder: Document, key: str) -> None:
    """Quantities are stored in one form. Raises BadRequestError."""
    if holder.get(key):
        holder[key] = {name: canonical(quantity) for name, quantity in holder[key].items()}


def _default_requests(spec: Document) -> None:
    """What is limited is requested, unless less is."""
    for container in (*(spec.get("initContainers") or ()), *(spec.get("containers") or ())):
        resources = container["resources"]
        if resources.get("limits"):
            resources["requests"] = {**resources["limits"], **(resources.get("requests") or {})}


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
    """The class by the amounts of CPU and memory, of which zero counts as none."""
    entries = [
        {
            key: {name: value_of((container["resources"].get(key) or {}).get(name, 0)) for name in _COMPUTE}
            for key in ("limits", "requests")
        }
        for container in (*(spec.get("initContainers") or ()), *(spec.get("containers") or ()))
    ]
    if not any(entry[key][name] for entry in entries for key in entry for name in _COMPUTE):
        return "BestEffort"
    if all(
        entry["limits"][name] and entry["limits"][name] == entry["requests"][name]
        for entry in entries
        for name in _COMPUTE
    ):
        return "Guaranteed"
    return "Burstable"


# --- validation ---


def validate(document: Document) -> list[FieldError]:
    """Errors of a Pod."""
    spec = document["spec"]
    errors = validate_spec(spec, "spec", of_pod=True)
    errors += [
        invalid(f"spec.{key}[{number}].image", image, "must not have leading or trailing whitespace")
        for key in ("containers", "initContainers")
        for number, container in enumerate(spec.get(key) or ())
        if (image := container.get("image", "")) != image.strip()
    ]
    return errors if "resourceVersion" in document["metadata"] else errors + _check_new(spec)


def _check_new(spec: Document) -> list[FieldError]:
    """What a Pod may not have from the start."""
    errors: list[FieldError] = []
    if spec.get("ephemeralContainers"):
        errors.append(forbidden("spec.ephemeralContainers", "cannot be set on create"))
    if spec.get("nodeName") and spec.get("schedulingGates"):
        why = "cannot be set until all schedulingGates have been cleared"
        errors.append(forbidden("spec.nodeName", why))
    return errors


# --- selectors ---


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
