"""Distinguishes an encrypted credential (`systemd-creds encrypt`) from a plain one, by its first bytes.

Encryption hides a document from whoever reads the disk or the firmware; it does not prove who wrote it, because
anybody at the machine may encrypt to its TPM.  Source: systemd 257, creds-util.h (the ids of key types).  Pure.
"""

from __future__ import annotations

import base64
import binascii
import re

_IDS = frozenset(
    bytes.fromhex(text)
    for text in (
        "5a1c6a86df9d4096b1d5a65e0862f19a",  # the host's key
        "0c7cc07b117645919c4b0bea08bc20fe",  # the TPM
        "faf7eb9341e3412ca1a436f95a29362f",  # the TPM, and signed measurements
        "93a894094874449090caf2fc93cab553",  # the host's key and the TPM
        "af4950a849134eb1a73846304ff30c05",  # both, and signed measurements
        "058469daf6f54324800549da0f8ea2fb",  # no key at all
    )
)
_ID_CHARS = 24
_BASE64 = re.compile(rb"[A-Za-z0-9+/=\s]+")


def is_encrypted(data: bytes) -> bool:
    """Whether these bytes are a credential that systemd has to decrypt."""
    if _BASE64.fullmatch(data) is None:
        return False
    try:
        return base64.b64decode(b"".join(data.split())[:_ID_CHARS], validate=True)[:16] in _IDS
    except binascii.Error:
        return False
