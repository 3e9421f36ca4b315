"""Keys for provisioning documents, and documents signed with them.

A key is a separate Ed25519 key, not one of the repository's: whoever provisions hosts need not be able to release.
The image carries its public half (`provision: {signed_by: [...]}`); the private half is a key URI like any other.
"""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from bedrock.errors import DocumentError, Problem
from bedrock.persist import write_new
from keys.passphrase import PassphraseSource
from keys.private import PRIVATE_MODE, private_pem
from keys.public import hex_of, read_ed25519
from keys.signers import open_signer
from updater.documents.envelope import seal
from updater.provision.policy import key_of
from updater.provision.reading import PAYLOAD_TYPE, parse_provision


def make_key(private: Path, public: Path, passphrase: PassphraseSource) -> str:
    """Make a key and write both halves to new files; the public half as text.

    Raises:
        FileExistsError: One of the files is there.
    """
    key = Ed25519PrivateKey.generate()
    write_new(private, private_pem(key, passphrase.passphrase(str(private))), mode=PRIVATE_MODE)
    write_new(public, key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return hex_of(key.public_key())


def sign(document: bytes, *, source: str, uri: str, public: Path, passphrase: PassphraseSource) -> bytes:
    """The signed form of a document.

    Raises:
        DocumentError: The document has errors, or no serial.
        KeysError: The key cannot be opened, or is not the private half of `public`.
    """
    if parse_provision(document, source=source).serial is None:
        raise DocumentError(
            source, (Problem("serial", "is missing: a host accepts only documents newer than its last"),)
        )
    signer = open_signer(uri, key_of(read_ed25519(public)), passphrase)
    return seal(document, payload_type=PAYLOAD_TYPE, signers=[signer])
