"""Names of chains and sets, hashed as kube-proxy does, so that they equal those of a real node.

iptables: base32 of the SHA-256 of the service port's name and protocol, 16 characters. nftables: 8
characters of a hash of the rest of the name, which follows in clear.
"""

from __future__ import annotations

import base64
import hashlib

_LONGEST_NFT_BASE = 240


def port_hash(name: str, protocol: str) -> str:
    """The hash in KUBE-SVC-, KUBE-SVL-, KUBE-EXT- and KUBE-FW-; `name` is ns/name:port, or ns/name."""
    return _hash(name + protocol, 16)


def endpoint_chain(name: str, protocol: str, endpoint: str) -> str:
    """The iptables chain of an endpoint, `ip:port`."""
    return f"KUBE-SEP-{_hash(name + protocol + endpoint, 16)}"


def nft_port_base(namespace: str, service: str, protocol: str, port: str) -> str:
    """What follows service-, local-, external- and firewall- in nftables; `port` is the port's name."""
    return _hashed(f"{namespace}/{service}/{protocol}/{port}")


def nft_endpoint_base(namespace: str, service: str, protocol: str, port: str, endpoint: str) -> str:
    """What follows endpoint- and affinity- in nftables."""
    address, _, number = endpoint.rpartition(":")
    return _hashed(f"{namespace}/{service}/{protocol}/{port}__{address}/{number}")


def _hash(text: str, characters: int) -> str:
    """The first characters of the hash: 5 bytes of it make 8."""
    return base64.b32encode(hashlib.sha256(text.encode()).digest()[: characters * 5 // 8]).decode()


def _hashed(name: str) -> str:
    hashed = f"{_hash(name, 8)}-{name}"
    return hashed if len(hashed) <= _LONGEST_NFT_BASE else f"{hashed[: _LONGEST_NFT_BASE - 3]}..."
