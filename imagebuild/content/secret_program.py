"""Finds what looks like a secret in an image's tree; runs as a script inside the tools tree.

Rules: only the standard library; one JSON request from the given file, one JSON answer on stdout; every file is read,
a piece at a time, so that memory use is bounded.
What counts: private keys (PEM, OpenSSH, DER, PKCS#12, WireGuard), passwords and their hashes, the identity of a
machine, random seeds.  A program that only contains the first line of a key holds no key: a key has a body.  Test keys
inside packaged programs are public in Debian's archive, so those programs are skipped.
"""

from __future__ import annotations

import json
import os
import re
import stat
import sys
from collections.abc import Collection, Iterator
from pathlib import Path

_PIECE = 4 << 20
# A key's head, its headers and the first lines of its body; PGP keys end with five dashes of their own.
_OVERLAP = 4 << 10
_MARK = b"PRIVATE KEY"
_PEM = re.compile(
    rb"-----BEGIN (?P<kind>[A-Z0-9 ]{0,30})PRIVATE KEY(?: BLOCK)?-----[ \t]*\r?\n"
    rb"(?:[A-Za-z0-9-]+: [^\r\n]{0,200}\r?\n){0,8}(?:[ \t]*\r?\n)?"
    rb"(?:[ \t]*[A-Za-z0-9+/=]{16,80}[ \t]*\r?\n){1,}"
)
# The same on one line, as JSON and YAML carry it.
_ESCAPED_PEM = re.compile(rb"-----BEGIN [A-Z0-9 ]{0,30}PRIVATE KEY-----(?:\\n|\\r\\n)[A-Za-z0-9+/=]{16,}")
_SMALL = 64 << 10
# An elliptic curve's key is shorter, an RSA key longer.
_SMALLEST_RSA = 300
_SHORTEST, _SEQUENCE = 16, 0x30
_RSA, _EC, _ED = (
    b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01",
    b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01",
    b"\x06\x03\x2b\x65",
)
_PKCS7 = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07"
_PBES = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x05"
_WIREGUARD = re.compile(rb"^[ \t]*(?:PrivateKey|PresharedKey)[ \t]*=[ \t]*[A-Za-z0-9+/]{43}=", re.MULTILINE)
_HASH = re.compile(r"\$(?:1|2[abxy]?|5|6|7|y|gy|sha1|argon2\w*)\$[^:\s]{8,}|[./0-9A-Za-z]{13}|_[./0-9A-Za-z]{19}")
_ANY_HASH = re.compile(rb"\$(?:2[abxy]|5|6|7|y|gy)\$[A-Za-z0-9./=$,]{20,}")
_IDENTITIES = {
    "etc/machine-id": "the id of a machine",
    "var/lib/dbus/machine-id": "the id of a machine",
    "var/lib/systemd/random-seed": "a random seed",
    "etc/random-seed": "a random seed",
    "boot/loader/random-seed": "a random seed",
    "efi/loader/random-seed": "a random seed",
    "var/lib/systemd/credential.secret": "the secret of systemd's credentials",
    "etc/ssh/ssh_host_key": "a host key",
}
_CREDENTIALS = ("etc/credstore", "usr/lib/credstore", "etc/credstore.encrypted", "usr/lib/credstore.encrypted")
_PASSWORD_FILES = ("etc/passwd", "etc/shadow", "etc/gshadow", "etc/passwd-", "etc/shadow-", "etc/gshadow-")
_NO_PASSWORD = ("*", "!", "!!", "!*", "x", "!locked", "*LK*")
# Readable settings, where a hash of a password stands for one.
_TEXTS = ("etc", "usr/lib/userdb", "usr/lib/sysusers.d", "usr/lib/credstore")


def find(tree: Path, packaged: Collection[str]) -> Iterator[tuple[str, str]]:
    """Every secret in the tree: its path in the image and its kind; `packaged` are the paths that packages own."""
    yield from identities(tree)
    yield from passwords(tree)
    for folder, _, names in os.walk(tree):
        for name in sorted(names):
            path = Path(folder, name)
            found = path.lstat()
            if stat.S_ISREG(found.st_mode) and found.st_size:
                image = path.relative_to(tree)
                if f"/{image}" in packaged and is_program(path):
                    continue
                for what in secrets_of(path, found.st_size, image):
                    yield f"/{image}", what


