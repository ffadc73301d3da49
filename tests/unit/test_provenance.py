"""What image files say about where they come from, read by others' readers: exiftool, Pillow and c2pa."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import c2pa
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from PIL import Image

from storage.errors import OperatorError
from storage.formats import FORMATS, ImageFormat
from storage.predictions.parameters import Parameters
from worker.publish.content_credentials import ContentCredentials, open_credentials
from worker.publish.encoding import encode, encode_thumbnail
from worker.publish.provenance import MADE_BY_A_MODEL
from worker.settings import WorkerSettings

PARAMETERS = Parameters(prompt="a red circle", width=64, height=64, num_inference_steps=8, guidance_scale=0.0, seed=1)
PICTURE = Image.effect_noise((64, 64), 80).convert("RGB")
EVERY_FORMAT = pytest.mark.parametrize("format_", FORMATS, ids=lambda format_: format_.name)
SOURCE_TYPE = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"


def file_of(format_: ImageFormat, **more: Any) -> bytes:
    return encode(PICTURE, replace(PARAMETERS, output_format=format_.name), **more)[0]


def xmp_in(body: bytes) -> str | bytes | None:
    """As Pillow finds it in each format."""
    with Image.open(io.BytesIO(body)) as found:
        found.load()
        return found.info.get("xmp") or found.info.get("XML:com.adobe.xmp")


def source_types(body: bytes) -> list[str]:
    found = xmp_in(body)
    assert found is not None
    packet = ElementTree.fromstring(found.decode() if isinstance(found, bytes) else found)  # noqa: S314 (we wrote it)
    return [node.attrib[SOURCE_TYPE] for node in packet.iter() if SOURCE_TYPE in node.attrib]


@EVERY_FORMAT
def test_every_file_says_that_a_model_made_it(format_: ImageFormat) -> None:
    body = file_of(format_, text="a red circle\nSteps: 8", marked=True)
    assert source_types(body) == [MADE_BY_A_MODEL]
    assert source_types(encode_thumbnail(PICTURE, marked=True)[0]) == [MADE_BY_A_MODEL]
    assert xmp_in(file_of(format_, text="a red circle")) is None
    assert xmp_in(encode_thumbnail(PICTURE)[0]) is None


@pytest.mark.skipif(shutil.which("exiftool") is None, reason="exiftool is not installed")
@EVERY_FORMAT
def test_exiftool_reads_the_mark_beside_the_parameters(format_: ImageFormat, tmp_path: Path) -> None:
    file = tmp_path / f"picture.{format_.name}"
    file.write_bytes(file_of(format_, text="a red circle\nSteps: 8", marked=True))
    said = subprocess.run(
        ["exiftool", "-j", "-G", "-DigitalSourceType", "-UserComment", "-Parameters", "-Warning", file],
        capture_output=True,
        text=True,
        check=True,
    )
    [tags] = json.loads(said.stdout)
    assert tags["XMP:DigitalSourceType"] == MADE_BY_A_MODEL
    assert "a red circle" in (tags.get("EXIF:UserComment") or tags["PNG:Parameters"])
    assert "ExifTool:Warning" not in tags


Key = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey


def certificates_for(key: Key) -> str:
    """A chain as C2PA asks for it: a leaf that may sign, and the authority that signed it."""
    authority_key = ec.generate_private_key(ec.SECP256R1())
    authority = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test authority")])
    leaf = x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, "Darkroom"), x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Tests")]
    )
    now = datetime.now(UTC)

    def certificate(subject: x509.Name, public_key: Any, *, is_authority: bool) -> x509.Certificate:
        others = ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
        usage = dict.fromkeys((*others, "encipher_only", "decipher_only"), False)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(authority)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=30))
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
            .add_extension(
                x509.KeyUsage(
                    digital_signature=not is_authority, key_cert_sign=is_authority, crl_sign=is_authority, **usage
                ),
                critical=True,
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False
            )
        )
        if not is_authority:
            builder = builder.add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False
            )
        return builder.sign(authority_key, hashes.SHA256())

    chain = [
        certificate(leaf, key.public_key(), is_authority=False),
        certificate(authority, authority_key.public_key(), is_authority=True),
    ]
    return "".join(each.public_bytes(Encoding.PEM).decode() for each in chain)


def files_of(folder: Path, key: Key) -> dict[str, Path]:
    (folder / "cert.pem").write_text(certificates_for(key))
    (folder / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return {"c2pa_cert": folder / "cert.pem", "c2pa_key": folder / "key.pem"}


def settings(**more: Any) -> WorkerSettings:
    return WorkerSettings(database_url="postgresql://nobody@localhost/none", **more)


def credentials_from(folder: Path, key: Key) -> ContentCredentials:
    found = open_credentials(settings(**files_of(folder, key)))
    assert found is not None
    return found


KEYS: dict[str, Callable[[], Key]] = {
    "P-256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "P-384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "Ed25519": ed25519.Ed25519PrivateKey.generate,
    "RSA": lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048),
}


@pytest.mark.parametrize("kind", KEYS)
def test_c2pas_reader_finds_a_valid_signature_that_says_a_model_made_it(kind: str, tmp_path: Path) -> None:
    credentials = credentials_from(tmp_path, KEYS[kind]())
    for format_ in FORMATS:
        body = file_of(format_, text="a red circle\nSteps: 8", marked=True)
        signed = credentials.sign(body, format_.content_type, model="darkroom/pocket", model_version="7")
        with c2pa.Reader(format_.content_type, io.BytesIO(signed)) as reader:
            said = json.loads(reader.json())
            assert reader.get_validation_state() == "Valid"
        active = said["manifests"][said["active_manifest"]]
        assert active["signature_info"]["issuer"] == "Tests"
        [actions] = [each["data"] for each in active["assertions"] if each["label"].startswith("c2pa.actions")]
        [created] = actions["actions"]
        assert created["action"] == "c2pa.created"
        assert created["digitalSourceType"] == MADE_BY_A_MODEL
        assert created["softwareAgent"]["name"] == "darkroom/pocket"
        assert created["softwareAgent"]["version"] == "7"
        assert source_types(signed) == [MADE_BY_A_MODEL]
        assert Image.open(io.BytesIO(signed)).tobytes() == Image.open(io.BytesIO(body)).tobytes()


def test_a_changed_pixel_breaks_the_signature(tmp_path: Path) -> None:
    credentials = credentials_from(tmp_path, ec.generate_private_key(ec.SECP256R1()))
    signed = bytearray(credentials.sign(file_of(FORMATS[0]), "image/png", model="a/b", model_version="1"))
    signed[-30] ^= 1  # in the last block of pixels
    with c2pa.Reader("image/png", io.BytesIO(bytes(signed))) as reader:
        assert reader.get_validation_state() == "Invalid"


def test_a_certificate_that_can_not_be_used_is_told_at_the_start(tmp_path: Path) -> None:
    files = files_of(tmp_path, ec.generate_private_key(ec.SECP256R1()))
    assert open_credentials(settings()) is None
    other = tmp_path / "other"
    other.mkdir()
    others = files_of(other, ec.generate_private_key(ec.SECP256R1()))
    (tmp_path / "not.pem").write_text("no key")
    wrong = [
        ({"c2pa_cert": files["c2pa_cert"]}, "set both, or neither"),
        (files | {"c2pa_key": tmp_path / "absent.pem"}, "can't be read"),
        (files | {"c2pa_key": tmp_path / "not.pem"}, "holds no private key"),
        (files | {"c2pa_cert": tmp_path / "not.pem"}, "Nothing can be signed"),
        (files | {"c2pa_key": others["c2pa_key"]}, "Nothing can be signed"),
    ]
    for given, reason in wrong:
        with pytest.raises(OperatorError, match=reason):
            open_credentials(settings(**given))
