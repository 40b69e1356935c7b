"""Ingress and IngressClass: defaults, validation and columns.

Source: `pkg/apis/networking/validation`.
"""

from __future__ import annotations

import re
from typing import Any

from emu.api.errors import FieldError, forbidden, invalid, not_supported, required, too_long
from emu.api.kinds import cells
from emu.api.kinds.ports import check_port
from emu.api.naming import check_reference, dns_label, dns_subdomain, port_name
from emu.api.resource import Column, Document
from emu.core.addresses import is_ip

INGRESS_COLUMNS = (
    cells.NAME,
    Column("Class"),
    Column("Hosts"),
    Column("Address"),
    Column("Ports"),
    cells.AGE,
)
CLASS_COLUMNS = (cells.NAME, Column("Controller"), Column("Parameters"), cells.AGE)

CLASS_ANNOTATION = "kubernetes.io/ingress.class"
_PATH_TYPES = ("Exact", "ImplementationSpecific", "Prefix")
_INVALID_SEQUENCES = ("//", "/./", "/../", "%2f", "%2F")
_INVALID_SUFFIXES = ("/..", "/.")
_MAX_CONTROLLER = 250
_SHOWN_HOSTS = 3
_WILDCARD = r"\*\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
_HTTP_PATH = r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+"


# --- Ingress ---


def default_ingress(document: Document) -> None:
    """An Ingress has a status."""
    document.setdefault("spec", {})
    document.setdefault("status", {}).setdefault("loadBalancer", {})


def validate_ingress(document: Document) -> list[FieldError]:
    """Errors of an Ingress."""
    spec = document["spec"]
    rules, backend = spec.get("rules") or [], spec.get("defaultBackend")
    errors: list[FieldError] = []
    if not rules and backend is None:
        either = "either `defaultBackend` or `rules` must be specified"
        errors.append(invalid("spec", spec.get("rules"), either))
    if backend is not None:
        errors += _check_backend(backend, "spec.defaultBackend")
    for number, rule in enumerate(rules):
        path = f"spec.rules[{number}]"
        errors += _check_rule_host(rule.get("host", ""), f"{path}.host")
        if rule.get("http") is not None:
            errors += _check_http(rule["http"], f"{path}.http")
    for number, entry in enumerate(spec.get("tls") or ()):
        path = f"spec.tls[{number}]"
        for index, host in enumerate(entry.get("hosts") or ()):
            errors += _check_host(host, f"{path}.hosts[{index}]")
        if entry.get("secretName") and (wrong := dns_subdomain(entry["secretName"])):
            errors.append(invalid(f"{path}.secretName", entry["secretName"], wrong))
    name = spec.get("ingressClassName")
    if name is not None and (wrong := dns_subdomain(name)):
        errors.append(invalid("spec.ingressClassName", name, wrong))
    return errors + _check_class_annotation(document)


def _check_class_annotation(document: Document) -> list[FieldError]:
    annotation = (document["metadata"].get("annotations") or {}).get(CLASS_ANNOTATION)
    name = document["spec"].get("ingressClassName")
    if annotation is None or name is None or annotation == name:
        return []
    same = "must match `ingressClassName` when both are specified"
    return [invalid(f"annotations.{CLASS_ANNOTATION}", annotation, same)]


def _check_rule_host(host: str, path: str) -> list[FieldError]:
    if not host:
        return []
    errors = _check_host(host, path)
    if is_ip(host):
        errors.insert(0, invalid(path, host, "must be a DNS name, not an IP address"))
    return errors


def _check_host(host: str, path: str) -> list[FieldError]:
    wrong = _wildcard(host) if "*" in host else dns_subdomain(host)
    return [invalid(path, host, wrong)] if wrong else []


def _wildcard(host: str) -> str:
    if len(host) > 253:
        return "must be no more than 253 bytes"
    if not re.fullmatch(_WILDCARD, host):
        return (
            "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which "
            "must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric "
            f"character (e.g. '*.example.com', regex used for validation is '{_WILDCARD}')"
        )
    return ""


