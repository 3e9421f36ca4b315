from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagebuild.inputs.tools import ToolsTree
from imagebuild.reproduction.differences import MOST_LINES, ask_diffoscope, where
from imagebuild.reproduction.documents import places

TOOLS = ToolsTree(Path("/nowhere"))
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


def pair(folder: Path, old: bytes, new: bytes, *, name: str = "disk.raw") -> tuple[Path, Path]:
    found = []
    for side, content in (("old", old), ("new", new)):
        (folder / side).mkdir()
        (folder / side / name).write_bytes(content)
        found.append(folder / side / name)
    return found[0], found[1]


def test_blocks_and_the_first_of_them_are_told(tmp_path: Path) -> None:
    new = bytearray(16384)
    new[5000] = new[5001] = new[9000] = 1
    assert where(*pair(tmp_path, bytes(16384), bytes(new)), tools=TOOLS) == (
        "2 blocks of 4096 bytes differ, the first at byte 4096",
    )


def test_another_length_is_told(tmp_path: Path) -> None:
    assert where(*pair(tmp_path, b"abc", b"abcd"), tools=TOOLS) == (
        "4 bytes, not 3",
        "1 blocks of 4096 bytes differ, the first at byte 0",
    )


def test_documents_are_told_by_path(tmp_path: Path) -> None:
    old, new = {"a": {"b": [1, 2]}, "gone": 1}, {"a": {"b": [1, 3]}, "new": 1}
    told = where(*pair(tmp_path, json.dumps(old).encode(), json.dumps(new).encode(), name="x.json"), tools=TOOLS)
    assert told == ("a.b[1]: 2 -> 3", "gone: gone", "new: new")


def test_what_is_no_document_is_compared_as_bytes(tmp_path: Path) -> None:
    told = where(*pair(tmp_path, b"{}", b"{", name="x.json"), tools=TOOLS)
    assert told[0] == "1 bytes, not 2"


def test_long_lists_are_cut(tmp_path: Path) -> None:
    documents = [json.dumps({str(number): side for number in range(99)}).encode() for side in (1, 2)]
    told = where(*pair(tmp_path, *documents, name="x.json"), tools=TOOLS)
    assert (len(told), told[-1]) == (MOST_LINES + 1, "…")


@given(old=PLAIN, new=PLAIN)
def test_documents_differ_exactly_when_a_place_is_told(old: object, new: object) -> None:
    # Python takes 1, 1.0 and True for one; documents of ours never mix them in one place.
    assert bool(list(places(old, new))) == (old != new)


def test_without_diffoscope_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not ask_diffoscope(*pair(tmp_path, b"a", b"b"), tmp_path / "report")
    assert not (tmp_path / "report").exists()


def test_diffoscope_is_asked_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "bin/diffoscope"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\necho "$4 $5" >"$3"\nexit 1\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    old, new = pair(tmp_path, b"a", b"b")
    assert ask_diffoscope(old, new, tmp_path / "report")
    assert (tmp_path / "report").read_text() == f"{old} {new}\n"
