from __future__ import annotations

import pytest

from imagebuild.errors import RefusedInputError
from imagebuild.inputs.keyfile import key_suffix


@pytest.mark.parametrize(
    ("content", "suffix"),
    [
        (b"\n-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nxx", ".asc"),
        (b"\x98\x33\x04", ".gpg"),
        (b"\x99\x01\x0d\x04", ".gpg"),
        (b"\xc6\x33\x04", ".gpg"),
    ],
)
def test_both_forms_of_a_public_key_are_known(content: bytes, suffix: str) -> None:
    assert key_suffix(content, source="tools", file="tools.key") == suffix


@pytest.mark.parametrize("content", [b"", b"<html>", b"ssh-ed25519 AAAA", b"\x88\x00", b"-----BEGIN CERTIFICATE-----"])
def test_what_is_no_key_is_refused_by_its_name(content: bytes) -> None:
    with pytest.raises(RefusedInputError, match=r"source tools is not an OpenPGP public key: tools\.key"):
        key_suffix(content, source="tools", file="tools.key")


@pytest.mark.parametrize("content", [b"-----BEGIN PGP PRIVATE KEY BLOCK-----\n", b"\x94\x58\x04", b"\xc5\x58\x04"])
def test_a_private_key_is_refused_with_what_to_do(content: bytes) -> None:
    with pytest.raises(RefusedInputError, match="is a private key") as caught:
        key_suffix(content, source="tools", file="tools.key")
    assert "gpg --export" in caught.value.hints[0]
