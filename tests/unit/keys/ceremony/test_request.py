from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bedrock.base64_bytes import Base64Bytes
from bedrock.errors import DocumentError
from keys.ceremony.cli import sign_command
from keys.ceremony.request import (
    FORMAT,
    Algorithm,
    Entry,
    PayloadKind,
    RequestedKey,
    SignerGroup,
    SigningRequest,
    merged,
    missing_lines,
    parse_request,
    request_bytes,
)
from keys.ceremony.signing import by_keyring, by_uris, explain, signed_with
from keys.errors import RequestMismatchError, UnrequestedKeyError
from keys.keyring import Keyring
from keys.passphrase import FixedPassphrase, NoPassphrase
from keys.private import private_pem
from keys.public import tuf_public
from keys.roles import BootRole, TufRole
from tests.fakes.keyrings import PASSPHRASE, dev_folder, production_folder

WORDS = {PayloadKind.TUF: lambda entry: [f"the text {entry.payload.content.decode()}"]}


def requested(keyring: Keyring, role: TufRole) -> tuple[RequestedKey, ...]:
    return tuple(RequestedKey.of(key.public, label=Path(key.uri).name) for key in keyring.role(role).keys)


def asked(keys: tuple[RequestedKey, ...], *, threshold: int = 2, payload: bytes = b"pay me") -> SigningRequest:
    group = SignerGroup("root keys", threshold, tuple(key.keyid for key in keys))
    entry = Entry(PayloadKind.TUF, "2.root.json", ("a lie",), Base64Bytes(payload), keys, (group,))
    return SigningRequest(FORMAT, "root 2", "a new year", (entry,))


@pytest.fixture
def keyring(tmp_path: Path) -> Keyring:
    return Keyring.load(production_folder(tmp_path))


@pytest.fixture
def request_(keyring: Keyring) -> SigningRequest:
    return asked(requested(keyring, TufRole.ROOT))


def sign_with(request: SigningRequest, keyring: Keyring, number: int) -> SigningRequest:
    uri = keyring.role(TufRole.ROOT).keys[number].uri
    return signed_with(request, by_uris(request, [uri], FixedPassphrase(PASSPHRASE)))


def test_a_request_survives_its_file(request_: SigningRequest) -> None:
    assert parse_request(request_bytes(request_), source="x") == request_


def test_the_file_has_what_people_read_before_the_bytes(request_: SigningRequest) -> None:
    value = json.loads(request_bytes(request_))
    assert list(value) == ["format", "title", "reason", "entries"]
    names = list(value["entries"][0])
    assert names[:4] == ["name", "kind", "description", "signers"]
    assert set(names) == set(Entry.__dataclass_fields__)


def test_signatures_of_two_copies_come_together(request_: SigningRequest, keyring: Keyring) -> None:
    one, two = sign_with(request_, keyring, 0), sign_with(request_, keyring, 2)
    assert not one.complete
    (line,) = missing_lines(one)
    assert line.startswith("2.root.json: 1 of root-2.pem (")
    both = merged(one, two)
    assert both.complete
    assert list(missing_lines(both)) == []
    assert parse_request(request_bytes(both), source="x") == both


def test_signing_twice_changes_nothing(request_: SigningRequest, keyring: Keyring) -> None:
    once = sign_with(request_, keyring, 0)
    assert sign_with(once, keyring, 0) == once


def test_a_keys_folder_signs_with_all_that_is_asked_for_and_here(request_: SigningRequest, keyring: Keyring) -> None:
    Path(keyring.folder / "root-2.pem").unlink()
    signed = signed_with(request_, by_keyring(request_, keyring, FixedPassphrase(PASSPHRASE)))
    assert signed.complete
    assert len(signed.entries[0].signatures) == 2


