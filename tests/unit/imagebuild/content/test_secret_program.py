from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization as pack
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import pkcs12

from imagebuild.content.secret_program import find, main

RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()
PLAIN = pack.NoEncryption()
PEM = pack.Encoding.PEM
LOCKED = pack.BestAvailableEncryption(b"passphrase")


def at(tree: Path, name: str, content: bytes) -> None:
    path = tree / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def found(tree: Path, packaged: tuple[str, ...] = ()) -> list[tuple[str, str]]:
    return sorted(find(tree, packaged))


@pytest.mark.parametrize(
    "key",
    [
        RSA.private_bytes(PEM, pack.PrivateFormat.TraditionalOpenSSL, PLAIN),
        RSA.private_bytes(PEM, pack.PrivateFormat.TraditionalOpenSSL, LOCKED),
        RSA.private_bytes(PEM, pack.PrivateFormat.PKCS8, LOCKED),
        EC.private_bytes(PEM, pack.PrivateFormat.PKCS8, PLAIN),
        EC.private_bytes(PEM, pack.PrivateFormat.TraditionalOpenSSL, PLAIN),
        ED.private_bytes(PEM, pack.PrivateFormat.PKCS8, PLAIN),
        ED.private_bytes(PEM, pack.PrivateFormat.OpenSSH, PLAIN),
        ED.private_bytes(PEM, pack.PrivateFormat.PKCS8, PLAIN).replace(b"\n", b"\r\n"),
        json.dumps({"key": ED.private_bytes(PEM, pack.PrivateFormat.PKCS8, PLAIN).decode()}).encode(),
        RSA.private_bytes(pack.Encoding.DER, pack.PrivateFormat.TraditionalOpenSSL, PLAIN),
        RSA.private_bytes(pack.Encoding.DER, pack.PrivateFormat.PKCS8, PLAIN),
        RSA.private_bytes(pack.Encoding.DER, pack.PrivateFormat.PKCS8, LOCKED),
        EC.private_bytes(pack.Encoding.DER, pack.PrivateFormat.TraditionalOpenSSL, PLAIN),
        EC.private_bytes(pack.Encoding.DER, pack.PrivateFormat.PKCS8, PLAIN),
        ED.private_bytes(pack.Encoding.DER, pack.PrivateFormat.PKCS8, PLAIN),
        pkcs12.serialize_key_and_certificates(b"name", RSA, None, None, LOCKED),
    ],
)
def test_a_private_key_is_found_in_any_form(tmp_path: Path, key: bytes) -> None:
    at(tmp_path, "srv/anything.bin", key)
    ((path, what),) = found(tmp_path)
    assert path == "/srv/anything.bin"
    assert what.startswith("a private key")


def test_a_key_across_two_pieces_of_a_large_file_is_found(tmp_path: Path) -> None:
    key = RSA.private_bytes(PEM, pack.PrivateFormat.PKCS8, PLAIN)
    for before in ((4 << 20) - 20, (4 << 20) - 200, (9 << 20)):
        at(tmp_path, f"large-{before}", b"\n" * before + key + bytes(100))
    assert len(found(tmp_path)) == 3


@pytest.mark.parametrize(
    "content",
    [
        b"-----BEGIN PRIVATE KEY-----\0-----END PRIVATE KEY-----\0",
        b'grep -q "BEGIN OPENSSH PRIVATE KEY" "$1"\n',
        b"-----BEGIN RSA PRIVATE KEY-----\n...\n-----END RSA PRIVATE KEY-----\n",
        ED.public_key().public_bytes(PEM, pack.PublicFormat.SubjectPublicKeyInfo),
        RSA.public_key().public_bytes(pack.Encoding.DER, pack.PublicFormat.PKCS1),
        RSA.public_key().public_bytes(pack.Encoding.DER, pack.PublicFormat.SubjectPublicKeyInfo),
        b"\x30\x03\x02\x01\x00",
        b"",
    ],
)
def test_what_only_looks_like_a_key_is_none(tmp_path: Path, content: bytes) -> None:
    at(tmp_path, "usr/bin/tool", content)
    assert found(tmp_path) == []


