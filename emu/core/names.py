"""DNS names of a cluster: Services, endpoints, pods, reverse names, and the search path of a pod.

The grammar is that of the Kubernetes DNS specification 1.1.0; the search path is what the kubelet writes
into a pod's resolv.conf under dnsPolicy ClusterFirst. Text names are absolute and end with a dot.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

NDOTS = 5


def search_path(namespace: str, zone: str) -> tuple[str, ...]:
    """The `search` line of a pod's resolv.conf, without the domains of the host."""
    return (f"{namespace}.svc.{zone}", f"svc.{zone}", zone)


def candidates(name: str, search: tuple[str, ...], ndots: int = NDOTS) -> list[str]:
    """The absolute names that a stub resolver tries for `name`, in order (resolv.conf(5)).

    A name with a trailing dot is tried as it is. One with at least `ndots` dots is tried as it is first,
    any other through the search path first.
    """
    if name.endswith("."):
        return [name]
    as_it_is = f"{name}."
    through_path = [f"{name}.{domain.rstrip('.')}." for domain in search]
    return [as_it_is, *through_path] if name.count(".") >= ndots else [*through_path, as_it_is]


def service_name(namespace: str, service: str, zone: str) -> str:
    """The name of a Service."""
    return f"{service}.{namespace}.svc.{zone}."


def endpoint_name(namespace: str, service: str, endpoint: str, zone: str) -> str:
    """The name of one endpoint of a Service; `endpoint` is its hostname or its dashed address."""
    return f"{endpoint}.{service}.{namespace}.svc.{zone}."


def port_name(namespace: str, service: str, port: str, protocol: str, zone: str) -> str:
    """The name that has the SRV records of a named port."""
    return f"_{port}._{protocol.lower()}.{service}.{namespace}.svc.{zone}."


def pod_name(namespace: str, address: str, zone: str) -> str:
    """The name of a pod by its address (`pods insecure` and `pods verified`)."""
    return f"{dashed(address)}.{namespace}.pod.{zone}."


def dashed(address: str) -> str:
    """An address as a DNS label: dots or colons become dashes.

    An IPv6 address that ends in a colon gets a final 0, since a label may not end in a dash.
    """
    label = address.replace(".", "-").replace(":", "-")
    return f"{label}0" if label.endswith("-") else label


def undashed(label: str) -> str | None:
    """The address that a dashed label stands for, or None when it is none.

    Three dashes and no two in a row make an IPv4 address; else the dashes are colons.
    """
    if label.count("-") == 3 and "--" not in label:
        text = label.replace("-", ".")
        return text if _is_address(text, IPv4Address) else None
    text = label.replace("-", ":")
    return str(IPv6Address(text)) if _is_address(text, IPv6Address) else None


def reverse_name(address: str) -> str:
    """The name that has the PTR records of an address."""
    return f"{ip_address(address).reverse_pointer}."


def address_of_reverse(labels: tuple[str, ...]) -> str | None:
    """The address of a reverse name given as labels without the root, or None when it is no full one."""
    if len(labels) == 6 and labels[4:] == ("in-addr", "arpa"):
        text = ".".join(reversed(labels[:4]))
        return text if _is_address(text, IPv4Address) else None
    if len(labels) == 34 and labels[32:] == ("ip6", "arpa"):
        if any(len(label) != 1 for label in labels[:32]):
            return None
        nibbles = "".join(reversed(labels[:32]))
        text = ":".join(nibbles[at : at + 4] for at in range(0, 32, 4))
        return str(IPv6Address(text)) if _is_address(text, IPv6Address) else None
    return None


def _is_address(text: str, kind: type[IPv4Address] | type[IPv6Address]) -> bool:
    try:
        kind(text)
    except ValueError:
        return False
    return True
