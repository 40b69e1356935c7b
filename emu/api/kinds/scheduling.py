"""What is wrong with the fields of a pod's spec that the scheduler reads.

Source: `validateAffinity`, `ValidateTolerations`, `validateTopologySpreadConstraints` and
`validateSchedulingGates` in `pkg/apis/core/validation`.
"""

from __future__ import annotations

from emu.api.errors import FieldError, duplicate, forbidden, invalid, not_supported, required
from emu.api.kinds.label_selectors import check_label_selector
from emu.api.naming import (
    check,
    dns_label_faults,
    dns_subdomain_faults,
    label_value_faults,
    qualified_name_faults,
)
from emu.api.resource import Document

_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_OPERATORS = ("Equal", "Exists")
_ACTIONS = ("DoNotSchedule", "ScheduleAnyway")
_NODE_POLICIES = ("Honor", "Ignore")
_POSITIVE = "must be greater than zero"
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"


def check_scheduling(spec: Document, path: str) -> list[FieldError]:
    """Errors of affinity, gates, spreading and tolerations."""
    errors = _check_affinity(spec["affinity"], f"{path}.affinity") if spec.get("affinity") else []
    names: set[str] = set()
    for number, gate in enumerate(spec.get("schedulingGates") or ()):
        name, here = gate.get("name", ""), f"{path}.schedulingGates[{number}]"
        errors += check(name, here, qualified_name_faults)
        if name in names:
            errors.append(duplicate(here, name))
        names.add(name)
    errors += _check_spreading(
        spec.get("topologySpreadConstraints") or [], f"{path}.topologySpreadConstraints"
    )
    return errors + check_tolerations(spec.get("tolerations") or [], f"{path}.tolerations")


# --- tolerations ---


def check_tolerations(tolerations: list[Document], path: str) -> list[FieldError]:
    """Errors of tolerations."""
    errors: list[FieldError] = []
    for number, toleration in enumerate(tolerations):
        errors += _check_toleration(toleration, f"{path}[{number}]")
    return errors


