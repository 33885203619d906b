"""Signs pictures as C2PA has it, and reads what others signed (C2PA Technical Specification 2.x, by c2pa-python).

The manifest says that a trained model made the picture (``c2pa.created``), and holds the recipe and the digest of the
fine-tune. Nothing is sent anywhere: no time-stamp authority, no revocation service. Does not know how a picture is made.
"""

import io
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from PIL import Image

from packshot import __version__
from packshot.domain.credentials import Credentials
from packshot.domain.errors import CredentialsUnusable
from packshot.imaging.recipe import GENERATED, Inscribe, Value, with_recipe

RECIPE, FINE_TUNE = "org.packshot.recipe", "org.packshot.fine-tune"
_PNG = "image/png"
_CURVES = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}
_UNTRUSTED = "signingCredential.untrusted"


def inscriber(key: Path | None, certificates: Path | None) -> Inscribe:
    """What puts a recipe into a PNG and, where there is a key, signs the outcome.

    Raises:
        CredentialsUnusable: one is given without the other, or see ``C2paSigner``.
    """
    if key is None and certificates is None:
        return with_recipe
    if key is None or certificates is None:
        raise CredentialsUnusable(
            "PACKSHOT_C2PA_KEY and PACKSHOT_C2PA_CERTIFICATES belong together; set both or neither"
        )
    signer = C2paSigner(key, certificates)
    return lambda png, recipe: signer.sign(with_recipe(png, recipe), recipe)


class C2paSigner:
    """Puts a signed manifest into PNGs. ``certificates`` is the chain in PEM, the signer's own first."""

    def __init__(self, key: Path, certificates: Path) -> None:
        """Read both files, and sign and check a picture of one pixel with them.

        Raises:
            CredentialsUnusable: a file cannot be read, the key is encrypted or of another certificate, or C2PA takes
                no signature of this certificate.
        """
        import c2pa

        key_pem, chain_pem = _read(key), _read(certificates)
        private, leaf = _private_key(key, key_pem), _certificates(certificates, chain_pem)[0]
        if _public_bytes(private.public_key()) != _public_bytes(leaf.public_key()):
            raise CredentialsUnusable(
                f"the first certificate in {certificates} is not that of the key in {key}; put the signer's own first"
            )
        if not leaf.not_valid_before_utc <= datetime.now(UTC) <= leaf.not_valid_after_utc:
            raise CredentialsUnusable(
                f"the certificate in {certificates} is valid from {leaf.not_valid_before_utc} to "
                f"{leaf.not_valid_after_utc}; use one that is valid now"
            )
        self._signing = (_algorithm(key, private), chain_pem, key_pem)
        pixel = io.BytesIO()
        Image.new("RGB", (1, 1)).save(pixel, "PNG")
        try:
            tried = read_credentials(self.sign(pixel.getvalue(), {}))
        except c2pa.C2paError as error:
            raise CredentialsUnusable(
                f"nothing can be signed with {certificates} ({error}); C2PA takes certificates of an authority, with the "
                "key usage digitalSignature and an extended key usage such as emailProtection"
            ) from error
        assert tried
        if not tried.whole:
            raise CredentialsUnusable(f"a signature of {certificates} does not hold: {', '.join(tried.problems)}")

    def sign(self, png: bytes, recipe: Mapping[str, Value]) -> bytes:
        """``png`` with a manifest. Equal input gives equal pixels, but other ids and thus other bytes each time."""
        import c2pa

        # Made anew each time, since a context takes its signer away and is not told to be shared by threads.
        algorithm, chain, key = (part.encode() for part in self._signing)
        signer = c2pa.Signer.from_info(c2pa.C2paSignerInfo(algorithm, chain, key, None))
        signed = io.BytesIO()
        without_thumbnail = {"builder": {"thumbnail": {"enabled": False}}}
        with (
            c2pa.Context.from_dict(without_thumbnail, signer=signer) as context,
            c2pa.Builder(_manifest(recipe), context=context) as builder,
        ):
            builder.sign(_PNG, io.BytesIO(png), signed)
        return signed.getvalue()


