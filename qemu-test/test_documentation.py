"""Every block of commands in our pages runs as written, in order, in a clone.

The clone holds what git knows and what is not committed yet.  Pages run in the order of `fenced_blocks.pages`; what a
block exports the next one of its page has, and the first page's environment (the programs on the path) is that of all
others.  `TWINHULL_DOCS=all` (make test-docs) runs the slow blocks, too.
"""

from __future__ import annotations

import json
import os
import pty
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from workbench import OUT, SOURCE, timed

from bedrock import process
from tests.fenced_blocks import Block, BlockUse, blocks_of, pages, runbooks

FOLDER = OUT / "documentation"
CLONE = FOLDER / "clone"
EVERYTHING = os.environ.get("TWINHULL_DOCS") == "all"
_TIMEOUT_S = 900
_POLL_S = 0.2
# What the pages take from elsewhere; the tracker's data in its form, with a hole that no package of ours has.
_GIVEN = {
    "tracker.json": json.dumps(
        {"nosuchpackage": {"CVE-2026-0001": {"releases": {"trixie": {"status": "open", "urgency": "high"}}}}}
    )
}
_RUN = {BlockUse.RUN, BlockUse.EXITS, BlockUse.UNTIL, BlockUse.GIVEN} | ({BlockUse.SLOW} if EVERYTHING else set())
PAGES = [page for page in pages() if page not in runbooks()]
BLOCKS = [block for page in PAGES for block in blocks_of(page) if block.language == "sh" and block.way in _RUN]


@dataclass
class DocumentReader:
    """Somebody who types the blocks one after the other, in one terminal or in several."""

    clone: Path
    page: str = ""
    running: list[tuple[subprocess.Popen[bytes], int]] = field(default_factory=list)
    failed: str = ""

    def turn_to(self, page: str) -> None:
        """Begin a page: what ran for the one before ends."""
        if page == self.page:
            return
        self.page = page
        for started, terminal in reversed(self.running):
            started.terminate()
            started.wait(60)
            os.close(terminal)
        self.running.clear()

    def type(self, block: Block) -> None:
        """Run a block, as its mark says."""
        log = FOLDER / f"{block.page.replace('/', '-')}-{block.line}.log"
        log.unlink(missing_ok=True)
        if block.way is BlockUse.GIVEN:
            (self.clone / block.detail).write_text(_GIVEN[block.detail])
        if block.way is BlockUse.UNTIL:
            self._start(block, log)
            return
        wanted = int(block.detail) if block.way is BlockUse.EXITS else 0
        words = ["bash", "-c", self._script(block.text)]
        done = process.run(words, timeout_s=_TIMEOUT_S, cwd=self.clone, log=log, check=False)
        assert done.returncode == wanted, f"{block} ended with {done.returncode}:\n{log.read_text()[-4000:]}"

    def _script(self, commands: str) -> str:
        state = FOLDER / "environment"
        # Saved by a trap, so that a block which ends with another code counts as well.
        before = f"set -eo pipefail; [[ ! -e '{state}' ]] || . '{state}'; trap \"export -p > '{state}'\" EXIT"
        return f"{before}\n{commands}"

    def _start(self, block: Block, log: Path) -> None:
        """Start a block on a terminal of its own, and wait until it prints what its mark says."""
        ours, theirs = pty.openpty()
        with log.open("wb") as sink:
            started = process.start(
                ["bash", "-c", self._script(f"exec {block.text}")],
                cwd=self.clone,
                stdin=theirs,
                stdout=sink,
            )
        os.close(theirs)
        self.running.append((started, ours))
        deadline = time.monotonic() + _TIMEOUT_S
        while block.detail not in log.read_text(errors="replace"):
            assert started.poll() is None, f"{block} ended too early:\n{log.read_text()[-4000:]}"
            assert time.monotonic() < deadline, f"{block} never printed {block.detail!r}:\n{log.read_text()[-4000:]}"
            time.sleep(_POLL_S)


@pytest.fixture(scope="module")
def reader() -> Iterator[DocumentReader]:
    """A reader in a new clone."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    make_clone(CLONE)
    somebody = DocumentReader(CLONE)
    yield somebody
    somebody.turn_to("")


def make_clone(folder: Path) -> None:
    """A clone of this repository with its uncommitted changes on top, committed, so that git sees what blocks leave."""
    process.run(["git", "clone", "--quiet", SOURCE, folder], timeout_s=_TIMEOUT_S)
    changed = git(SOURCE, "ls-files", "--modified", "--others", "--exclude-standard", "-z").split("\0")
    for name in filter(None, changed):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (SOURCE / name).exists():
            shutil.copy2(SOURCE / name, target)
        else:
            target.unlink(missing_ok=True)
    git(folder, "add", "--all")
    git(
        folder, "-c", "user.name=Test", "-c", "user.email=test@example.com", "commit", "--allow-empty", "-qm", "changes"
    )


def git(folder: Path, *words: str) -> str:
    return process.run(["git", "-C", folder, *words], timeout_s=_TIMEOUT_S).stdout


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_the_block_runs_as_it_stands(reader: DocumentReader, block: Block) -> None:
    assert not reader.failed, f"not tried: {reader.failed} before it failed"
    reader.turn_to(block.page)
    try:
        with timed(f"{block}"):
            reader.type(block)
    except BaseException:
        reader.failed = str(block)
        raise


def test_git_sees_nothing_of_what_the_pages_leave_behind(reader: DocumentReader) -> None:
    assert not reader.failed
    left = git(reader.clone, "status", "--porcelain", "--untracked-files=all")
    assert left == ""
    assert list((reader.clone / "my-keys").iterdir())
