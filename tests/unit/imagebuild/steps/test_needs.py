"""The last look at an image: no program may miss a library, no script its interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from imagebuild.paths import DATA

SCRIPT = DATA / "scripts/needs.finalize"
READELF = """\
#!/bin/sh
shift
for file; do
    echo
    echo "File: $file"
    sed -n 's/^needs / 0x1 (NEEDED) Shared library: [/p' "$file" | sed 's/$/]/'
done
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    readelf = tmp_path / "bin/readelf"
    readelf.parent.mkdir()
    readelf.write_text(READELF)
    readelf.chmod(0o755)
    for name in ("usr/lib/modules/x/a.ko", "usr/lib/liba.so.1", "usr/bin/one", "usr/bin/two"):
        path = tmp_path / "root" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\x7fELF\n" + (b"needs liba.so.1\n" if "bin" in name else b""))
    (tmp_path / "root/usr/sbin").mkdir()
    (tmp_path / "root/usr/bin/sh").symlink_to("one")
    script(tmp_path / "root", "#!/bin/sh -e\nneeds nothing.so\n")
    return tmp_path / "root"


def script(root: Path, text: str) -> None:
    (root / "usr/sbin/script").write_text(text)
    (root / "usr/sbin/script").chmod(0o755)


def look(root: Path) -> subprocess.CompletedProcess[str]:
    path = f"{root.parent / 'bin'}:{os.environ['PATH']}"
    env = {"PATH": path, "BUILDROOT": str(root)}
    return subprocess.run([sys.executable, SCRIPT], env=env, capture_output=True, text=True, check=False, timeout=60)


def test_an_image_that_holds_what_it_needs_passes(root: Path) -> None:
    done = look(root)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_library_that_is_reached_over_a_link_is_there(root: Path) -> None:
    (root / "usr/lib/liba.so.1").rename(root / "usr/lib/liba.so.1.2")
    (root / "usr/lib/liba.so.1").symlink_to("liba.so.1.2")
    assert look(root).returncode == 0


@pytest.mark.parametrize("dangling", [False, True])
def test_a_program_without_its_library_is_told(root: Path, *, dangling: bool) -> None:
    (root / "usr/lib/liba.so.1").unlink()
    if dangling:
        (root / "usr/lib/liba.so.1").symlink_to("liba.so.1.2")
    done = look(root)
    assert done.returncode != 0
    assert "/usr/bin/one needs liba.so.1" in done.stderr
    assert "/usr/bin/two needs liba.so.1" in done.stderr


@pytest.mark.parametrize("line", ["#!/usr/bin/perl -w", "#! /usr/bin/env perl"])
def test_a_script_without_its_interpreter_is_told(root: Path, line: str) -> None:
    script(root, f"{line}\nneeds nothing\n")
    done = look(root)
    assert done.returncode != 0
    assert "/usr/sbin/script wants perl" in done.stderr
