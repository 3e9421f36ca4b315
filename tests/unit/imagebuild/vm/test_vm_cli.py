from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from bedrock.errors import EXIT_USAGE
from imagebuild.errors import VmError
from imagebuild.vm.cli import vm


@pytest.mark.parametrize(
    "arguments",
    [
        ("--forward", "80"),
        ("--credential", "x"),
        ("--memory", "1"),
        ("--cpus", "0"),
        ("--credential", "a/b=c"),
        ("--disk", "tape"),
    ],
)
def test_wrong_options_are_wrong_usage(tmp_path: Path, arguments: tuple[str, str]) -> None:
    result = CliRunner().invoke(vm, ["run", str(tmp_path), *arguments])
    assert result.exit_code == EXIT_USAGE
    assert arguments[0] in result.output


def test_secure_boot_without_certificates_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "disk.raw").write_bytes(b"")
    with pytest.raises(VmError, match="certificates") as caught:
        CliRunner().invoke(vm, ["run", str(tmp_path)], catch_exceptions=False)
    assert any("--no-secure-boot" in hint for hint in caught.value.hints)


def test_a_disk_that_the_firmware_cannot_read_needs_the_uki_beside_it(tmp_path: Path) -> None:
    (tmp_path / "disk.raw").write_bytes(b"")
    line = ["run", str(tmp_path), "--no-secure-boot", "--disk", "megasas"]
    with pytest.raises(VmError, match=r"no driver for a megasas disk.*holds no uki\.efi"):
        CliRunner().invoke(vm, line, catch_exceptions=False)


def test_a_credential_given_twice_is_wrong_usage(tmp_path: Path) -> None:
    (tmp_path / "disk.raw").write_bytes(b"")
    line = ["run", str(tmp_path), "--no-secure-boot", "--credential", "a=1", "--credential", "a=2"]
    result = CliRunner().invoke(vm, line)
    assert result.exit_code == EXIT_USAGE
    assert "twice" in result.output


def test_the_help_shows_an_example() -> None:
    result = CliRunner().invoke(vm, ["run", "--help"])
    assert "twinhull vm run out/" in result.output
