"""Setuid bits taken from programs, and the files of what is hardened."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from imagebuild.definition.hardening import Hardening
from imagebuild.paths import DATA
from imagebuild.steps.hardening import write_hardening

SCRIPT = DATA / "scripts/setuid.finalize"
SYSCTL = "usr/lib/sysctl.d/60-twinhull.conf"
LINE = re.compile(r"-?(?P<key>[a-z0-9_.*]+) = (?P<value>\d+)")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, mode in {"bin/su": 0o4755, "bin/chage": 0o2755, "bin/ls": 0o755, "sbin/unix_chkpwd": 0o6711}.items():
        path = tmp_path / "root/usr" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        path.chmod(mode)
    (tmp_path / "root/usr/bin/link").symlink_to("su")
    (tmp_path / "root/usr/bin/lost").symlink_to("nowhere")
    (tmp_path / "root/usr").chmod(0o2755)
    return tmp_path / "root"


def strip(root: Path, kept: str = "") -> subprocess.CompletedProcess[str]:
    env = {"PATH": os.environ["PATH"], "BUILDROOT": str(root), "OUTPUTDIR": str(root.parent), "TWINHULL_SETUID": kept}
    return subprocess.run([sys.executable, SCRIPT], env=env, capture_output=True, text=True, check=False, timeout=60)


def modes(root: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mode & 0o7777 for path in root.rglob("*") if path.is_file()}


def test_every_program_loses_the_bits_and_keeps_the_rest_of_its_mode(root: Path) -> None:
    assert strip(root).returncode == 0
    assert modes(root) == {"su": 0o755, "chage": 0o755, "ls": 0o755, "unix_chkpwd": 0o711, "link": 0o755}
    assert (root / "usr").stat().st_mode & 0o7777 == 0o2755
    lines = (root.parent / "stripped").read_text().splitlines()
    assert lines == ["2755 /usr/bin/chage", "4755 /usr/bin/su", "6711 /usr/sbin/unix_chkpwd"]


def test_a_program_that_is_named_keeps_them(root: Path) -> None:
    assert strip(root, "/usr/bin/su:/usr/bin/chage").returncode == 0
    assert modes(root)["su"] == 0o4755
    assert (root.parent / "stripped").read_text() == "6711 /usr/sbin/unix_chkpwd\n"


@pytest.mark.parametrize("name", ["/usr/bin/sudo", "/usr/bin/ls"])
def test_naming_what_is_not_setuid_fails(root: Path, name: str) -> None:
    done = strip(root, name)
    assert done.returncode == 1
    assert name in done.stderr
    assert modes(root)["su"] == 0o4755


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may set a file capability")
def test_file_capabilities_go_too(root: Path) -> None:
    # cap_net_raw+ep as the kernel keeps it (capabilities(7), version 2).
    ping = root / "usr/bin/ls"
    os.setxattr(ping, "security.capability", bytes.fromhex("0100000200200000000000000000000000000000"))
    assert strip(root).returncode == 0
    assert os.listxattr(ping) == []
    assert "0755 /usr/bin/ls" in (root.parent / "stripped").read_text()


def test_parts_that_are_off_leave_no_file(tmp_path: Path) -> None:
    write_hardening(Hardening(), tmp_path / "on")
    write_hardening(Hardening(sysctl=False), tmp_path / "half")
    write_hardening(Hardening(sysctl=False, mounts=False), tmp_path / "off")
    assert (tmp_path / "on" / SYSCTL).is_file()
    assert not (tmp_path / "half" / SYSCTL).exists()
    assert (tmp_path / "half/usr/lib/systemd/system/tmp.mount.d/10-hardening.conf").is_file()
    assert not (tmp_path / "off").exists()


def test_each_setting_is_written_once_and_networks_to_come_get_it_too() -> None:
    text = (DATA / "hardening/sysctl" / SYSCTL).read_text()
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    settings = {match["key"]: match["value"] for line in lines if (match := LINE.fullmatch(line))}
    assert len(settings) == len(lines)
    for key, value in settings.items():
        if ".conf.*." in key:
            assert settings[key.replace("*", "default")] == value
