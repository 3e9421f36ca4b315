"""The public key of a source: an OpenPGP key file, armored or binary, as its owner publishes it.

Source: RFC 9580, sections 4.2 (packet headers) and 6.2 (armor).
Pure.
"""

from __future__ import annotations

from imagebuild.errors import RefusedInputError

_ARMORED, _PRIVATE = b"-----BEGIN PGP PUBLIC KEY BLOCK-----", b"-----BEGIN PGP PRIVATE KEY BLOCK-----"
_SECRET_KEY, _PUBLIC_KEY = 5, 6
_IS_PACKET, _NEW_FORMAT = 0x80, 0x40


def key_suffix(content: bytes, *, source: str, file: str) -> str:
    """The file name ending by which apt knows what kind of key file this is: `.asc` or `.gpg`.

    Raises:
        RefusedInputError: It is not a public key.
    """
    if content.lstrip().startswith(_ARMORED):
        return ".asc"
    tag = _first_tag(content)
    if tag == _PUBLIC_KEY:
        return ".gpg"
    if tag == _SECRET_KEY or content.lstrip().startswith(_PRIVATE):
        raise RefusedInputError(f"the key of the source {source} is a private key: {file}").with_hint(
            "keep it out of the definition, and export its public part: gpg --export --armor FINGERPRINT"
        )
    raise RefusedInputError(f"the key of the source {source} is not an OpenPGP public key: {file}").with_hint(
        "signed_by names the key file that the repository's owner publishes, armored (.asc) or binary (.gpg)"
    )


def _first_tag(content: bytes) -> int | None:
    if not content or not content[0] & _IS_PACKET:
        return None
    return content[0] & 0x3F if content[0] & _NEW_FORMAT else (content[0] & 0x3C) >> 2