def test_a_packages_program_may_hold_the_key_it_tests_itself_with_and_nothing_else_may(tmp_path: Path) -> None:
    key = b"\x7fELF" + ED.private_bytes(PEM, pack.PrivateFormat.PKCS8, PLAIN)
    at(tmp_path, "usr/lib/libgnutls.so", key)
    at(tmp_path, "usr/lib/mine.so", key)
    at(tmp_path, "usr/share/package/test.key", key[4:])
    packaged = ("/usr/lib/libgnutls.so", "/usr/share/package/test.key")
    assert [path for path, _ in found(tmp_path, packaged)] == ["/usr/lib/mine.so", "/usr/share/package/test.key"]


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("etc/machine-id", b"0123456789abcdef0123456789abcdef\n", "the id of a machine"),
        ("var/lib/systemd/random-seed", b"seed", "a random seed"),
        ("var/lib/systemd/credential.secret", b"secret", "the secret of systemd's credentials"),
        ("etc/credstore/passwd.hashed-password.root", b"x", "a password"),
        ("etc/shadow", b"root:*:1::::::\nme:$y$j9T$abcdefgh$01234567:1::::::\n", "the password hash of me"),
        ("etc/shadow", b"me:!$6$abcdefgh$01234567:1::::::\n", "the password hash of me"),
        ("etc/shadow", b"me:abJnggxhB/yWI:1::::::\n", "the password hash of me"),
        ("etc/shadow", b"me::1::::::\n", "me without a password, so that anybody can log in"),
        ("etc/passwd", b"me::1:1::/:/bin/sh\n", "me without a password, so that anybody can log in"),
        ("etc/gshadow", b"team:$6$abcdefgh$01234567::\n", "the password hash of team"),
        ("etc/app.conf", b"hash = $2b$12$abcdefghijklmnopqrstuv0123456789\n", "a password hash"),
        ("etc/wg.netdev", b"[WireGuard]\nPrivateKey = " + base64.b64encode(bytes(32)) + b"\n", "a WireGuard key"),
    ],
)
def test_what_belongs_to_one_machine_or_person_is_found(tmp_path: Path, name: str, content: bytes, what: str) -> None:
    at(tmp_path, name, content)
    assert found(tmp_path) == [(f"/{name}", what)]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("etc/machine-id", b""),
        ("etc/machine-id", b"uninitialized\n"),
        ("etc/shadow", b"root:*:1::::::\nredis:!:1::::::\nstatd:!*:1:::::1:\n"),
        ("etc/gshadow", b"adm:*::\nteam:!::me\nempty:::\n"),
        ("etc/passwd", b"root:x:0:0::/root:/bin/bash\n"),
        ("etc/wg.conf", b"PrivateKeyFile = /etc/credstore/wg\n"),
    ],
)
def test_locked_accounts_and_identities_still_to_be_made_are_none(tmp_path: Path, name: str, content: bytes) -> None:
    at(tmp_path, name, content)
    assert found(tmp_path) == []


def test_links_are_not_followed_out_of_the_tree(tmp_path: Path) -> None:
    at(tmp_path, "outside/key", RSA.private_bytes(PEM, pack.PrivateFormat.PKCS8, PLAIN))
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "link").symlink_to(tmp_path / "outside/key")
    (tree / "folder").symlink_to(tmp_path / "outside")
    assert found(tree) == []


def test_the_program_answers_in_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    at(tmp_path, "tree/etc/machine-id", b"0123456789abcdef0123456789abcdef\n")
    at(tmp_path, "request.json", json.dumps({"tree": str(tmp_path / "tree"), "packaged": []}).encode())
    run: Callable[[Path], None] = main
    run(tmp_path / "request.json")
    assert json.loads(capsys.readouterr().out) == {"found": [["/etc/machine-id", "the id of a machine"]]}
