"""The build step on a small tree: what it removes, what it notes, and when it fails.

Its programs (python3, xargs, rm, touch) are the test host's own.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from bedrock.process import Finished
from imagebuild.errors import BuildError
from imagebuild.paths import EPOCH
from imagebuild.steps.leave_out.leaving import leave_out
from imagebuild.steps.leave_out.reach import Reason
from imagebuild.steps.products import Kernel, PackageTree
from imagebuild.steps.workshop import Workshop
from tests.fakes.definitions import plan_in
from tests.fakes.elf_files import elf_file
from tests.fakes.played_tools import Call, PlayedTools

FILES: Mapping[str, bytes] = {
    "usr/bin/ls": elf_file("libc.so.6"),
    "usr/lib/libc.so.6": elf_file(),
    "usr/bin/openssl": elf_file("libc.so.6"),
    "usr/bin/gpg": elf_file("libgcrypt.so.20", "libc.so.6"),
    "usr/lib/x86_64-linux-gnu/libgcrypt.so.20": elf_file(),
    "usr/share/doc/openssl/copyright": b"text",
    "etc/motd": b"Debian's",
    "usr/local/bin/probe": b"#!/bin/sh\nopenssl version\n",
    "usr/bin/sh": elf_file(),
    "var/lib/dpkg/status": b"",
}
STATUS = """\
Package: openssl
Status: install ok installed
Version: 1
Architecture: amd64

Package: base
Status: install ok installed
Version: 1
Architecture: amd64
Depends: openssl
"""


@dataclass(frozen=True)
class HostTools(PlayedTools):
    """Programs of the host in place of the tools tree's."""

    def play(self, call: Call) -> Finished:
        words = [sys.executable if word == "python3" else word for word in call.words]
        done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60)
        return call.end(done.stdout, done.stderr)


def workshop(folder: Path, text: str = "id: host\n") -> Workshop:
    plan = plan_in(folder, text)
    supply = replace(plan.supply, tools=HostTools(folder / "tools"))
    shop = Workshop(replace(plan, supply=supply), folder / "work", folder / "scratch")
    for path, content in FILES.items():
        target = shop.folders.output / "tree" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        target.chmod(0o755 if "/bin/" in path else 0o644)
    (shop.folders.output / "tree/lib").symlink_to("usr/lib")
    info = shop.folders.output / "dpkg/info"
    info.mkdir(parents=True)
    (info.parent / "status").write_text(STATUS)
    (info / "openssl.list").write_text("/.\n/usr/bin/openssl\n/usr/share/doc/openssl/copyright\n")
    (info / "base.list").write_text("/.\n")
    for made in (shop.work, shop.definition, shop.out, shop.extra):
        made.mkdir(parents=True, exist_ok=True)
    return shop


def left(shop: Workshop) -> set[str]:
    root = shop.folders.output / "tree"
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def run(shop: Workshop, *asked: str) -> dict[str, Reason]:
    output = shop.folders.output
    made = PackageTree(output / "tree", output / "dpkg", Kernel("6.12", output / "vmlinuz"))
    return leave_out(shop, made, asked=dict.fromkeys(asked, "image.yaml: packages"), base=("base",))


def test_what_nothing_needs_is_removed_and_the_folders_keep_their_time(tmp_path: Path) -> None:
    shop = workshop(tmp_path)
    assert run(shop) == {}
    assert left(shop) == {"usr/bin/ls", "usr/lib/libc.so.6", "usr/bin/sh"}
    root = shop.folders.output / "tree"
    assert (root / "var").is_dir()
    assert not (root / "usr/share/doc").exists()
    assert {int(path.stat().st_mtime) for path in (root, root / "usr/bin", root / "etc", root / "var")} == {EPOCH}


def test_what_is_asked_for_stays_with_its_reason(tmp_path: Path) -> None:
    shop = workshop(tmp_path)
    stays = run(shop, "openssl")
    assert "usr/bin/openssl" in left(shop)
    assert "usr/share/doc/openssl/copyright" not in left(shop)
    words = stays["/usr/bin/openssl"].words
    assert words == "part of a requested package: image.yaml: packages → openssl"


def test_files_of_the_definition_win_and_keep_what_they_call(tmp_path: Path) -> None:
    text = 'id: host\nfiles:\n- {path: /etc/motd, content: mine}\n- {path: /usr/local/bin/probe, content: "x"}\n'
    shop = workshop(tmp_path, text)
    stays = run(shop)
    assert {"etc/motd", "usr/local/bin/probe", "usr/bin/openssl"} <= left(shop)
    assert stays["/usr/bin/openssl"].by == "/usr/local/bin/probe"


def test_files_that_mkosi_copies_win_as_well(tmp_path: Path) -> None:
    shop = workshop(tmp_path)
    (shop.definition / "mkosi.extra/etc").mkdir(parents=True)
    (shop.definition / "mkosi.extra/etc/motd").touch()
    run(shop)
    assert "etc/motd" in left(shop)


def test_keep_keeps_a_program_with_its_libraries(tmp_path: Path) -> None:
    shop = workshop(tmp_path, "id: host\nkeep: [/usr/bin/gpg]\n")
    run(shop)
    assert {"usr/bin/gpg", "usr/lib/x86_64-linux-gnu/libgcrypt.so.20"} <= left(shop)


def test_a_keep_that_names_nothing_is_an_error(tmp_path: Path) -> None:
    shop = workshop(tmp_path, "id: host\nkeep: [/usr/bin/opensl]\n")
    with pytest.raises(BuildError, match=r"/usr/bin/opensl of image\.yaml matches nothing"):
        run(shop)


def test_a_drop_that_breaks_a_program_fails_and_names_both(tmp_path: Path) -> None:
    shop = workshop(tmp_path, "id: host\ndrop: [/usr/lib/libc.so.6]\n")
    with pytest.raises(BuildError, match=r"/usr/bin/ls needs libc\.so\.6") as caught:
        run(shop)
    assert any("keep:" in hint for hint in caught.value.hints)
    assert "usr/lib/libc.so.6" in left(shop)
