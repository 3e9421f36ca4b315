"""The document that says what is to be added to db and dbx."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

import pytest

from bedrock import strict
from bedrock.errors import DocumentError
from keys.secureboot.siglist import BootVariable, hashes_of, lists_of, parse_lists
from updater.documents.boot_trust import (
    FORMAT,
    BootTrust,
    BootTrustUpdate,
    parse_boot_trust,
    parse_boot_trust_to_change,
)
from updater.documents.release import Architecture

PAYLOAD = (Path(__file__).parents[2] / "keys/secureboot/efitools-dbx.auth").read_bytes()
REVOKED = hashes_of(parse_lists(lists_of(PAYLOAD)))


def document() -> BootTrust:
    update = BootTrustUpdate.of(PAYLOAD, variable=BootVariable.DBX, reason="host 1.0.0: a hole")
    return BootTrust(FORMAT, "host", Architecture.X86_64, (update,))


def changed(**update: object) -> bytes:
    value = json.loads(strict.dump_json(document()))
    value["updates"][0] |= update
    return json.dumps(value).encode()


def test_it_is_read_as_it_was_written() -> None:
    read = parse_boot_trust(strict.dump_json(document()), source="x")
    assert read == document()
    assert read.target_path == "boot/host/x86-64.json"
    assert read.revoked == REVOKED
    assert read.updates[0].bytes_to_append == PAYLOAD


def test_an_addition_to_db_revokes_nothing() -> None:
    read = parse_boot_trust(changed(variable="db"), source="x")
    assert read.revoked == frozenset()
    assert hashes_of(read.updates[0].signatures) == REVOKED


@pytest.mark.parametrize(
    ("update", "says"),
    [
        ({"payload": "%%%"}, "payload: "),
        ({"payload": base64.b64encode(PAYLOAD[:-1]).decode()}, "payload: holds a damaged list"),
        ({"payload": base64.b64encode(PAYLOAD[:-76]).decode()}, "payload: adds nothing"),
        ({"payload": base64.b64encode(bytes(1 << 17)).decode()}, "payload: is longer than"),
        ({"payload": ""}, "payload: has 0 bytes"),
        ({"variable": "PK"}, "variable"),
        ({"reason": "two\nlines"}, "reason"),
        ({"reason": ""}, "reason"),
    ],
)
def test_a_damaged_update_is_refused_with_its_place(update: dict[str, object], says: str) -> None:
    with pytest.raises(DocumentError, match=f"updates.*{says}"):
        parse_boot_trust(changed(**update), source="x")


def test_it_can_grow() -> None:
    grown = changed(measured="pcr7")
    assert parse_boot_trust(grown, source="x") == document()
    with pytest.raises(DocumentError, match="measured"):
        parse_boot_trust_to_change(grown, source="x")
    value = json.loads(grown) | {"critical": ["updates.measured"]}
    with pytest.raises(DocumentError, match="without understanding"):
        parse_boot_trust(json.dumps(value).encode(), source="x")


def test_a_hash_is_of_the_program_and_not_of_its_file() -> None:
    assert hashlib.sha256(PAYLOAD).digest() not in REVOKED
