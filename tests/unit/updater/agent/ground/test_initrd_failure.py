"""The one line that the initrd of a boot that could not go on leaves in the firmware's memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from updater.agent.efi import FAILURE, FAILURE_VENDOR, EfiVariables, InitrdFailure
from updater.errors import SlotError

ROOT_HASH = "ab" * 32


@pytest.fixture
def variable(tmp_path: Path) -> Path:
    return tmp_path / f"{FAILURE}-{FAILURE_VENDOR}"


def test_no_boot_failed(variable: Path) -> None:
    assert EfiVariables(variable.parent).initrd_failure() is None
    EfiVariables(variable.parent).remove_initrd_failure()


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (f"{ROOT_HASH} [ 3.1] twinhull: no disk ".encode(), InitrdFailure(ROOT_HASH, "[ 3.1] twinhull: no disk")),
        (b"- [ 3.1] x", InitrdFailure(None, "[ 3.1] x")),
        (b"", InitrdFailure(None, "")),
        (ROOT_HASH.encode(), InitrdFailure(ROOT_HASH, "")),
        (ROOT_HASH.upper().encode() + b" x", InitrdFailure(None, "x")),
        (ROOT_HASH.encode() + b" a\x1b[31m\xffb\0\n c", InitrdFailure(ROOT_HASH, "a [31m\ufffdb c")),
    ],
)
def test_it_names_the_system_and_the_reason(variable: Path, value: bytes, found: InitrdFailure) -> None:
    variable.write_bytes(b"\7\0\0\0" + value)
    assert EfiVariables(variable.parent).initrd_failure() == found


def test_it_is_bounded(variable: Path) -> None:
    variable.write_bytes(bytes(4) + ROOT_HASH.encode() + b" " + b"x" * 100_000)
    found = EfiVariables(variable.parent).initrd_failure()
    assert found is not None
    assert len(found.text) < 1024


def test_it_is_removed_once_it_is_recorded(variable: Path) -> None:
    variable.write_bytes(bytes(4) + b"- x")
    EfiVariables(variable.parent).remove_initrd_failure()
    assert not variable.exists()


def test_firmware_that_keeps_it_is_an_error(variable: Path) -> None:
    variable.mkdir()
    with pytest.raises(SlotError, match="cannot be removed"):
        EfiVariables(variable.parent).remove_initrd_failure()
