from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bedrock.errors import ProcessError
from bedrock.process import Argument, Finished
from imagebuild.errors import MirrorError, ToolsError
from imagebuild.inputs.mirror import Mirrors
from imagebuild.inputs.tools import Access, ToolsTree, cache_folder, ensure_tools, ensure_tools_from, tools_identity
from tests.fakes.definitions import RecordedProgress
from tests.fakes.programs import write_program

MIRRORS = Mirrors("http://mirror.test/debian", None)


def bare(words: list[str]) -> list[str]:
    """A command without the wrapper that starts it."""
    while words[0] in {"unshare", "setpriv"}:
        words = words[words.index("--") + 1 :]
    return words


@dataclass
class PlayedGate:
    """Plays mmdebstrap, and does what the small programs would do."""

    fails: bool = False
    ran: list[list[str]] = field(default_factory=list)

    def run(self, argv: Sequence[Argument], *, timeout_s: float, log: Path | None = None) -> Finished:
        words = [str(word) for word in argv if word]
        self.ran.append(words)
        program, *rest = bare(words)
        if program == "mmdebstrap":
            folder = Path(next(word for word in rest if word.endswith(".partial")))
            folder.mkdir()
            if self.fails:
                raise ProcessError("mmdebstrap failed with exit code 25", returncode=25, tail="E: no such mirror")
        elif program == "touch":
            Path(rest[0]).touch()
        elif program == "mv":
            Path(rest[0]).rename(rest[1])
        elif program == "rm":
            shutil.rmtree(rest[-1])
        return Finished(tuple(words), 0, "", "")


@pytest.fixture
def gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PlayedGate:
    write_program(tmp_path / "bin", "mmdebstrap", "exit 9")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return PlayedGate()


def test_the_tree_is_made_once_and_says_so(tmp_path: Path, gate: PlayedGate) -> None:
    progress = RecordedProgress()
    first = ensure_tools(MIRRORS, cache=tmp_path, progress=progress, run=gate.run)
    assert (first.root / ".complete").exists()
    assert (tmp_path / "tools/current").read_text() == f"{tools_identity()}\n"
    assert len(progress.steps) == 1
    runs = len(gate.ran)
    assert ensure_tools(MIRRORS, cache=tmp_path, progress=progress, run=gate.run) == first
    assert len(gate.ran) == runs


def test_nobody_looks_for_a_mirror_when_the_tree_is_there(tmp_path: Path, gate: PlayedGate) -> None:
    def none_known() -> Mirrors:
        raise MirrorError("no Debian mirror is known")

    with pytest.raises(MirrorError):
        ensure_tools(none_known, cache=tmp_path, run=gate.run)
    made = ensure_tools(lambda: MIRRORS, cache=tmp_path, run=gate.run)
    assert ensure_tools(none_known, cache=tmp_path, run=gate.run) == made


def test_a_locked_tree_is_made_of_its_archive_and_of_nothing_else(tmp_path: Path, gate: PlayedGate) -> None:
    trees = [ensure_tools_from(tmp_path / name, "trixie", cache=tmp_path, run=gate.run) for name in ("a", "b", "a")]
    assert trees[0] == trees[2] != trees[1]
    made = [words for words in gate.ran if bare(words)[0] == "mmdebstrap"]
    assert [words[-1] for words in made] == [f"deb [trusted=yes] copy://{tmp_path}/{name} trixie main" for name in "ab"]
    assert not (tmp_path / "tools/current").exists()


def test_a_tree_that_failed_is_not_taken_for_one(tmp_path: Path, gate: PlayedGate) -> None:
    gate.fails = True
    with pytest.raises(ToolsError, match="no such mirror") as caught:
        ensure_tools(MIRRORS, cache=tmp_path, run=gate.run)
    assert "is the mirror reachable?" in caught.value.hints[0]
    gate.fails = False
    assert (ensure_tools(MIRRORS, cache=tmp_path, run=gate.run).root / ".complete").exists()


def test_a_host_without_mmdebstrap_is_told_what_to_install(tmp_path: Path, gate: PlayedGate) -> None:
    (tmp_path / "bin/mmdebstrap").unlink()
    with pytest.raises(ToolsError, match="mmdebstrap is not installed"):
        ensure_tools(MIRRORS, cache=tmp_path, run=gate.run)
    assert gate.ran == []


@pytest.mark.parametrize("user", [0, 1000])
def test_who_is_not_root_is_it_in_a_namespace(
    tmp_path: Path, gate: PlayedGate, monkeypatch: pytest.MonkeyPatch, user: int
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: user)
    tree = ensure_tools(MIRRORS, cache=tmp_path, run=gate.run)
    made = next(words for words in gate.ran if bare(words)[0] == "mmdebstrap")
    assert "--mode=root" in made
    assert "--mount" in made
    for words in (made, tree.command(["true"])):
        assert ("--map-root-user" in words) == (user != 0)


def test_a_program_sees_what_was_named_and_the_tree() -> None:
    access = Access(read=(Path("/defs"),), write=(Path("/work"),))
    words = ToolsTree(Path("/cache/tools/abc")).command(["mkosi", Path("/x")], access, cwd=Path("/work"))
    line = " ".join(words)
    assert "--ro-bind /defs /defs" in line
    assert "--bind /work /work" in line
    assert "--ro-bind /cache/tools/abc/usr /usr" in line
    assert "--chdir /work" in line
    assert "resolv.conf" not in line
    assert words[-3:] == ["--", "mkosi", "/x"]


def test_what_a_bound_program_starts_ends_with_it() -> None:
    tree = ToolsTree(Path("/cache/tools/abc"))
    assert "--kill-child" in tree.command(["mkosi"], bound=True)
    assert "--kill-child" not in tree.command(["qemu"])


@pytest.mark.parametrize("user", [0, 1000])
def test_a_bound_program_ends_with_us_whoever_we_are(monkeypatch: pytest.MonkeyPatch, user: int) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: user)
    words = ToolsTree(Path("/cache/tools/abc")).command(["mkosi"], bound=True)
    death = words.index("--pdeathsig")
    assert words[death - 1 : death + 3] == ["setpriv", "--pdeathsig", "KILL", "--"]
    # The kernel forgets the signal when a process changes its user.
    assert ("--map-root-user" in words[:death]) == (user != 0)
    assert "--user" not in words[death:]


class FailingTree(ToolsTree):
    """A tree whose sandbox ends in failure, whatever is to run in it."""

    def command(self, *_: object, **__: object) -> list[str]:
        return ["sh", "-c", "echo why >&2; exit 3"]


def test_an_error_names_the_program_and_not_the_sandbox() -> None:
    with pytest.raises(ProcessError, match=r"^sbsign \(tools tree\) failed with exit code 3\nwhy"):
        FailingTree(Path("/cache/tools/abc")).run(["sbsign"], timeout_s=60)


def test_the_cache_follows_the_users_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache_folder() == Path("/somewhere/twinhull")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/me")
    assert cache_folder() == Path("/home/me/.cache/twinhull")
