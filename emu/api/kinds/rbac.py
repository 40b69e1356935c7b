"""Role, ClusterRole and their bindings: stored, not enforced.

Source: `pkg/apis/rbac/v1/defaults.go`, `pkg/apis/rbac/validation`.
"""

from __future__ import annotations

from typing import Any

from emu.api.errors import FieldError, invalid, not_supported, required
from emu.api.kinds import cells
from emu.api.kinds.label_selectors import check_label_selector
from emu.api.naming import dns_subdomain, path_segment
from emu.api.resource import Column, Document

BINDING_COLUMNS = (
    cells.NAME,
    Column("Role"),
    cells.AGE,
    Column("Users", priority=1),
    Column("Groups", priority=1),
    Column("ServiceAccounts", priority=1),
)
GROUP = "rbac.authorization.k8s.io"


# --- roles ---


def default_role(document: Document) -> None:
    """A role has rules, if only none."""
    document.setdefault("rules", [])


def validate_role(document: Document) -> list[FieldError]:
    """Errors of a Role."""
    return [
        error
        for number, rule in enumerate(document["rules"])
        for error in _check_rule(rule, f"rules[{number}]", namespaced=True)
    ]


def validate_cluster_role(document: Document) -> list[FieldError]:
    """Errors of a ClusterRole."""
    errors = [
        error
        for number, rule in enumerate(document["rules"])
        for error in _check_rule(rule, f"rules[{number}]", namespaced=False)
    ]
    aggregation = document.get("aggregationRule")
    if aggregation is not None:
        path = "aggregationRule.clusterRoleSelectors"
        selectors = aggregation.get("clusterRoleSelectors") or []
        if not selectors:
            least = "at least one clusterRoleSelector required if aggregationRule is non-nil"
            errors.append(required(path, least))
        for number, selector in enumerate(selectors):
            errors += check_label_selector(selector, f"{path}[{number}]")
    return errors


def _check_rule(rule: Document, path: str, *, namespaced: bool) -> list[FieldError]:
    errors: list[FieldError] = []
    if not rule.get("verbs"):
        errors.append(required(f"{path}.verbs", "verbs must contain at least one value"))
    urls = rule.get("nonResourceURLs")
    if urls:
        here = f"{path}.nonResourceURLs"
        if namespaced:
            errors.append(invalid(here, urls, "namespaced rules cannot apply to non-resource URLs"))
        if rule.get("apiGroups") or rule.get("resources") or rule.get("resourceNames"):
            both = "rules cannot apply to both regular resources and non-resource URLs"
            errors.append(invalid(here, urls, both))
        return errors
    if not rule.get("apiGroups"):
        group = "resource rules must supply at least one api group"
        errors.append(required(f"{path}.apiGroups", group))
    if not rule.get("resources"):
        resource = "resource rules must supply at least one resource"
        errors.append(required(f"{path}.resources", resource))
    return errors


# --- bindings ---


def default_binding(document: Document) -> None:
    """Roles, users and groups are of the group rbac.authorization.k8s.io."""
    role = document.setdefault("roleRef", {})
    if not role.get("apiGroup"):
        role["apiGroup"] = GROUP
    for subject in document.get("subjects") or ():
        if not subject.get("apiGroup") and subject.get("kind") in ("User", "Group"):
            subject["apiGroup"] = GROUP


def validate_role_binding(document: Document) -> list[FieldError]:
    """Errors of a RoleBinding."""
    return _check_binding(document, ("Role", "ClusterRole"), namespaced=True)


def validate_cluster_role_binding(document: Document) -> list[FieldError]:
    """Errors of a ClusterRoleBinding."""
    return _check_binding(document, ("ClusterRole",), namespaced=False)


def _check_binding(document: Document, kinds: tuple[str, ...], *, namespaced: bool) -> list[FieldError]:
    role = document["roleRef"]
    errors: list[FieldError] = []
    if role["apiGroup"] != GROUP:
        errors.append(not_supported("roleRef.apiGroup", role["apiGroup"], (GROUP,)))
    if role.get("kind") not in kinds:
        errors.append(not_supported("roleRef.kind", role.get("kind", ""), kinds))
    if not role.get("name"):
        errors.append(required("roleRef.name"))
    elif wrong := path_segment(role["name"]):
        errors.append(invalid("roleRef.name", role["name"], wrong))
    for number, subject in enumerate(document.get("subjects") or ()):
        errors += _check_subject(subject, f"subjects[{number}]", namespaced=namespaced)
    return errors


def _check_subject(subject: Document, path: str, *, namespaced: bool) -> list[FieldError]:
    kind, name, group = subject.get("kind", ""), subject.get("name", ""), subject.get("apiGroup", "")
    errors: list[FieldError] = []
    if not name:
        errors.append(required(f"{path}.name"))
    match kind:
        case "ServiceAccount":
            if name and (wrong := dns_subdomain(name)):
                errors.append(invalid(f"{path}.name", name, wrong))
            if group:
                errors.append(not_supported(f"{path}.apiGroup", group, ("",)))
            if not namespaced and not subject.get("namespace"):
                errors.append(required(f"{path}.namespace"))
        case "User" | "Group":
            if not name:
                errors.append(invalid(f"{path}.name", name, f"{kind.lower()} name cannot be empty"))
            if group != GROUP:
                errors.append(not_supported(f"{path}.apiGroup", group, (GROUP,)))
        case _:
            errors.append(not_supported(f"{path}.kind", kind, ("ServiceAccount", "User", "Group")))
    return errors


def validate_binding_update(new: Document, old: Document) -> list[FieldError]:
    """The role is for good."""
    if new["roleRef"] != old["roleRef"]:
        return [invalid("roleRef", new["roleRef"], "cannot change roleRef")]
    return []


def binding_cells(document: Document, now: float) -> list[Any]:
    """A row of `kubectl get rolebindings`."""
    role, subjects = document["roleRef"], document.get("subjects") or ()
    accounts = [
        f"{subject.get('namespace', '')}/{subject['name']}" if subject.get("namespace") else subject["name"]
        for subject in subjects
        if subject.get("kind") == "ServiceAccount"
    ]
    return [
        document["metadata"]["name"],
        f"{role.get('kind', '')}/{role.get('name', '')}",
        cells.age(document, now),
        *(
            ", ".join(subject["name"] for subject in subjects if subject.get("kind") == kind)
            for kind in ("User", "Group")
        ),
        ", ".join(accounts),
    ]
