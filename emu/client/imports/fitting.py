"""The steps that make an object fit into the target, in the order in which they run."""

from __future__ import annotations

from ipaddress import ip_address

from emu.client.changes import Reason
from emu.client.imports.draft import Draft, World, cluster_ips, fits
from emu.client.imports.leaving_out import Step
from emu.client.scrubbing import mapping, mappings, remove_entries, remove_token_volumes, scrub
from emu.core.addresses import is_ipv4

_NETWORK_PLUGINS = ("cni.projectcalico.org/", "k8s.v1.cni.cncf.io/", "k8s.ovn.org/", "cni.cilium.io/")
_VOLUME_NOTES = (
    "pv.kubernetes.io/bind-completed",
    "pv.kubernetes.io/bound-by-controller",
    "volume.kubernetes.io/selected-node",
    "volume.kubernetes.io/storage-provisioner",
    "volume.beta.kubernetes.io/storage-provisioner",
)
_NODE_PORT_NUMBERS = range(30000, 32768)


def server_fields(draft: Draft, _world: World) -> None:
    """Status, uid, resourceVersion and the like are the server's to set."""
    if scrub(draft.document):
        draft.change(Reason.SERVER_FIELDS)


def owners(draft: Draft, _world: World) -> None:
    """An owner gets another uid here, and what names one that does not exist is collected as garbage."""
    references = mappings(draft.metadata.pop("ownerReferences", None))
    if references:
        draft.change(Reason.OWNER, ", ".join(f"{r.get('kind')} {r.get('name')}" for r in references))


def finalizers(draft: Draft, _world: World) -> None:
    """Those of a dump belong to controllers that do not run here, so nothing would ever remove them."""
    if draft.dumped and draft.metadata.get("finalizers"):
        draft.change(Reason.FINALIZER, ", ".join(str(name) for name in draft.metadata.pop("finalizers")))


def network_notes(draft: Draft, _world: World) -> None:
    """Annotations in which network plugins note the addresses that they gave."""
    annotations = mapping(draft.metadata.get("annotations"))
    foreign = [key for key in annotations if key.startswith(_NETWORK_PLUGINS)]
    if draft.dumped and remove_entries(draft.metadata, "annotations", foreign):
        draft.change(Reason.NETWORK)


def pods(draft: Draft, world: World) -> None:
    """A pod leaves its node, when the target has no such node, and its token."""
    if draft.kind != "Pod":
        return
    spec = draft.spec
    node = spec.get("nodeName")
    if node and node not in world.target.nodes and draft.values_were_given:
        del spec["nodeName"]
        draft.change(Reason.NODE_NAME, f"was on {node}")
    if draft.dumped:
        spec.pop("ephemeralContainers", None)
        if remove_token_volumes(spec):
            draft.change(Reason.TOKEN)


def endpoints(draft: Draft, world: World) -> None:
    """Endpoints by hand forget nodes that the target does not have."""
    if draft.kind == "EndpointSlice":
        addresses = mappings(draft.document.get("endpoints"))
    elif draft.kind == "Endpoints":
        subsets = mappings(draft.document.get("subsets"))
        addresses = [
            a for s in subsets for f in ("addresses", "notReadyAddresses") for a in mappings(s.get(f))
        ]
    else:
        return
    if not draft.values_were_given:
        return
    missing = [
        address for address in addresses if address.get("nodeName", "") not in {"", *world.target.nodes}
    ]
    for address in missing:
        del address["nodeName"]
    if missing:
        draft.change(Reason.NODE_NAME)


def service_accounts(draft: Draft, _world: World) -> None:
    """The token Secrets that a dump's ServiceAccount names are not taken."""
    if draft.kind == "ServiceAccount" and draft.dumped and draft.document.pop("secrets", None):
        draft.change(Reason.TOKEN)


def claims(draft: Draft, _world: World) -> None:
    """A dump's claim is bound to a volume of the other cluster."""
    if draft.kind != "PersistentVolumeClaim" or not draft.dumped:
        return
    volume = draft.spec.pop("volumeName", None)
    noted = remove_entries(draft.metadata, "annotations", _VOLUME_NOTES)
    if volume or noted:
        draft.change(Reason.VOLUME, f"was bound to {volume}" if volume else "")


def families(draft: Draft, _world: World) -> None:
    """A Service has IPv4 addresses only."""
    if draft.kind != "Service" or not draft.values_were_given:
        return
    spec = draft.spec
    given = spec.get("ipFamilies")
    sixth = [a for a in cluster_ips(draft.document) if _is_ipv6(a)]
    if (
        not sixth
        and (not isinstance(given, list) or "IPv6" not in given)
        and spec.get("ipFamilyPolicy") != "RequireDualStack"
    ):
        return
    _set_addresses(draft, [a for a in cluster_ips(draft.document) if not _is_ipv6(a)])
    if isinstance(given, list):
        spec["ipFamilies"] = ["IPv4"]
    if spec.get("ipFamilyPolicy") == "RequireDualStack":
        spec["ipFamilyPolicy"] = "PreferDualStack"
    draft.change(Reason.FAMILY, ", ".join(sixth))


def addresses(draft: Draft, world: World) -> None:
    """ClusterIPs keep their last octets where that address is free, else the API server chooses."""
    named = cluster_ips(draft.document) if draft.kind == "Service" and draft.values_were_given else []
    if not named or not all(map(is_ipv4, named)):
        return
    address = named[0]
    if fits(world.target.networks, address):
        if world.addresses.get(address, draft.key) != draft.key:
            _set_addresses(draft, [])
            draft.change(Reason.ADDRESS_DROPPED, f"{address} is taken")
        return
    moved = world.target.networks.counterpart(address)
    if moved is not None and world.addresses.setdefault(moved, draft.key) == draft.key:
        _set_addresses(draft, [moved])
        draft.change(Reason.ADDRESS_MOVED, f"{address} -> {moved}")
    else:
        _set_addresses(draft, [])
        why = f", for {moved} is taken" if moved else ""
        draft.change(Reason.ADDRESS_DROPPED, f"{address} cannot exist here{why}")


def ports(draft: Draft, world: World) -> None:
    """Node ports are kept where they are free; else the API server gives out others."""
    if draft.kind != "Service" or not draft.values_were_given:
        return
    holders = [(port, "nodePort") for port in mappings(draft.spec.get("ports"))]
    for holder, field in [*holders, (draft.spec, "healthCheckNodePort")]:
        number = holder.get(field)
        if not isinstance(number, int) or number == 0:
            continue
        if number not in _NODE_PORT_NUMBERS:
            del holder[field]
            draft.change(Reason.NODE_PORT, f"{number} is out of range")
        elif world.ports.setdefault(number, draft.key) != draft.key:
            del holder[field]
            draft.change(Reason.NODE_PORT, f"{number} is taken")


def _set_addresses(draft: Draft, wanted: list[str]) -> None:
    spec = draft.spec
    if spec.get("clusterIP") == "None":
        return
    for field in ("clusterIP", "clusterIPs"):
        spec.pop(field, None)
    if wanted:
        spec["clusterIP"], spec["clusterIPs"] = wanted[0], wanted


def _is_ipv6(text: str) -> bool:
    try:
        return ip_address(text).version == 6
    except ValueError:
        return False


FITTING: tuple[Step, ...] = (
    server_fields,
    owners,
    finalizers,
    network_notes,
    pods,
    endpoints,
    service_accounts,
    claims,
    families,
    addresses,
    ports,
)
