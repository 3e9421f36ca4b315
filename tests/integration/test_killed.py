"""Tools end when the program that started them is killed without a chance to clean up."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from imagebuild.inputs.tools import ToolsTree

REPOSITORY = Path(__file__).resolve().parents[2]
PROGRAM = """
import sys
from pathlib import Path
from imagebuild.inputs.tools import Access, ToolsTree
folder = Path(sys.argv[2])
script = f"echo begun >{folder}/begun; (sleep 600; echo late >{folder}/late) & wait"
ToolsTree(Path(sys.argv[1])).run(["sh", "-c", script], Access(write=(folder,)), timeout_s=600)
"""
_PATIENCE_S = 60.0


def running_below(folder: Path) -> list[str]:
    """Command lines of processes that name the folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if f"{folder}/late" in line:
            found.append(line)
    return found


def wait_until(what: str, holds: object) -> None:
    assert callable(holds)
    deadline = time.monotonic() + _PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def test_no_tool_outlives_a_killed_program(tools: ToolsTree, tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROGRAM, str(tools.root), str(tmp_path)]
    with subprocess.Popen(command, cwd=REPOSITORY) as started:
        wait_until("the tool did not begin", (tmp_path / "begun").exists)
        assert running_below(tmp_path)
        started.kill()
    wait_until("a tool outlived the program that started it", lambda: not running_below(tmp_path))
