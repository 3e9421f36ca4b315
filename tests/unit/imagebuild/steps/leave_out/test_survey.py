"""What a tree's files say that they need."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from imagebuild.paths import SOURCE_ROOT
from imagebuild.steps.leave_out.survey import Order, commands, interpreter, started, survey
from tests.fakes.elf_files import elf_file

PATTERNS = ("/usr/bin/gpg", "/usr/bin/openssl", "/usr/lib/gnupg", "/usr/lib/systemd/system/sleepy@.service")


def put(root: Path, path: str, content: str | bytes, *, mode: int = 0o644) -> None:
    target = root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content if isinstance(content, bytes) else content.encode())
    target.chmod(mode)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    put(tmp_path, "usr/bin/gpg", elf_file("libgcrypt.so.20"), mode=0o755)
    put(tmp_path, "usr/bin/openssl", elf_file("libssl.so.3"), mode=0o755)
    put(tmp_path, "usr/lib/gnupg/helper", "")
    put(tmp_path, "usr/lib/systemd/system/sleepy@.service", "[Service]\nExecStart=/usr/bin/true\n")
    return tmp_path


def row(root: Path, path: str, *, closely: bool = False) -> dict[str, Any]:
    order = Order(str(root), PATTERNS, (path,) if closely else ())
    return next(row for row in survey(order) if row["path"] == path)


def test_names_are_sorted_and_told_apart(root: Path) -> None:
    (root / "usr/bin/link").symlink_to("gpg")
    rows = survey(Order(str(root), PATTERNS, ()))
    assert [each["path"] for each in rows] == sorted(each["path"] for each in rows)
    kinds = {each["path"]: each["kind"] for each in rows}
    assert (kinds["/usr"], kinds["/usr/bin/gpg"], kinds["/usr/bin/link"]) == ("d", "f", "l")
    assert row(root, "/usr/bin/link")["target"] == "gpg"


def test_a_program_tells_its_libraries_and_what_it_loads(root: Path) -> None:
    note = {"soname": ["libz.so.1", "libz.so.0"], "priority": "required"}
    put(root, "usr/bin/one", elf_file("liba.so.1", dlopen=[note]), mode=0o755)
    found = row(root, "/usr/bin/one")
    assert found["needed"] == ["liba.so.1"]
    assert found["dlopen"] == [{"names": ["libz.so.1", "libz.so.0"], "priority": "required"}]


def test_a_damaged_program_is_data(root: Path) -> None:
    put(root, "usr/share/test.elf", elf_file("liba.so.1")[:70])
    assert "needed" not in row(root, "/usr/share/test.elf")


def test_kernel_modules_are_not_read(root: Path) -> None:
    put(root, "usr/lib/modules/1/kernel/a.ko", elf_file("liba.so.1"))
    assert "needed" not in row(root, "/usr/lib/modules/1/kernel/a.ko")


def test_a_unit_starts_programs_by_path_and_by_name(root: Path) -> None:
    text = "[Service]\nExecStartPre=-/bin/gpg --x\nExecStart=openssl \\\n  s_server\n# ExecStop=/usr/lib/gnupg/helper\n"
    put(root, "usr/lib/systemd/system/a.service", text)
    assert row(root, "/usr/lib/systemd/system/a.service")["runs"] == ["/usr/bin/gpg", "/usr/bin/openssl"]


def test_words_behind_a_program_are_not_started(root: Path) -> None:
    put(root, "usr/lib/systemd/system/a.service", "[Service]\nExecStart=/usr/bin/podman system openssl\n")
    assert row(root, "/usr/lib/systemd/system/a.service")["runs"] == []


def test_a_unit_asks_for_units_by_their_templates_too(root: Path) -> None:
    put(root, "etc/systemd/system/a.target", "[Unit]\nWants=sleepy@x.service other.service\n")
    assert row(root, "/etc/systemd/system/a.target")["calls"] == ["/usr/lib/systemd/system/sleepy@.service"]


def test_a_udev_rule_and_a_bus_service_start_programs(root: Path) -> None:
    put(root, "usr/lib/udev/rules.d/1.rules", 'KERNEL=="x", RUN+="/usr/bin/gpg %k", PROGRAM="openssl x"\n')
    put(root, "usr/share/dbus-1/system-services/x.service", "[D-BUS Service]\nExec=/usr/bin/gpg\n")
    assert row(root, "/usr/lib/udev/rules.d/1.rules")["runs"] == ["/usr/bin/gpg", "/usr/bin/openssl"]
    assert row(root, "/usr/share/dbus-1/system-services/x.service")["runs"] == ["/usr/bin/gpg"]


def test_modules_of_pam_and_nss_are_told(root: Path) -> None:
    put(root, "etc/pam.d/su", "auth sufficient pam_userdb.so db=x\n# auth pam_no.so\n")
    put(root, "etc/nsswitch.conf", "hosts: files resolve [!UNAVAIL=return] dns\n#passwd: compat\n")
    assert row(root, "/etc/pam.d/su")["loads"] == ["pam_userdb.so"]
    loads = row(root, "/etc/nsswitch.conf")["loads"]
    assert loads == ["libnss_files.so.2", "libnss_resolve.so.2", "libnss_dns.so.2"]


def test_commands_of_a_script_count_when_it_is_looked_at_closely(root: Path) -> None:
    put(root, "usr/bin/x", "#!/bin/sh\n# openssl\nif ! gpg --verify; then echo openssl; fi\n", mode=0o755)
    assert "calls" not in row(root, "/usr/bin/x")
    assert row(root, "/usr/bin/x", closely=True)["calls"] == ["/usr/bin/gpg"]


def test_paths_written_out_count_when_a_file_is_looked_at_closely(root: Path) -> None:
    put(root, "usr/lib/a.py", "RUN = ['/usr/bin/openssl', '/usr/bin/none']\n")
    put(root, "usr/bin/b", elf_file("liba.so.1") + b"\0/lib/gnupg/helper\0", mode=0o755)
    assert "mentions" not in row(root, "/usr/lib/a.py")
    assert row(root, "/usr/lib/a.py", closely=True)["mentions"] == ["/usr/bin/openssl"]
    assert row(root, "/usr/bin/b", closely=True)["mentions"] == ["/usr/lib/gnupg/helper"]


@pytest.mark.parametrize(
    ("line", "name"),
    [
        (b"#!/usr/bin/perl -w\n", "/usr/bin/perl"),
        (b"#! /usr/bin/env perl\n", "perl"),
        (b"#!/usr/bin/env -S python3 -I\n", "python3"),
        (b"#!\n", ""),
        (b"text\n", ""),
    ],
)
def test_the_interpreter_is_the_first_line_s(line: bytes, name: str) -> None:
    assert interpreter(line) == name


def test_commands_are_found_behind_words_that_come_before_commands() -> None:
    text = "A=1 exec gpg\ncommand -v openssl || x | xargs -0 y\nz=$(date)\n  # no\n"
    assert list(commands(text)) == ["gpg", "openssl", "x", "y", "date"]


def test_a_shell_starts_what_its_script_calls() -> None:
    assert list(started("-/bin/sh -c 'gpg --x; openssl y'")) == ["/bin/sh", "gpg", "openssl"]


def test_it_runs_with_the_standard_library_alone(root: Path, tmp_path: Path) -> None:
    order = tmp_path / "order.json"
    order.write_text(json.dumps({"root": str(root / "usr"), "patterns": [], "closely": []}))
    code = (
        f"import sys; sys.path.append({str(SOURCE_ROOT)!r}); from imagebuild.steps.leave_out.survey import main; main()"
    )
    words = [sys.executable, "-IS", "-c", code, str(order)]
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60)
    assert "/bin/gpg" in [each["path"] for each in json.loads(done.stdout)]


def test_a_socket_in_the_tree_is_an_error(root: Path) -> None:
    os.mkfifo(root / "usr/pipe")
    with pytest.raises(SystemExit, match="/usr/pipe"):
        survey(Order(str(root), PATTERNS, ()))