def test_a_key_nobody_asked_for_is_refused(request_: SigningRequest, keyring: Keyring, tmp_path: Path) -> None:
    with pytest.raises(UnrequestedKeyError, match=r"targets-1\.pem"):
        by_uris(request_, [keyring.role(TufRole.TARGETS).keys[0].uri], FixedPassphrase(PASSPHRASE))
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(UnrequestedKeyError, match="keys folder"):
        by_keyring(request_, Keyring.load(dev_folder(other)), NoPassphrase())


def test_copies_of_different_requests_do_not_come_together(request_: SigningRequest, keyring: Keyring) -> None:
    other = asked(requested(keyring, TufRole.ROOT), payload=b"pay somebody else")
    with pytest.raises(RequestMismatchError, match=r"2\.root\.json"):
        merged(request_, sign_with(other, keyring, 0))


def test_a_boot_key_signs_a_secure_boot_entry(keyring: Keyring) -> None:
    boot = keyring.boot_key(BootRole.DB)
    key = RequestedKey("ab" * 32, "db", Algorithm.RSA_PKCS1V15, boot.certificate.read_text())
    request = asked((key,), threshold=1)
    entry = replace(request.entries[0], kind=PayloadKind.SECURE_BOOT)
    request = replace(request, entries=(entry,))
    assert signed_with(request, by_keyring(request, keyring, FixedPassphrase(PASSPHRASE))).complete
    with pytest.raises(UnrequestedKeyError, match="secure-boot"):
        explain(request, WORDS)


def broken(request: SigningRequest, change: Any) -> bytes:
    plain = json.loads(request_bytes(request))
    change(plain["entries"][0])
    return json.dumps(plain).encode()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda entry: entry["signatures"][0].update(signature="00" * 64), "does not hold"),
        (lambda entry: entry.update(payload="cGF5IG1vcmU="), "does not hold"),
        (lambda entry: entry["signatures"][0].update(keyid="00" * 32), "not asked for"),
        (lambda entry: entry["signers"][0].update(threshold=True), "whole number"),
        (lambda entry: entry["signers"][0].update(threshold=4), "cannot sign"),
        (lambda entry: entry.update(signers=[]), "nobody is asked"),
        (lambda entry: entry["keys"].append({**entry["keys"][0], "keyid": "00" * 32}), "listed twice"),
        (lambda entry: entry["keys"][0].update(public="x"), "neither a public key nor a certificate"),
        (lambda entry: entry.update(payload="!"), "base64"),
        (lambda entry: entry.update(more=1), "unknown key"),
    ],
)
def test_a_request_that_was_tampered_with_is_refused(
    request_: SigningRequest, keyring: Keyring, change: Any, message: str
) -> None:
    signed = sign_with(request_, keyring, 0)
    with pytest.raises(DocumentError, match=message):
        parse_request(broken(signed, change), source="x")


def invoke(*words: str | Path) -> Result:
    return CliRunner().invoke(sign_command(WORDS), [str(word) for word in words], standalone_mode=False)


def test_sign_shows_the_payload_and_not_the_description(request_: SigningRequest, tmp_path: Path) -> None:
    file = tmp_path / "request.json"
    file.write_bytes(request_bytes(request_))
    key = Ed25519PrivateKey.generate()
    (tmp_path / "root-1.pem").write_bytes(private_pem(key, None))
    (tmp_path / "root-1.pem").chmod(0o600)
    public = tuf_public(key.public_key().public_bytes_raw().hex())
    mine = RequestedKey.of(public, label="root-1")
    file.write_bytes(request_bytes(asked((mine,), threshold=1)))
    uri = f"file:{tmp_path}/root-1.pem"
    unasked = invoke(file, "--key", uri)
    assert "nobody can be asked" in str(unasked.exception)
    result = invoke(file, "--key", uri, "--yes")
    assert result.return_value == 0
    assert "the text pay me" in result.output
    assert "a lie" not in result.output
    assert "no signature is missing" in result.output
    before = file.read_bytes()
    assert invoke(file, "--key", uri, "--yes").return_value == 4
    assert file.read_bytes() == before
