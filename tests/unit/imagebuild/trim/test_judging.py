"""What a build could lose, with its root filesystem at hand."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from imagebuild.inputs.tools import ToolsTree
from imagebuild.inspection.contents import EntryKind
from imagebuild.inspection.costs import Cost
from imagebuild.trim.judging import SMALL_BYTES, Priced, judge, worth_listing
from imagebuild.trim.keeping import KeepList
from imagebuild.trim.page_cache import Sample
from imagebuild.trim.proposals import Proposal
from tests.fakes.definitions import RecordedProgress
from tests.fakes.trees import contents_of

FILES = {"/usr/bin/used": b"u", "/usr/share/x/zeros": bytes(50_000), "/usr/share/y/text": bytes(range(256)) * 8}


def test_proposals_are_priced_and_the_dearest_comes_first(tmp_path: Path) -> None:
    for name, content in FILES.items():
        target = tmp_path / name.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)

    @contextmanager
    def unpacked(_build: Path, **_: object) -> Iterator[Path]:
        yield tmp_path

    contents = contents_of({name: len(content) for name, content in FILES.items()})
    touched = Sample(frozenset({"/usr/bin/used"}), frozenset())
    tools = cast("ToolsTree", None)
    found = judge(
        Path("build"),
        contents,
        touched,
        KeepList(),
        everything=True,
        tools=tools,
        progress=RecordedProgress(),
        unpacked=unpacked,
    )
    assert [each.proposal.lines for each in found.proposals] == [("/usr/share/y",), ("/usr/share/x",)]
    assert [each.cost.raw_bytes for each in found.proposals] == [2048, 50_000]
    assert found.proposals[1].cost.wire_bytes < found.proposals[0].cost.wire_bytes < 2048
    assert (found.files, found.touched_files, found.staying_files) == (3, 1, 1)
    assert found.listed == found.proposals
    assert found.together.raw_bytes == 52_048
    assert 0 < found.together.wire_bytes < sum(each.cost.wire_bytes for each in found.proposals)
    assert found.raw_bytes == sum(e.size_bytes for e in contents.entries if e.kind is EntryKind.FILE)


def test_small_proposals_are_listed_only_when_a_large_one_brings_them_or_all_are_asked_for() -> None:
    def one(name: str, sent: int, *needed_by: str) -> Priced:
        files = tuple(e for e in contents_of({name: 1}).entries if e.kind is EntryKind.FILE)
        return Priced(Proposal((name,), modules=False, files=files, needed_by=needed_by), Cost(1, sent))

    library, user, small = one("/l", SMALL_BYTES, "/u"), one("/u", 5), one("/s", SMALL_BYTES - 1)
    assert worth_listing([library, user, small], everything=False) == (library, user)
    assert worth_listing([library, user, small], everything=True) == (library, user, small)
    assert worth_listing([user, small], everything=False) == ()
