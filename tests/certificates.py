"""A certificate authority of the tests, and certificates that it gives."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = timedelta(days=1)


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def certificate(
    name: str, key: Any, issuer: str, issuer_key: Any, *, authority: bool = False, usage: Any = None, days: int = 30
) -> bytes:
    """In PEM, valid since yesterday."""
    begin = datetime.now(UTC) - DAY if days > 0 else datetime.now(UTC) + (days - 1) * DAY
    names = [
        x509.Name(
            [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Shop"), x509.NameAttribute(NameOID.COMMON_NAME, each)]
        )
        for each in (name, issuer)
    ]
    usages = dict.fromkeys(
        (
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "encipher_only",
            "decipher_only",
        ),
        False,
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(names[0])
        .issuer_name(names[1])
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + abs(days) * DAY)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
        .add_extension(
            x509.KeyUsage(digital_signature=not authority, key_cert_sign=authority, crl_sign=authority, **usages),
            critical=True,
        )
    )
    if usage:
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    digest = None if isinstance(issuer_key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(issuer_key, digest).public_bytes(Encoding.PEM)


@dataclass(frozen=True)
class Signing:
    """Files as an operator has them."""

    key: Path
    certificates: Path
    roots: Path

    @property
    def env(self) -> dict[str, str]:
        names = {"KEY": self.key, "CERTIFICATES": self.certificates, "TRUST": self.roots}
        return {f"PACKSHOT_C2PA_{name}": str(path) for name, path in names.items()}


def write_signing(
    folder: Path,
    key: Any = None,
    *,
    usage: Any = ExtendedKeyUsageOID.EMAIL_PROTECTION,
    days: int = 30,
    other_key: bool = False,
    password: bytes | None = None,
) -> Signing:
    """A key, its certificate with that of the authority, and the authority's again as the root."""
    folder.mkdir(exist_ok=True)
    authority, key = new_key(), key or new_key()
    root = certificate("Test Root", authority, "Test Root", authority, authority=True)
    own = certificate("Signer", new_key() if other_key else key, "Test Root", authority, usage=usage, days=days)
    encryption = BestAvailableEncryption(password) if password else NoEncryption()
    signing = Signing(folder / "key.pem", folder / "chain.pem", folder / "roots.pem")
    signing.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    signing.certificates.write_bytes(own + root)
    signing.roots.write_bytes(root)
    return signing