def _check_toleration(toleration: Document, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    key, operator = toleration.get("key", ""), toleration.get("operator", "")
    value, effect = toleration.get("value", ""), toleration.get("effect", "")
    if key:
        errors += check(key, f"{path}.key", qualified_name_faults)
    elif operator != "Exists":
        why = 'operator must be Exists when `key` is empty, which means "match all values and all keys"'
        errors.append(invalid(f"{path}.operator", operator, why))
    if "tolerationSeconds" in toleration and effect != "NoExecute":
        why = "effect must be 'NoExecute' when `tolerationSeconds` is set"
        errors.append(invalid(f"{path}.effect", effect, why))
    if operator in ("", "Equal"):
        if value and (faults := label_value_faults(value)):
            errors.append(invalid(f"{path}.operator", value, ";".join(faults)))
    elif operator == "Exists":
        if value:
            why = "value must be empty when `operator` is 'Exists'"
            errors.append(invalid(f"{path}.operator", value, why))
    else:
        errors.append(not_supported(f"{path}.operator", operator, _OPERATORS))
    if effect and effect not in _EFFECTS:
        errors.append(not_supported(f"{path}.effect", effect, _EFFECTS))
    return errors


# --- affinity ---


def _check_affinity(affinity: Document, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    if "nodeAffinity" in affinity:
        errors += _check_node_affinity(affinity["nodeAffinity"], f"{path}.nodeAffinity")
    for key in ("podAffinity", "podAntiAffinity"):
        here, given = f"{path}.{key}", affinity.get(key) or {}
        for number, term in enumerate(given.get(_REQUIRED) or ()):
            errors += _check_pod_term(term, f"{here}.{_REQUIRED}[{number}]")
        for number, weighted in enumerate(given.get(_PREFERRED) or ()):
            at = f"{here}.{_PREFERRED}[{number}]"
            errors += _check_weight(weighted, at)
            errors += _check_pod_term(weighted.get("podAffinityTerm") or {}, f"{at}.podAffinityTerm")
    return errors


def _check_weight(weighted: Document, path: str) -> list[FieldError]:
    weight = weighted.get("weight", 0)
    return [] if 1 <= weight <= 100 else [invalid(f"{path}.weight", weight, "must be in the range 1-100")]


def _check_node_affinity(affinity: Document, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    if _REQUIRED in affinity:
        here = f"{path}.{_REQUIRED}.nodeSelectorTerms"
        terms = affinity[_REQUIRED].get("nodeSelectorTerms") or []
        if not terms:
            errors.append(required(here, "must have at least one node selector term"))
        for number, term in enumerate(terms):
            errors += _check_node_term(term, f"{here}[{number}]", values=True)
    for number, weighted in enumerate(affinity.get(_PREFERRED) or ()):
        at = f"{path}.{_PREFERRED}[{number}]"
        errors += _check_weight(weighted, at)
        errors += _check_node_term(weighted.get("preference") or {}, f"{at}.preference", values=False)
    return errors


def _check_node_term(term: Document, path: str, *, values: bool) -> list[FieldError]:
    """A preference may have values that no label has."""
    errors: list[FieldError] = []
    for number, requirement in enumerate(term.get("matchExpressions") or ()):
        errors += _check_node_requirement(requirement, f"{path}.matchExpressions[{number}]", values=values)
    for number, requirement in enumerate(term.get("matchFields") or ()):
        errors += _check_node_field(requirement, f"{path}.matchFields[{number}]")
    return errors


def _check_node_requirement(requirement: Document, path: str, *, values: bool) -> list[FieldError]:
    errors: list[FieldError] = []
    operator, given = requirement.get("operator", ""), requirement.get("values") or []
    if operator in ("In", "NotIn"):
        if not given:
            why = "must be specified when `operator` is 'In' or 'NotIn'"
            errors.append(required(f"{path}.values", why))
    elif operator in ("Exists", "DoesNotExist"):
        if given:
            why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
            errors.append(forbidden(f"{path}.values", why))
    elif operator in ("Gt", "Lt"):
        if len(given) != 1:
            why = "must be specified single value when `operator` is 'Lt' or 'Gt'"
            errors.append(required(f"{path}.values", why))
    else:
        errors.append(invalid(f"{path}.operator", operator, "not a valid selector operator"))
    errors += check(requirement.get("key", ""), f"{path}.key", qualified_name_faults)
    if values:
        for number, value in enumerate(given):
            errors += check(value, f"{path}.values[{number}]", label_value_faults)
    return errors


def _check_node_field(requirement: Document, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    operator, key = requirement.get("operator", ""), requirement.get("key", "")
    given = requirement.get("values") or []
    if operator not in ("In", "NotIn"):
        errors.append(invalid(f"{path}.operator", operator, "not a valid selector operator"))
    elif len(given) != 1:
        why = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector"
        errors.append(required(f"{path}.values", why))
    if key != "metadata.name":
        return [*errors, invalid(f"{path}.key", key, "not a valid field selector key")]
    for number, value in enumerate(given):
        errors += check(value, f"{path}.values[{number}]", dns_subdomain_faults)
    return errors


def _check_pod_term(term: Document, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for key in ("labelSelector", "namespaceSelector"):
        errors += check_label_selector(term.get(key) or {}, f"{path}.{key}")
    for name in term.get("namespaces") or ():
        errors += check(name, f"{path}.namespace", dns_label_faults)
    for key in ("matchLabelKeys", "mismatchLabelKeys"):
        given = term.get(key) or []
        if given and "labelSelector" not in term:
            errors.append(forbidden(f"{path}.{key}", "must not be specified when labelSelector is not set"))
        else:
            for number, label in enumerate(given):
                errors += check(label, f"{path}.{key}[{number}]", qualified_name_faults)
    topology = term.get("topologyKey", "")
    if not topology:
        errors.append(required(f"{path}.topologyKey", "can not be empty"))
    return errors + check(topology, f"{path}.topologyKey", qualified_name_faults)


# --- spreading ---


def _check_spreading(constraints: list[Document], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for number, constraint in enumerate(constraints):
        here = f"{path}[{number}]"
        skew, topology = constraint.get("maxSkew", 0), constraint.get("topologyKey", "")
        action = constraint.get("whenUnsatisfiable", "")
        if skew <= 0:
            errors.append(invalid(f"{here}.maxSkew", skew, _POSITIVE))
        if not topology:
            errors.append(required(f"{here}.topologyKey", "can not be empty"))
        if action not in _ACTIONS:
            errors.append(not_supported(f"{here}.whenUnsatisfiable", action, _ACTIONS))
        later = [(item.get("topologyKey", ""), item.get("whenUnsatisfiable", "")) for item in constraints]
        if (topology, action) in later[number + 1 :]:
            at = f"{here}.{{topologyKey, whenUnsatisfiable}}"
            errors.append(duplicate(at, f"{{{topology}, {action}}}"))
        errors += _check_domains(constraint, action, f"{here}.minDomains")
        for key in ("nodeAffinityPolicy", "nodeTaintsPolicy"):
            if key in constraint and constraint[key] not in _NODE_POLICIES:
                errors.append(not_supported(f"{here}.{key}", constraint[key], _NODE_POLICIES))
        errors += _check_match_keys(constraint, f"{here}.matchLabelKeys")
        errors += check_label_selector(constraint.get("labelSelector") or {}, f"{here}.labelSelector")
    return errors


def _check_domains(constraint: Document, action: str, path: str) -> list[FieldError]:
    least = constraint.get("minDomains")
    if least is None:
        return []
    errors = [invalid(path, least, _POSITIVE)] if least <= 0 else []
    if action != "DoNotSchedule":
        why = f"can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}"
        errors.append(invalid(path, least, why))
    return errors


def _check_match_keys(constraint: Document, path: str) -> list[FieldError]:
    keys = constraint.get("matchLabelKeys") or []
    if not keys:
        return []
    errors: list[FieldError] = []
    selector = constraint.get("labelSelector")
    if selector is None:
        errors.append(forbidden(path, "must not be specified when labelSelector is not set"))
    used = {
        *((selector or {}).get("matchLabels") or ()),
        *(item.get("key") for item in (selector or {}).get("matchExpressions") or ()),
    }
    for number, key in enumerate(keys):
        errors += check(key, f"{path}[{number}]", qualified_name_faults)
        if key in used:
            why = "exists in both matchLabelKeys and labelSelector"
            errors.append(invalid(f"{path}[{number}]", key, why))
    return errors
