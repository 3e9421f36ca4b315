"""Appending to db and dbx: once, read back, and honest about what the firmware says."""

from __future__ import annotations

import errno
import hashlib
import os
import struct
from dataclasses import replace
from pathlib import Path

import pytest

from keys.secureboot.pe import authenticode_digest
from keys.secureboot.siglist import BootVariable
from partitions.entries import parse_entry
from tests.fakes.firmware import MemoryDatabases, payloads, revoking, trust_of, trusting_certificate
from tests.fakes.pe_files import pe_file
from updater.agent.boot_trust.applying import BootTrustOutcome, apply_boot_trust
from updater.agent.boot_trust.databases import EfiDatabases
from updater.agent.boot_trust.judging import BootProgram, ProgramState
from updater.agent.boot_trust.programs import programs_in
from updater.errors import FirmwareError

OLD, RUNS = hashlib.sha256(b"old").digest(), hashlib.sha256(b"runs").digest()
PROGRAMS = (BootProgram("host_1.0.1.efi", ProgramState.RUNNING, blessed=True, digest=RUNS),)
DBX = "dbx-d719b2cb-3d3a-4596-a3bc-dad00e67656f"


def test_updates_are_appended_once() -> None:
    updates, databases = (trusting_certificate(), revoking(OLD)), MemoryDatabases()
    first = apply_boot_trust(trust_of(*updates), lambda: PROGRAMS, databases, secure_boot=True)
    assert first == BootTrustOutcome(appended=("db is renewed", "a hole"))
    assert [written for _, written in databases.written] == payloads(updates)
    second = apply_boot_trust(trust_of(*updates), lambda: PROGRAMS, databases, secure_boot=True)
    assert second == BootTrustOutcome(present=2)
    assert len(databases.written) == 2


def test_what_has_to_wait_is_said_and_the_others_are_appended() -> None:
    databases = MemoryDatabases()
    document = trust_of(revoking(RUNS, reason="host 1.0.1: a hole"), revoking(OLD))
    done = apply_boot_trust(document, lambda: PROGRAMS, databases, secure_boot=True)
    assert done.appended == ("a hole",)
    assert done.waiting[0].startswith("host 1.0.1: a hole: it would stop host_1.0.1.efi")


def test_without_secure_boot_nothing_is_written() -> None:
    for secure_boot in (False, None):
        databases = MemoryDatabases()
        done = apply_boot_trust(trust_of(revoking(OLD)), lambda: PROGRAMS, databases, secure_boot=secure_boot)
        assert (done, databases.written) == (BootTrustOutcome(), [])


def test_what_the_firmware_refuses_or_forgets_has_failed() -> None:
    for databases, says in (
        (MemoryDatabases(refuses="its KEK is another one"), "a hole: its KEK is another one"),
        (MemoryDatabases(forgets=True), "accepted it, and dbx does not have it"),
    ):
        done = apply_boot_trust(trust_of(revoking(OLD)), lambda: PROGRAMS, databases, secure_boot=True)
        assert (done.appended, says in done.failed[0]) == ((), True)


@pytest.fixture
def efivars(tmp_path: Path) -> EfiDatabases:
    (tmp_path / "efivars").mkdir()
    return EfiDatabases(tmp_path / "efivars")


def test_a_variable_is_read_without_its_attributes(efivars: EfiDatabases, tmp_path: Path) -> None:
    assert efivars.read(BootVariable.DBX) == b""
    (efivars.folder / DBX).write_bytes(struct.pack("<I", 0x27) + b"lists")
    assert efivars.read(BootVariable.DBX) == b"lists"
    assert EfiDatabases(tmp_path / "nowhere").read(BootVariable.DBX) is None
    (efivars.folder / DBX).unlink()
    (efivars.folder / DBX).mkdir()
    assert efivars.read(BootVariable.DBX) is None


def test_an_append_is_one_write_with_the_attributes_that_firmware_requires(efivars: EfiDatabases) -> None:
    written: list[bytes] = []

    def recorded(handle: int, data: bytes) -> int:
        written.append(data)
        return os.write(handle, data)

    replace(efivars, write=recorded).append(BootVariable.DBX, b"payload")
    # Non-volatile, boot, run time, time-based authentication, append.
    assert written == [struct.pack("<I", 0x67) + b"payload"]
    assert (efivars.folder / DBX).read_bytes() == struct.pack("<I", 0x67) + b"payload"


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (errno.EACCES, "its KEK is another one"),
        (errno.ENOSPC, "no room left"),
        (errno.EROFS, "read-only"),
        (errno.EBUSY, "Device or resource busy"),
    ],
)
def test_what_the_firmware_says_is_put_into_words(number: int, says: str, efivars: EfiDatabases) -> None:
    def refuse(handle: int, data: bytes) -> int:
        raise OSError(number, os.strerror(number))

    with pytest.raises(FirmwareError, match=f"{DBX}: nothing was appended: .*{says}"):
        replace(efivars, write=refuse).append(BootVariable.DBX, b"payload")


def test_programs_are_named_by_what_they_mean(tmp_path: Path) -> None:
    names = ("host_1.0.0.efi", "host_1.0.1+2-1.efi", "host_0.9.0+0-3.efi", "foreign.efi", "host_1.0.2.efi.new")
    for number, name in enumerate(names):
        (tmp_path / name).write_bytes(pe_file(b"%d" % number))
    (tmp_path / "host_1.1.0.efi").write_bytes(b"")
    loader = tmp_path / "loader" / "systemd-bootx64.efi"
    loader.parent.mkdir()
    loader.write_bytes(pe_file(b"loader"))
    running = parse_entry("host_1.0.1+2-1.efi")
    found = {each.name: each for each in programs_in(tmp_path, running=running, loaders=(loader,))}
    assert {name: each.state for name, each in found.items()} == {
        "host_1.0.0.efi": ProgramState.BLESSED,
        "host_1.0.1+2-1.efi": ProgramState.RUNNING,
        "host_0.9.0+0-3.efi": ProgramState.OTHER,
        "foreign.efi": ProgramState.OTHER,
        "host_1.1.0.efi": ProgramState.BLESSED,
        "systemd-bootx64.efi": ProgramState.LOADER,
    }
    assert not found["host_1.0.1+2-1.efi"].blessed
    assert found["host_1.1.0.efi"].digest is None
    assert found["systemd-bootx64.efi"].digest == authenticode_digest(loader)
