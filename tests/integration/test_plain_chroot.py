"""Tools in a plain chroot, whose root folder is no mount point: this machine, entered through a folder of its own."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bedrock import process
from bedrock.process import Argument, Finished
from imagebuild.inputs.tools import ToolsTree, inside_user_namespace
from imagebuild.paths import SOURCE_ROOT

# Mounts spread, as on a machine that systemd started: what is mounted in the chroot would appear outside as well.
_ENTER = """
set -eu
folder="$1" place="$2"; shift 2
mkdir "$folder/root"
for path in /*; do
    name="$folder/root$path"
    if [ -L "$path" ]; then cp -P "$path" "$name"
    elif [ -d "$path" ]; then mkdir "$name"; mount --rbind "$path" "$name"
    fi
done
cat /proc/self/mountinfo >"$folder/before"
code=0
chroot "$folder/root" sh -c 'cd "$1"; shift; exec "$@"' sh "$place" "$@" || code=$?
cat /proc/self/mountinfo >"$folder/after"
exit "$code"
"""
_RUN = """
import sys
from pathlib import Path
from imagebuild.inputs.build_host import in_plain_chroot, require_build_host
from imagebuild.inputs.tools import Access, ToolsTree

assert in_plain_chroot()
require_build_host()
tools, place = ToolsTree(Path(sys.argv[1])), Path(sys.argv[2])
words = ["sh", "-c", "mkosi --version; pwd; cat seen; echo written >made"]
print(tools.run(words, Access(write=(place,)), timeout_s=60, cwd=place).stdout)
print(tools.run_in(tools.root, ["/usr/bin/cat", "/etc/os-release"], shows={}, timeout_s=60).stdout)
"""


def in_plain_chroot(folder: Path, *words: Argument, place: Path = SOURCE_ROOT) -> Finished:
    """Run a program in a plain chroot, made in a mount namespace of its own."""
    own = (*inside_user_namespace(), "unshare", "--mount", "--propagation", "shared", "--")
    return process.run([*own, "sh", "-c", _ENTER, "sh", folder, place, *words], timeout_s=120, check=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "chroot"
    made.mkdir()
    return made


def test_the_chroot_of_these_tests_is_a_plain_one(folder: Path) -> None:
    done = in_plain_chroot(folder, "unshare", "--mount", "true")
    assert done.returncode != 0
    assert "Invalid argument" in done.stderr


def test_tools_run_in_a_plain_chroot_and_leave_no_mount_behind(folder: Path, tools: ToolsTree, tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    (place / "seen").write_text("what is in the folder\n")
    done = in_plain_chroot(folder, sys.executable, "-c", _RUN, tools.root, place)
    assert done.returncode == 0, done.stderr
    assert "mkosi 2" in done.stdout
    assert f"{place}\nwhat is in the folder\n" in done.stdout
    assert "VERSION_CODENAME=trixie" in done.stdout
    assert (place / "made").read_text() == "written\n"
    assert (folder / "before").read_text() == (folder / "after").read_text()


def test_a_program_keeps_its_exit_code(folder: Path) -> None:
    script = SOURCE_ROOT / "imagebuild/inputs/own_root.py"
    done = in_plain_chroot(folder, sys.executable, "-SI", script, "sh", "-c", "exit 7")
    assert done.returncode == 7
