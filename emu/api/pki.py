"""The cluster's own certificate authority, the API server's certificate, and the token of its users."""

from __future__ import annotations

import datetime as dt
import os
import secrets
import ssl
from ipaddress import IPv4Address
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from emu.api.errors import StateError

_YEARS = dt.timedelta(days=3650)
# Clocks of machines that share a state directory may differ a little.
_SKEW = dt.timedelta(hours=1)
_NAMES = (
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
)


def host_names(cluster_domain: str) -> tuple[str, ...]:
    """The names that the API server goes by."""
    return (*_NAMES, f"kubernetes.default.svc.{cluster_domain}")


class Pki(NamedTuple):
    """What the API server is started with."""

    ca: bytes
    """PEM of the CA's certificate."""
    token: str
    certificate: Path
    key: Path

    def ssl_context(self) -> ssl.SSLContext:
        """The server's TLS context."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.certificate, self.key)
        return context


def ensure_pki(directory: Path, addresses: tuple[str, ...], cluster_domain: str = "cluster.local") -> Pki:
    """The PKI in a directory: what is there is used again, what is missing or does not fit is made.

    `addresses` are the IP addresses that the certificate must carry. Files have mode 0600. Raises
    StateError when a file cannot be read or written.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        return _ensure(directory, addresses, host_names(cluster_domain))
    except (OSError, ValueError, TypeError) as error:
        raise StateError(
            f"the keys in {directory} cannot be used ({error}): correct its permissions, or remove it and "
            "start the cluster again"
        ) from None


def _ensure(directory: Path, addresses: tuple[str, ...], names: tuple[str, ...]) -> Pki:
    ca_file, ca_key_file = directory / "ca.crt", directory / "ca.key"
    certificate_file, key_file = directory / "apiserver.crt", directory / "apiserver.key"
    token_file = directory / "token"
    if ca_file.exists() and ca_key_file.exists():
        ca = x509.load_pem_x509_certificate(ca_file.read_bytes())
        ca_key = serialization.load_pem_private_key(ca_key_file.read_bytes(), None)
        if not isinstance(ca_key, ec.EllipticCurvePrivateKey):
            raise ValueError(f"{ca_key_file.name} is not an EC key")
    else:
        ca, ca_key = _make_ca()
        _write(ca_key_file, _key_pem(ca_key))
        _write(ca_file, _pem(ca))
        certificate_file.unlink(missing_ok=True)
    if not (certificate_file.exists() and key_file.exists() and _fits(certificate_file, ca, addresses)):
        certificate, key = _issue(ca, ca_key, addresses, tuple(dict.fromkeys(names)))
        _write(key_file, _key_pem(key))
        _write(certificate_file, _pem(certificate))
    if not token_file.exists():
        _write(token_file, secrets.token_urlsafe(32).encode())
    return Pki(_pem(ca), token_file.read_text().strip(), certificate_file, key_file)


def _make_ca() -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "emu-ca")])
    builder = _builder(name, name, key).add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
    builder = builder.add_extension(
        x509.KeyUsage(True, False, False, False, False, True, True, False, False), critical=True
    )
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
    return builder.sign(key, hashes.SHA256()), key


def _issue(
    ca: x509.Certificate,
    ca_key: ec.EllipticCurvePrivateKey,
    addresses: tuple[str, ...],
    names: tuple[str, ...],
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "emu-apiserver")])
    alternatives: list[x509.GeneralName] = [x509.DNSName(dns) for dns in names]
    alternatives += [x509.IPAddress(IPv4Address(address)) for address in addresses]
    builder = _builder(name, ca.subject, key)
    builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), False)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)
    builder = builder.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), False
    )
    return builder.sign(ca_key, hashes.SHA256()), key


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + _YEARS)
    )


def _fits(file: Path, ca: x509.Certificate, addresses: tuple[str, ...]) -> bool:
    certificate = x509.load_pem_x509_certificate(file.read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    present = {str(address) for address in names.get_values_for_type(x509.IPAddress)}
    valid = certificate.not_valid_after_utc > dt.datetime.now(dt.UTC)
    return valid and certificate.issuer == ca.subject and set(addresses) <= present


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(file: Path, data: bytes) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as opened:
        opened.write(data)