def _check_http(http: Document, path: str) -> list[FieldError]:
    paths = http.get("paths") or []
    if not paths:
        return [required(f"{path}.paths")]
    return [
        error for number, entry in enumerate(paths) for error in _check_path(entry, f"{path}.paths[{number}]")
    ]


def _check_path(entry: Document, path: str) -> list[FieldError]:
    kind, text = entry.get("pathType"), entry.get("path", "")
    if kind is None:
        return [required(f"{path}.pathType", "pathType must be specified")]
    errors: list[FieldError] = []
    if kind not in _PATH_TYPES:
        errors.append(not_supported(f"{path}.pathType", kind, _PATH_TYPES))
    elif not text.startswith("/") and (text or kind != "ImplementationSpecific"):
        errors.append(invalid(f"{path}.path", text, "must be an absolute path"))
    if kind in ("Exact", "Prefix"):
        errors += [
            invalid(f"{path}.path", text, f"must not contain '{sequence}'")
            for sequence in _INVALID_SEQUENCES
            if sequence in text
        ]
        errors += [
            invalid(f"{path}.path", text, f"cannot end with '{suffix}'")
            for suffix in _INVALID_SUFFIXES
            if text.endswith(suffix)
        ]
    return errors + _check_backend(entry.get("backend") or {}, f"{path}.backend")


def _check_backend(backend: Document, path: str) -> list[FieldError]:
    resource, service = backend.get("resource"), backend.get("service")
    if resource is not None and service is not None:
        return [invalid(path, "", "cannot set both resource and service backends")]
    if resource is not None:
        return _check_typed_reference(resource, f"{path}.resource")
    if service is None:
        return [invalid(path, "", "resource or service backend is required")]
    errors: list[FieldError] = []
    if not service.get("name"):
        errors.append(required(f"{path}.service.name"))
    elif wrong := dns_label(service["name"]):
        errors.append(invalid(f"{path}.service.name", service["name"], wrong))
    port = service.get("port") or {}
    name, number = port.get("name"), port.get("number")
    if name and number:
        errors.append(invalid(path, "", "cannot set both port name & port number"))
    elif name:
        if wrong := port_name(name):
            errors.append(invalid(f"{path}.service.port.name", name, wrong))
    elif number:
        errors += check_port(number, f"{path}.service.port.number")
    else:
        errors.append(required(path, "port name or number is required"))
    return errors


def _check_typed_reference(reference: Document, path: str) -> list[FieldError]:
    """A typed reference to an object."""
    errors: list[FieldError] = []
    group = reference.get("apiGroup")
    if group is not None and (wrong := dns_subdomain(group)):
        errors.append(invalid(f"{path}.apiGroup", group, wrong))
    return errors + check_reference(reference, path)


def validate_ingress_status(document: Document) -> list[FieldError]:
    """Errors of an Ingress's status."""
    errors: list[FieldError] = []
    balancer = document["status"].get("loadBalancer") or {}
    for number, entry in enumerate(balancer.get("ingress") or ()):
        path = f"status.loadBalancer.ingress[{number}]"
        if entry.get("ip") and not is_ip(entry["ip"]):
            form = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
            errors.append(invalid(f"{path}.ip", entry["ip"], form))
        if hostname := entry.get("hostname"):
            if wrong := dns_subdomain(hostname):
                errors.append(invalid(f"{path}.hostname", hostname, wrong))
            if is_ip(hostname):
                name = "must be a DNS name, not an IP address"
                errors.append(invalid(f"{path}.hostname", hostname, name))
    return errors


