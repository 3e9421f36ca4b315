"""The list of the initrd's contents."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bedrock.errors import DocumentError
from imagebuild.definition.initrd import FILES, load_content

RIGHT = """\
programs: {busybox: [/usr/bin/busybox], e2fsprogs: [/usr/sbin/e2fsck, /etc/mke2fs.conf]}
libraries: [libfdisk.so.1]
links: {/usr/bin/sh: busybox}
applets: [cat]
modules: [dm-verity]
extras: [nvme]
disks: {NVMe: {set: cloud, devices: ["pci:v1"]}}
"""
# Words that `init` begins a command with, and what is none of a program's names.
SHELL_WORDS = frozenset(
    {
        "break",
        "case",
        "cd",
        "command",
        "continue",
        "do",
        "done",
        "echo",
        "export",
        "elif",
        "else",
        "esac",
        "exec",
        "exit",
        "printf",
        "fi",
        "for",
        "if",
    }
    | {"kill", "read", "return", "set", "shift", "then", "trap", "until", "wait", "while"}
)


def written(folder: Path, text: str) -> Path:
    path = folder / "initrd.yaml"
    path.write_text(text)
    return path


def test_packages_and_files_are_told_by_name(tmp_path: Path) -> None:
    found = load_content(written(tmp_path, RIGHT))
    assert found.packages == ("busybox", "e2fsprogs")
    assert found.wanted == {"usr/bin/busybox", "usr/sbin/e2fsck", "etc/mke2fs.conf"}


def test_errors_are_told_all_at_once(tmp_path: Path) -> None:
    wrong = (
        RIGHT.replace("/usr/bin/busybox]", "usr/bin/busybox]").replace("[cat]", "[bin/cat]").replace("links", "lynx")
    )
    path = written(tmp_path, wrong.replace("[nvme]", "[a b]"))
    with pytest.raises(DocumentError) as caught:
        load_content(path)
    places = {problem.path for problem in caught.value.problems}
    assert {"programs.busybox[0]", "applets[0]", "extras[0]", "links", "lynx"} <= places


def test_our_own_list_is_right() -> None:
    found = load_content()
    assert {"usr/bin/busybox", "usr/lib/systemd/systemd-veritysetup", "usr/bin/systemd-repart"} <= found.wanted
    assert {"dm-verity", "erofs", "overlay"} <= set(found.modules)
    assert not set(found.modules) & set(found.extras)


def test_every_program_that_init_calls_is_in_the_list() -> None:
    found = load_content()
    script = "".join(path.read_text() for path in (FILES / "init", *sorted(FILES.rglob("*.sh"))))
    here = {Path(name).name for name in found.wanted} | set(found.applets) | {Path(name).name for name in found.links}
    functions = set(re.findall(r"^(\w+)\(\) \{$", script, re.MULTILINE))
    called = set(commands(script))
    assert called - functions - SHELL_WORDS <= here
    # Every listed program is called.
    assert set(found.applets) <= called


def commands(script: str) -> list[str]:
    """The first words of the commands of a script as plain as `init`; assignments, patterns and comments have none."""
    code = re.sub(r"(?m)^\s*#.*$", "", script.replace("\\\n", " "))
    code = re.sub(r"(?m)^\s*[^\s()\"']+=?\*?\) ", "", code)
    starts = r"(?:^|\|\| |&& |\| |; |\$\(|\bif |\buntil |\bwhile |\{ |! )\s*(?:exec )?"
    words = re.findall(rf"(?m){starts}([a-z_][\w./-]*|/[\w./-]+)(?=\s|$|;|\))", code)
    limited = re.findall(r"\btimeout \S+ ([a-z0-9]+)", code)
    return [word.rpartition("/")[2] for word in (*words, *limited)]


def test_modules_that_init_loads_by_name_are_in_the_list() -> None:
    found = load_content()
    lines = re.findall(r"^modprobe -a (?:-q )?([a-z0-9_ ]+)", (FILES / "init").read_text(), re.MULTILINE)
    asked = {name for line in lines for name in line.split()}
    assert {"dm_verity", "erofs", "ext4", "overlay"} <= asked
    assert asked <= {name.replace("-", "_") for name in (*found.modules, *found.extras)}