def read_credentials(data: bytes, anchors: str = "") -> Credentials | None:
    """The newest manifest in a PNG, checked; None where it has none that can be read.

    ``anchors`` are the certificates of trusted roots in PEM; without any, nothing is trusted.
    """
    import c2pa

    settings = {"verify": {"remote_manifest_fetch": False, "ocsp_fetch": False}, "trust": {}}
    if anchors:
        settings["trust"]["trust_anchors"] = anchors
    try:
        with (
            c2pa.Context.from_dict(settings) as context,
            c2pa.Reader(_PNG, io.BytesIO(data), context=context) as reader,
        ):
            manifest: dict[str, Any] = reader.get_active_manifest() or {}
            state = reader.get_validation_state()
            results: dict[str, Any] = reader.get_validation_results() or {}
    except c2pa.C2paError:
        return None
    failures = results.get("activeManifest", {}).get("failure", [])
    info = manifest.get("signature_info", {})
    made_by = next(iter(manifest.get("claim_generator_info", [])), {})
    return Credentials(
        whole=state in ("Valid", "Trusted"),
        trusted=state == "Trusted",
        signed_by=", ".join(str(info[key]) for key in ("issuer", "common_name") if info.get(key)),
        generator=" ".join(str(made_by[key]) for key in ("name", "version") if made_by.get(key)),
        declared_generated=any(
            action.get("action") == "c2pa.created" and action.get("digitalSourceType") == GENERATED
            for assertion in manifest.get("assertions", [])
            if str(assertion.get("label", "")).startswith("c2pa.actions")
            for action in assertion.get("data", {}).get("actions", [])
        ),
        problems=tuple(code for failure in failures if (code := str(failure.get("code"))) != _UNTRUSTED),
    )


def read_anchors(path: Path) -> str:
    """The trusted roots in a PEM file.

    Raises:
        CredentialsUnusable: it cannot be read, or holds no certificate.
    """
    text = _read(path)
    _certificates(path, text)
    return text


def _manifest(recipe: Mapping[str, Value]) -> str:
    made_by = {"name": "Packshot", "version": __version__}
    created = {"action": "c2pa.created", "digitalSourceType": GENERATED, "softwareAgent": made_by}
    assertions: list[dict[str, object]] = [
        {"label": "c2pa.actions.v2", "data": {"actions": [created]}},
        {"label": RECIPE, "data": dict(recipe)},
    ]
    if digest := recipe.get("fine_tune_digest"):
        assertions.append({"label": FINE_TUNE, "data": {"alg": "sha256", "digest": digest}})
    return json.dumps({"claim_generator_info": [made_by], "format": _PNG, "assertions": assertions})


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except OSError as error:
        raise CredentialsUnusable(f"cannot read {path} ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise CredentialsUnusable(f"{path} is not in PEM form; convert it, for example with openssl") from error


def _private_key(path: Path, pem: str) -> PrivateKeyTypes:
    try:
        return load_pem_private_key(pem.encode(), password=None)
    except TypeError as error:
        raise CredentialsUnusable(f"the key in {path} is encrypted; write it without a password") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise CredentialsUnusable(f"{path} holds no private key in PEM form") from error


def _certificates(path: Path, pem: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem.encode())
    except ValueError as error:
        raise CredentialsUnusable(f"{path} holds no certificates in PEM form") from error


def _algorithm(path: Path, key: PrivateKeyTypes) -> str:
    match key:
        case ec.EllipticCurvePrivateKey() if key.curve.name in _CURVES:
            return _CURVES[key.curve.name]
        case ed25519.Ed25519PrivateKey():
            return "ed25519"
        case rsa.RSAPrivateKey():
            return "ps256"
        case _:
            raise CredentialsUnusable(
                f"C2PA takes no signatures of the key in {path}; use P-256, P-384, P-521, Ed25519 or RSA"
            )


def _public_bytes(key: Any) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
