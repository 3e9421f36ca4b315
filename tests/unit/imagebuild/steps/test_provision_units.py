"""The unit that takes in a host's configuration, and the script that says whether it has anything to do."""

from __future__ import annotations

import subprocess
from configparser import RawConfigParser
from pathlib import Path

import pytest

import imagebuild

TREE = Path(str(imagebuild.__file__)).parent / "data/tree/usr/lib"
UNIT = TREE / "systemd/system/twinhull-provision.service"
DUE = TREE / "twinhull/provision-due"


def due(root: Path) -> int:
    """The script's exit code with another root; only the paths in it are changed."""
    text = DUE.read_text()
    for folder in ("/run/", "/sys/", "/var/", "/usr/lib/os-release", "/usr/lib/twinhull/etc-policy"):
        text = text.replace(f" {folder}", f" {root}{folder}")
    (root / "due").write_text(text)
    return subprocess.run(["/bin/sh", root / "due"], check=False).returncode


def put(path: Path, data: bytes = b"") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    put(tmp_path / "usr/lib/os-release", b'ID=debian\nIMAGE_VERSION="1.0.1"\n')
    return tmp_path


def test_nothing_came_so_nothing_is_started(root: Path) -> None:
    assert due(root) == 1
    put(root / "sys/firmware/dmi/entries/11-0/raw", b"\x0b\x05\0\0\x01io.systemd.credential:other=1\0\0")
    assert due(root) == 1


@pytest.mark.parametrize(
    "path",
    [
        "run/credentials/@system/twinhull.provision",
        "run/twinhull/boot-credentials/anything",
        "sys/firmware/qemu_fw_cfg/by_name/opt/io.systemd.credentials/twinhull.provision/raw",
    ],
)
def test_whatever_came_is_looked_at(root: Path, path: str) -> None:
    put(root / path)
    assert due(root) == 0


@pytest.mark.parametrize("kind", [b"", b".binary"])
def test_the_firmware_s_table_is_looked_into(root: Path, kind: bytes) -> None:
    string = b"io.systemd.credential" + kind + b":twinhull.provision=x"
    put(root / "sys/firmware/dmi/entries/11-1/raw", b"\x0b\x05\0\0\x01" + string + b"\0\0")
    assert due(root) == 0


@pytest.mark.parametrize(("version", "code"), [("1.0.1", 1), ("1.0.0", 0)])
def test_another_version_takes_over_the_bundle(root: Path, version: str, code: int) -> None:
    put(root / "var/lib/twinhull/provision.json", f'{{\n  "bundle_of": "{version}",\n  "x": 1\n}}\n'.encode())
    assert due(root) == code


def test_what_a_document_writes_is_written_before_it_is_read() -> None:
    parser = RawConfigParser(strict=False)
    text = UNIT.read_text().replace("\nBefore=", "\nBefore2=", 1)
    parser.read_string(text)
    before = UNIT.read_text()
    for name in ("sysinit.target", "systemd-sysusers.service", "systemd-networkd.service", "network-pre.target"):
        assert any(name in line for line in before.splitlines() if line.startswith("Before="))
    # It must not be able to keep the host from booting: it is ordered, and nothing requires it.
    assert "Requires" not in parser["Install"]
    assert parser["Install"]["WantedBy"] == "sysinit.target"
    assert parser["Service"]["TimeoutStartSec"] != "infinity"
    assert parser["Unit"]["DefaultDependencies"] == "no"


@pytest.mark.parametrize(("mode", "code"), [("overlay", 1), ("allowlist", 0), ("volatile", 0)])
def test_a_stored_document_is_looked_at_where_etc_passes(root: Path, mode: str, code: int) -> None:
    put(root / "usr/lib/twinhull/etc-policy", f"mode {mode}\nfile hostname\n".encode())
    assert due(root) == 1
    put(root / "var/lib/twinhull/provision-document")
    assert due(root) == code