def identities(tree: Path) -> Iterator[tuple[str, str]]:
    """Files that make one machine different from the next."""
    for name, what in _IDENTITIES.items():
        path = tree / name
        if path.is_file() and not path.is_symlink() and path.read_bytes().strip() not in (b"", b"uninitialized"):
            yield f"/{name}", what
    for folder in _CREDENTIALS:
        for path in sorted((tree / folder).glob("passwd.*password.*")):
            yield f"/{path.relative_to(tree)}", "a password"


def passwords(tree: Path) -> Iterator[tuple[str, str]]:
    """Users and groups with a password, or with an empty one."""
    for name in _PASSWORD_FILES:
        path = tree / name
        if not path.is_file() or path.is_symlink():
            continue
        for line in path.read_text(errors="replace").splitlines():
            account, _, rest = line.partition(":")
            secret = rest.partition(":")[0]
            if secret == "" and "gshadow" not in name and rest:
                yield f"/{name}", f"{account} without a password, so that anybody can log in"
            elif secret not in _NO_PASSWORD and _HASH.fullmatch(secret.lstrip("!")):
                yield f"/{name}", f"the password hash of {account}"


def is_program(path: Path) -> bool:
    """Whether a file is a program or a library."""
    with path.open("rb") as stream:
        return stream.read(4) == b"\x7fELF"


def secrets_of(path: Path, size: int, image: Path) -> Iterator[str]:
    """What secrets a file holds."""
    with path.open("rb") as stream:
        start = stream.read(_PIECE)
        if size <= _SMALL:
            if kind := binary_key(start):
                yield kind
            if _WIREGUARD.search(start):
                yield "a WireGuard key"
            if str(image).startswith(_TEXTS) and str(image) not in _PASSWORD_FILES and _ANY_HASH.search(start):
                yield "a password hash"
        piece = start
        while piece:
            if _MARK in piece and (kind := text_key(piece)):
                yield kind
                return
            following = stream.read(_PIECE)
            piece = piece[-_OVERLAP:] + following if following else b""


def text_key(piece: bytes) -> str | None:
    """The private key in text that a piece of a file holds."""
    if found := _PEM.search(piece):
        kind = found["kind"].decode().strip().lower()
        return f"a private key ({kind})" if kind else "a private key"
    return "a private key" if _ESCAPED_PEM.search(piece) else None


def binary_key(content: bytes) -> str | None:
    """The private key that a whole file is, in DER."""
    body = der_body(content)
    if body is None:
        return None
    head, small = body[:64], len(content) < _SMALLEST_RSA
    if head.startswith(b"\x02\x01\x03\x30") and _PKCS7 in head:
        return "a private key (PKCS#12)"
    if head.startswith((b"\x02\x01\x00\x30", b"\x02\x01\x01\x30")) and any(
        oid in head[:24] for oid in (_RSA, _EC, _ED)
    ):
        return "a private key (PKCS#8, DER)"
    if head.startswith(b"\x30") and _PBES in head[:16]:
        return "a private key (encrypted PKCS#8, DER)"
    plain = head.startswith(b"\x02\x01\x01\x04" if small else b"\x02\x01\x00\x02")
    return f"a private key ({'EC' if small else 'RSA'}, DER)" if plain else None


def der_body(content: bytes) -> bytes | None:
    """What the one sequence that a file consists of holds."""
    if len(content) < _SHORTEST or content[0] != _SEQUENCE:
        return None
    length, begin = content[1], 2
    if length & 0x80:
        count = length & 0x7F
        if count not in (1, 2, 3):
            return None
        length, begin = int.from_bytes(content[2 : 2 + count], "big"), 2 + count
    return content[begin:] if begin + length == len(content) else None


def main(request: Path) -> None:
    """Print everything that was found."""
    wanted = json.loads(request.read_text())
    found = find(Path(wanted["tree"]), frozenset(wanted["packaged"]))
    json.dump({"found": sorted(set(found))}, sys.stdout)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
