"""Signed pictures: what the manifest says, that a change shows, and keys that are of no use."""

import io
import json
import re

import c2pa
import pytest
from certificates import Signing, write_signing
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID
from PIL import Image

from packshot import __version__
from packshot.credentials import inscriber, read_anchors, read_credentials
from packshot.domain.errors import CredentialsUnusable
from packshot.imaging.pixels import encode_png
from packshot.imaging.recipe import pixel_digest, read_inscription, with_recipe

RECIPE = {"prompt": "sks_fuji_apple on “wood”", "seed": 7, "guidance_scale": 4.5, "fine_tune_digest": "ab" * 32}


@pytest.fixture
def png() -> bytes:
    return encode_png(Image.effect_noise((40, 30), 90).convert("RGB"))


@pytest.fixture
def signing(tmp_path) -> Signing:
    return write_signing(tmp_path / "signing")


def manifest_of(signed: bytes) -> dict:
    with c2pa.Reader("image/png", io.BytesIO(signed)) as reader:
        return reader.get_active_manifest()


@pytest.mark.parametrize(
    "key",
    [
        ec.generate_private_key(ec.SECP256R1()),
        ec.generate_private_key(ec.SECP384R1()),
        ec.generate_private_key(ec.SECP521R1()),
        ed25519.Ed25519PrivateKey.generate(),
        rsa.generate_private_key(65537, 2048),
    ],
    ids=["P-256", "P-384", "P-521", "Ed25519", "RSA"],
)
def test_a_signed_picture_says_who_made_it_how_and_is_whole(tmp_path, png, key):
    signing = write_signing(tmp_path / "signing", key)
    signed = inscriber(signing.key, signing.certificates)(png, RECIPE)
    found = read_credentials(signed, read_anchors(signing.roots))
    assert found
    assert (found.whole, found.trusted, found.problems) == (True, True, ())
    assert (found.signed_by, found.generator) == ("Shop, Signer", f"Packshot {__version__}")
    assert found.declared_generated
    told = {each["label"]: each["data"] for each in manifest_of(signed)["assertions"]}
    assert told["org.packshot.recipe"] == RECIPE
    assert told["org.packshot.fine-tune"] == {"alg": "sha256", "digest": RECIPE["fine_tune_digest"]}


def test_signing_changes_no_pixel_and_keeps_recipe_and_seal(signing, png):
    inscribe = inscriber(signing.key, signing.certificates)
    once, again = inscribe(png, RECIPE), inscribe(png, RECIPE)
    assert pixel_digest(once) == pixel_digest(again) == pixel_digest(png)
    inscription = read_inscription(once)
    assert (inscription.recipe, inscription.recipe_whole, inscription.pixels_whole) == (RECIPE, True, True)
    assert once != again  # ids are new each time; the guide says so


def test_a_picture_of_a_bare_base_names_no_fine_tune(signing, png):
    labels = [
        each["label"] for each in manifest_of(inscriber(signing.key, signing.certificates)(png, {}))["assertions"]
    ]
    assert "org.packshot.fine-tune" not in labels


def test_without_a_trusted_root_a_signature_is_whole_and_not_trusted(signing, tmp_path, png):
    signed = inscriber(signing.key, signing.certificates)(png, RECIPE)
    strangers = read_anchors(write_signing(tmp_path / "strangers").roots)
    for anchors in ("", strangers):
        found = read_credentials(signed, anchors)
        assert found
        assert (found.whole, found.trusted) == (True, False)


@pytest.mark.parametrize("part", [b"IDAT", b"packshot\0", b"org.packshot.recipe"])
def test_a_change_of_any_part_shows(signing, png, part):
    signed = bytearray(inscriber(signing.key, signing.certificates)(png, RECIPE))
    for place in (found.start() for found in re.finditer(re.escape(part), bytes(signed))):
        changed = signed.copy()
        changed[place + len(part) + 6] ^= 1
        found = read_credentials(bytes(changed))
        assert found is None or not found.whole


def test_an_unsigned_or_strange_file_has_no_credentials(png):
    assert read_credentials(with_recipe(png, RECIPE)) is None
    assert read_credentials(b"a text") is None


def test_without_a_key_pictures_are_not_signed(png):
    assert inscriber(None, None)(png, RECIPE) == with_recipe(png, RECIPE)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"usage": None}, "extended key usage such as emailProtection"),
        ({"usage": ExtendedKeyUsageOID.SERVER_AUTH}, "extended key usage such as emailProtection"),
        ({"other_key": True}, "is not that of the key"),
        ({"days": -3}, "use one that is valid now"),
        ({"password": b"secret"}, "is encrypted"),
        ({"key": ec.generate_private_key(ec.SECP256K1())}, "use P-256"),
    ],
)
def test_keys_and_certificates_of_no_use_are_refused_at_once(tmp_path, options, told):
    signing = write_signing(tmp_path / "signing", **options)
    with pytest.raises(CredentialsUnusable, match=told):
        inscriber(signing.key, signing.certificates)


def test_files_that_cannot_be_read_are_refused_at_once(signing, tmp_path):
    garbage, binary, missing = tmp_path / "garbage.pem", tmp_path / "key.der", tmp_path / "missing.pem"
    garbage.write_text("no key")
    binary.write_bytes(b"\x30\x82\xff")
    for key, told in ((garbage, "no private key"), (binary, "not in PEM form"), (missing, "cannot read")):
        with pytest.raises(CredentialsUnusable, match=told):
            inscriber(key, signing.certificates)
    with pytest.raises(CredentialsUnusable, match="no certificates"):
        inscriber(signing.key, garbage)
    with pytest.raises(CredentialsUnusable, match="no certificates"):
        read_anchors(garbage)
    for pair in ((signing.key, None), (None, signing.certificates)):
        with pytest.raises(CredentialsUnusable, match="belong together"):
            inscriber(*pair)


def test_what_is_signed_holds_no_key(signing, png):
    signed = inscriber(signing.key, signing.certificates)(png, RECIPE)
    body = signing.key.read_text().splitlines()[1]
    assert body.encode() not in signed
    assert body not in json.dumps(manifest_of(signed))
