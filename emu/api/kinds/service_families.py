"""The IP families of a Service on a cluster that has one family, IPv4.

Families are settled when addresses are given out, before validation, so these errors win over others.
Source: `initIPFamilyFields` in `pkg/registry/core/service/storage/alloc.go`.
"""

from __future__ import annotations

from emu.api.errors import FieldError, invalid
from emu.api.kinds.service_validation import check_cluster_ips, family_of
from emu.api.kinds.services import HEADLESS
from emu.api.resource import Document

FAMILY = "IPv4"
"""The family of this cluster's Services."""
_POLICY_PATH = "spec.ipFamilyPolicy"


def settle(spec: Document, before: Document | None) -> list[FieldError]:
    """Fill in `ipFamilyPolicy` and `ipFamilies` of a Service that is not an ExternalName, or say why not."""
    if before is not None and _prefers_the_same(spec, before):
        return []
    unselected = spec.get("clusterIP") == HEADLESS and not spec.get("selector")
    if "ipFamilyPolicy" not in spec:
        if before is not None and "ipFamilyPolicy" in before:
            spec["ipFamilyPolicy"] = before["ipFamilyPolicy"]
        else:
            spec["ipFamilyPolicy"] = "RequireDualStack" if unselected else "SingleStack"
    errors = check_cluster_ips(spec) or _check_policy(spec, before) or _infer(spec)
    if errors:
        return errors
    if unselected:
        # Nothing is allocated for it, so it may have families that the cluster has not.
        families = spec.setdefault("ipFamilies", [FAMILY])
        if len(families) < 2 and spec["ipFamilyPolicy"] != "SingleStack":
            families.append("IPv6" if families[0] == "IPv4" else "IPv4")
        return []
    errors = _check_configured(spec)
    spec.setdefault("ipFamilies", [FAMILY])
    return errors


def _prefers_the_same(spec: Document, before: Document) -> bool:
    """A Service that prefers two stacks stays as it is until one of these fields changes."""
    if spec.get("ipFamilyPolicy") != "PreferDualStack":
        return False
    keys = ("type", "ipFamilyPolicy", "clusterIPs", "ipFamilies")
    return all(spec.get(key) == before.get(key) for key in keys)


def _check_policy(spec: Document, before: Document | None) -> list[FieldError]:
    policy = spec["ipFamilyPolicy"]
    addresses, families = spec.get("clusterIPs") or [], spec.get("ipFamilies") or []
    errors: list[FieldError] = []
    if policy == "SingleStack":
        if before is not None:
            if len(addresses) > 1 and addresses == before.get("clusterIPs"):
                addresses = spec["clusterIPs"] = addresses[:1]
            if len(families) > 1 and families == before.get("ipFamilies"):
                families = spec["ipFamilies"] = families[:1]
        two = "must be 'RequireDualStack' or 'PreferDualStack' when multiple {} are specified"
        if len(addresses) == 2:
            errors.append(invalid(_POLICY_PATH, policy, two.format("cluster IPs")))
        if len(families) == 2:
            errors.append(invalid(_POLICY_PATH, policy, two.format("IP families")))
    elif before is not None:
        one = "must be 'SingleStack' to release the secondary {}"
        if 0 < len(addresses) < len(before.get("clusterIPs") or ()):
            errors.append(invalid(_POLICY_PATH, policy, one.format("cluster IP")))
        if 0 < len(families) < len(before.get("ipFamilies") or ()):
            errors.append(invalid(_POLICY_PATH, policy, one.format("IP family")))
    return errors


def _infer(spec: Document) -> list[FieldError]:
    """Families that are not given follow from the addresses that are."""
    addresses = spec.get("clusterIPs") or []
    errors: list[FieldError] = []
    for number, address in enumerate(addresses):
        families = spec.get("ipFamilies") or []
        if address == HEADLESS or number < len(families):
            continue
        family = family_of(address)
        if family == FAMILY:
            spec["ipFamilies"] = [*families, family]
        else:
            path = f"spec.clusterIPs[{number}]"
            errors.append(invalid(path, addresses, f"{family} is not configured on this cluster"))
    return errors


def _check_configured(spec: Document) -> list[FieldError]:
    errors: list[FieldError] = []
    policy = spec["ipFamilyPolicy"]
    if policy == "RequireDualStack":
        errors.append(invalid(_POLICY_PATH, policy, "this cluster is not configured for dual-stack services"))
    errors += [
        invalid(f"spec.ipFamilies[{number}]", family, "not configured on this cluster")
        for number, family in enumerate(spec.get("ipFamilies") or ())
        if family != FAMILY
    ]
    return errors
