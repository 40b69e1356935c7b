"""IP addresses and CIDRs as fields of objects: what is wrong with one.

Kubernetes 1.36 refuses forms that older releases read sloppily: leading zeros, IPv4 addresses mapped into
IPv6, and host bits in a CIDR. Values are not asked to be in canonical form.
Source: apimachinery `util/validation/ip.go` (StrictIPCIDRValidation) and `ValidateEndpointIP` in
`pkg/apis/core/validation`.
"""

from __future__ import annotations

import re
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
)

from emu.api.errors import FieldError, invalid

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_BAD_IP = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
_BAD_CIDR = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
_LEADING_ZEROS = re.compile(r"(?<![0-9a-fA-F:])0+(?=[0-9])")
_LINK_LOCAL_MULTICAST = (IPv4Network("224.0.0.0/24"), IPv6Network("ff02::/16"))


def parse_ip(text: str) -> Address | None:
    """An address, however sloppily it is written, or None. An address with a zone is none."""
    if "%" in text:
        return None
    try:
        return ip_address(_without_zeros(text))
    except ValueError:
        return None


def _without_zeros(text: str) -> str:
    return text if ":" in text and "." not in text else _LEADING_ZEROS.sub("", text)


def _mapped(address: Address) -> bool:
    return isinstance(address, IPv6Address) and address.ipv4_mapped is not None


def check_ip(text: str, path: str) -> list[FieldError]:
    """Errors of an address of either family."""
    address = parse_ip(text)
    if address is None:
        return [invalid(path, text, _BAD_IP)]
    if text != _without_zeros(text):
        return [invalid(path, text, "must not have leading 0s")]
    if _mapped(address):
        return [invalid(path, text, "must not be an IPv4-mapped IPv6 address")]
    return []


def check_endpoint_ip(text: str, path: str) -> list[FieldError]:
    """Errors of an address that traffic is sent to, or that is taken over from outside.

    Upstream refuses 127.0.0.0/8 as well; the cluster's own networks lie there on the loopback plane.
    """
    address = parse_ip(text)
    if address is None:
        return [invalid(path, text, "must be a valid IP address")]
    if address.is_unspecified:
        return [invalid(path, text, f"may not be unspecified ({text})")]
    if isinstance(address, IPv6Address) and address.is_loopback:
        return [invalid(path, text, "may not be in the loopback range (127.0.0.0/8, ::1/128)")]
    if address.is_link_local:
        return [invalid(path, text, "may not be in the link-local range (169.254.0.0/16, fe80::/10)")]
    if any(address in network for network in _LINK_LOCAL_MULTICAST):
        return [invalid(path, text, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)")]
    return []


def parse_cidr(text: str) -> Network | None:
    """The network of a CIDR, however sloppily it is written and whatever its host bits, or None."""
    address, slash, length = text.partition("/")
    found = parse_ip(address)
    if found is None or not slash or not (length.isascii() and length.isdecimal()):
        return None
    if int(length) > found.max_prefixlen:
        return None
    kind = IPv4Network if isinstance(found, IPv4Address) else IPv6Network
    return kind((int(found), int(length)), strict=False)


def check_cidr(text: str, path: str) -> list[FieldError]:
    """Errors of a CIDR of either family, which must not have host bits."""
    network = parse_cidr(text)
    if network is None:
        return [invalid(path, text, _BAD_CIDR)]
    address, _, length = text.partition("/")
    if address != _without_zeros(address) or length != str(int(length)):
        return [invalid(path, text, "must not have leading 0s in IP or prefix length")]
    given = ip_address(address)
    if _mapped(given):
        return [invalid(path, text, "must not have an IPv4-mapped IPv6 address")]
    if given != network.network_address:
        return [invalid(path, text, "must not have bits set beyond the prefix length")]
    return []
