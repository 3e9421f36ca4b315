from __future__ import annotations

import re
from pathlib import Path

import pytest

from bedrock.progress import Silent
from imagebuild.console import open_progress
from imagebuild.inspection.render import show_summary
from imagebuild.inspection.summary import Summary
from partitions.version import Version

SUMMARY = Summary(
    image="host",
    version=Version("1.0.0"),
    root_hash="ab" * 32,
    kernel="6.12",
    packages=3,
    size_bytes={"uki.efi": 21_000_000, "disk.raw": 300_000_000},
    seconds={"package_tree": 4.25, "total": 5.0},
)


def test_without_a_terminal_each_step_is_one_line_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    with open_progress(quiet=False) as progress:
        progress.step("tools tree")
        progress.advance(5)
        progress.step("download", total=1_000_000)
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = [re.sub(r"^ *[0-9.]+ s  ", "", line) for line in captured.err.splitlines()]
    assert lines == ["tools tree", "download (1.0 MB)", "done"]


def test_a_failure_is_not_called_done(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        with open_progress(quiet=False) as progress:
            progress.step("tools tree")
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        fail()
    assert "done" not in capsys.readouterr().err


def test_a_step_is_shown_as_it_stands(capsys: pytest.CaptureFixture[str]) -> None:
    with open_progress(quiet=False) as progress:
        progress.step("waiting for [red]/cache/[x]")
    assert "waiting for [red]/cache/[x]" in capsys.readouterr().err


def test_quiet_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with open_progress(quiet=True) as progress:
        assert isinstance(progress, Silent)
        progress.step("tools tree")
    assert capsys.readouterr() == ("", "")


def test_a_terminal_shows_bars(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    with open_progress(quiet=False) as progress:
        progress.step("tools [tree]")
        progress.advance(1)
        progress.step("disk", total=10)
        progress.advance(10)
    shown = capsys.readouterr().err
    assert "tools [tree]" in shown
    assert "disk" in shown


@pytest.mark.parametrize(("fresh", "word"), [(True, "built"), (False, "was built before")])
def test_the_summary_names_the_place_the_sizes_and_the_steps(
    capsys: pytest.CaptureFixture[str], *, fresh: bool, word: str
) -> None:
    show_summary(SUMMARY, out=Path("/out/[a]/1.0.0"), fresh=fresh)
    captured = capsys.readouterr()
    assert captured.err == ""
    assert f"host 1.0.0 {word}" in captured.out
    assert "/out/[a]/1.0.0" in captured.out
    assert SUMMARY.root_hash in captured.out
    assert captured.out.index("300.0 MB") < captured.out.index("21.0 MB")
    assert re.search(r"package tree +4\.2", captured.out)