def ingress_cells(document: Document, now: float) -> list[Any]:
    """A row of `kubectl get ingresses`."""
    spec = document["spec"]
    balancer = (document.get("status") or {}).get("loadBalancer") or {}
    addresses = {entry.get("ip") or entry.get("hostname") or "" for entry in balancer.get("ingress") or ()}
    return [
        document["metadata"]["name"],
        spec.get("ingressClassName", cells.NONE),
        _hosts([rule.get("host", "") for rule in spec.get("rules") or ()]),
        ",".join(sorted(addresses - {""})),
        "80, 443" if spec.get("tls") else "80",
        cells.age(document, now),
    ]


def _hosts(hosts: list[str]) -> str:
    """The first hosts with a name, and how many rules are left."""
    named: list[str] = []
    more = False
    for host in hosts:
        more = more or len(named) == _SHOWN_HOSTS
        if host and not more:
            named.append(host)
    if not named:
        return "*"
    return ",".join(named) + (f" + {len(hosts) - _SHOWN_HOSTS} more..." if more else "")


# --- IngressClass ---


def default_class(document: Document) -> None:
    """Parameters are those of the cluster, where nothing else is said."""
    parameters = document.setdefault("spec", {}).get("parameters")
    if parameters is not None:
        parameters.setdefault("scope", "Cluster")


def validate_class(document: Document) -> list[FieldError]:
    """Errors of an IngressClass."""
    spec = document["spec"]
    controller, path = spec.get("controller", ""), "spec.controller"
    errors: list[FieldError] = []
    if len(controller) > _MAX_CONTROLLER:
        errors.append(too_long(path, _MAX_CONTROLLER))
    errors += _check_domain_prefixed(controller, path)
    if spec.get("parameters") is not None:
        errors += _check_parameters(spec["parameters"], "spec.parameters")
    return errors


def _check_domain_prefixed(text: str, path: str) -> list[FieldError]:
    """`acme.io/foo`."""
    if not text:
        return [required(path)]
    host, _, rest = text.partition("/")
    if not host or not rest:
        return [invalid(path, text, 'must be a domain-prefixed path (such as "acme.io/foo")')]
    errors: list[FieldError] = []
    if wrong := dns_subdomain(host):
        errors.append(invalid(path, host, wrong))
    if not re.fullmatch(_HTTP_PATH, rest):
        form = f"Invalid path (e.g. '/path', regex used for validation is '{_HTTP_PATH}')"
        errors.append(invalid(path, rest, form))
    return errors


def _check_parameters(parameters: Document, path: str) -> list[FieldError]:
    errors = _check_typed_reference(parameters, path)
    scope, namespace = parameters["scope"], parameters.get("namespace")
    if scope not in ("Cluster", "Namespace"):
        errors.append(not_supported(f"{path}.scope", scope, ("Cluster", "Namespace")))
    elif scope == "Cluster" and namespace is not None:
        errors.append(forbidden(f"{path}.namespace", "`parameters.scope` is set to 'Cluster'"))
    elif scope == "Namespace" and namespace is None:
        errors.append(required(f"{path}.namespace", "`parameters.scope` is set to 'Namespace'"))
    elif namespace is not None and (wrong := dns_label(namespace)):
        errors.append(invalid(f"{path}.namespace", namespace, wrong))
    return errors


def validate_class_update(new: Document, old: Document) -> list[FieldError]:
    """The controller is for good."""
    controller = new["spec"].get("controller")
    if controller != old["spec"].get("controller"):
        return [invalid("spec.controller", controller, "field is immutable")]
    return []


def class_cells(document: Document, now: float) -> list[Any]:
    """A row of `kubectl get ingressclasses`."""
    spec = document["spec"]
    parameters = spec.get("parameters")
    shown = cells.NONE
    if parameters is not None:
        group = f".{parameters['apiGroup']}" if parameters.get("apiGroup") is not None else ""
        shown = f"{parameters['kind']}{group}/{parameters['name']}"
    return [document["metadata"]["name"], spec.get("controller", ""), shown, cells.age(document, now)]
