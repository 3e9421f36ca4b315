"""Another key for a Secure Boot role, in a file; tests/integration/test_tokens.py has those in tokens."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from click import UsageError
from click.testing import CliRunner

from keys.boot_changes import new_boot_key
from keys.certificates import read_certificate
from keys.check import check
from keys.cli import keys
from keys.errors import KeyUriError, MissingKeyError
from keys.keyring import KEYRING_FILE, Keyring
from keys.passphrase import FixedPassphrase, NoPassphrase
from keys.private import is_encrypted
from keys.roles import BootRole
from keys.signers import open_boot_signer
from tests.fakes.boot_signatures import boot_signature_holds
from tests.fakes.clock import START
from tests.fakes.keyrings import PASSPHRASE, dev_folder, production_folder


def test_a_role_signs_with_the_new_key_and_the_old_files_stay(tmp_path: Path) -> None:
    folder = dev_folder(tmp_path)
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != KEYRING_FILE}
    old = read_certificate(folder / "db.crt")
    path = new_boot_key(folder, BootRole.DB, NoPassphrase(), now=START)
    assert path.name == "db-2.crt"
    signer = open_boot_signer(Keyring.load(folder), BootRole.DB, NoPassphrase())
    assert signer.certificate == read_certificate(path) != old
    assert boot_signature_holds(signer.certificate, signer.sign(b"data"), b"data")
    assert stat.S_IMODE((folder / "db-2.pem").stat().st_mode) == 0o600
    assert {name: (folder / name).read_bytes() for name in before} == before
    assert new_boot_key(folder, BootRole.DB, NoPassphrase(), now=START).name == "db-3.crt"


def test_production_keys_are_encrypted(tmp_path: Path) -> None:
    folder = production_folder(tmp_path)
    new_boot_key(folder, BootRole.KEK, FixedPassphrase(PASSPHRASE), now=START)
    assert is_encrypted((folder / "KEK-2.pem").read_bytes())
    assert not [finding for finding in check(folder, now=START) if "KEK-2" in finding.subject]


def test_by_hand(tmp_path: Path) -> None:
    folder = dev_folder(tmp_path)
    done = CliRunner().invoke(keys, ["boot-key", str(folder), "db"], standalone_mode=False)
    assert done.exception is None
    assert "db-2.crt" in done.output
    wrong = CliRunner().invoke(
        keys, ["boot-key", str(folder), "db", "--certificate", str(folder / "db.crt")], standalone_mode=False
    )
    assert isinstance(wrong.exception, UsageError)
    for uri in ("file:db.pem", "carrier-pigeon:coop"):
        refused = CliRunner().invoke(keys, ["boot-key", str(folder), "db", "--uri", uri], standalone_mode=False)
        assert isinstance(refused.exception, KeyUriError)


def test_without_a_keyring_there_is_nothing_to_change(tmp_path: Path) -> None:
    with pytest.raises(MissingKeyError):
        new_boot_key(tmp_path, BootRole.DB, NoPassphrase(), now=START)
    assert list(tmp_path.iterdir()) == []
