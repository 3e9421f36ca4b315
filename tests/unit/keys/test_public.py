"""Kinds of public keys that a keyring can carry, and that a host verifies what they sign."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from securesystemslib.exceptions import UnverifiedSignatureError

from bedrock.errors import DocumentError
from keys.keyring import KEYRING_FILE, Keyring, KeyringDocument, TufKeyEntry, TufRoleEntry, TufSection, keyring_text
from keys.passphrase import NoPassphrase
from keys.private import private_pem
from keys.public import public_text, tuf_public
from keys.roles import Profile, TufRole
from keys.signers import open_signers
from keys.uri import KeyUri
from tests.fakes.keyrings import dev_folder

KINDS: dict[str, tuple[Callable[[], Any], str]] = {
    "ed25519": (ed25519.Ed25519PrivateKey.generate, "ed25519"),
    "p256": (lambda: ec.generate_private_key(ec.SECP256R1()), "ecdsa-sha2-nistp256"),
    "p384": (lambda: ec.generate_private_key(ec.SECP384R1()), "ecdsa-sha2-nistp384"),
    "rsa": (lambda: rsa.generate_private_key(65537, 2048), "rsassa-pss-sha256"),
}


def folder_with(folder: Path, private: Any) -> Path:
    """A keys folder whose role releases has this key, in a file."""
    folder.mkdir(mode=0o700)
    (folder / "own.pem").write_bytes(private_pem(private, None))
    (folder / "own.pem").chmod(0o600)
    public = public_text(private.public_key())
    entry = TufKeyEntry(tuf_public(public).keyid, public, KeyUri.of_path(Path("own.pem")))
    document = KeyringDocument(1, Profile.DEV, TufSection(releases=TufRoleEntry(1, (entry,))))
    (folder / KEYRING_FILE).write_text(keyring_text(document))
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_a_keyring_carries_the_kinds_of_keys_that_tokens_have(kind: str, tmp_path: Path) -> None:
    make, scheme = KINDS[kind]
    keyring = Keyring.load(folder_with(tmp_path / "own", make()))
    key = keyring.role(TufRole.RELEASES).keys[0].public
    assert key.scheme == scheme
    (signer,) = open_signers(keyring, TufRole.RELEASES, NoPassphrase())
    signature = signer.sign(b"data")
    key.verify_signature(signature, b"data")
    with pytest.raises(UnverifiedSignatureError):
        key.verify_signature(signature, b"date")


def test_a_key_id_does_not_depend_on_how_the_text_is_laid_out() -> None:
    text = public_text(ec.generate_private_key(ec.SECP256R1()).public_key())
    first, *body, last = text.splitlines()
    narrow = "\n".join([first, *(part for line in body for part in (line[:32], line[32:])), last])
    assert tuf_public(narrow).keyid == tuf_public(text).keyid


def test_pem_is_written_as_lines(tmp_path: Path) -> None:
    folder = folder_with(tmp_path / "own", KINDS["p256"][0]())
    assert "public: |\n" in (folder / KEYRING_FILE).read_text()


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda: rsa.generate_private_key(65537, 1024), "RSA of 1024 bits"),  # noqa: S505 - weak is the point
        (lambda: ec.generate_private_key(ec.SECP521R1()), "secp521r1"),
        (lambda: ec.generate_private_key(ec.SECP256K1()), "secp256k1"),
        (ed448.Ed448PrivateKey.generate, "Ed448"),
        (lambda: dsa.generate_private_key(2048), "DSA"),
    ],
)
def test_weak_and_rare_kinds_are_refused_and_named(make: Callable[[], Any], what: str) -> None:
    key = make().public_key()
    with pytest.raises(ValueError, match=what):
        public_text(key)
    with pytest.raises(ValueError, match=what):
        tuf_public(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode())


@pytest.mark.parametrize(
    "text", ["", "Z" * 64, "ab" * 31, "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"]
)
def test_what_is_not_a_key_is_refused_with_its_place(text: str, tmp_path: Path) -> None:
    folder = dev_folder(tmp_path)
    value = yaml.safe_load((folder / KEYRING_FILE).read_text())
    value["tuf"]["releases"]["keys"][0]["public"] = text
    (folder / KEYRING_FILE).write_text(yaml.safe_dump(value))
    with pytest.raises(DocumentError, match=r"tuf\.releases\.keys.*public: must be an Ed25519 key"):
        Keyring.load(folder)
