"""The whole way, with builds and machine left out."""

from __future__ import annotations

from pathlib import Path

import pytest

from bedrock import strict
from bedrock.progress import Silent
from imagebuild.definition.image import FILE_NAME
from imagebuild.errors import TrimError
from imagebuild.inspection.contents import CONTENTS_FILE, Contents
from imagebuild.inspection.costs import Cost
from imagebuild.steps.plan import INPUTS_FILE
from imagebuild.trim.judging import TrimOutcome
from imagebuild.trim.keeping import KeepList
from imagebuild.trim.page_cache import CANARY, Sample
from imagebuild.trim.trimming import RECORD_FILE, TrimOptions, trim
from tests.fakes.definitions import write_definition
from tests.fakes.trees import contents_of

CONTENTS = contents_of({CANARY: 7, "/usr/bin/unused": 5})


class Bench:
    """Remembers what was recorded and judged; nothing is built or booted."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.recorded = 0
        self.fails = False
        self.judged: list[tuple[Sample, KeepList]] = []

    def build(self) -> tuple[Path, Path]:
        return self.folder / "1.0.0", self.folder / "1.0.1"

    def record(self, _build: Path, contents: Contents, _keep: KeepList) -> Sample:
        assert contents == CONTENTS
        if self.fails:
            raise TrimError("the workload failed")
        self.recorded += 1
        return Sample(frozenset({CANARY}), frozenset({"erofs"}))

    def judge(self, _build: Path, contents: Contents, touched: Sample, keep: KeepList) -> TrimOutcome:
        self.judged.append((touched, keep))
        return TrimOutcome(contents.image, 2, 1, 1, 12, (), (), Cost(0, 0))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    found = Bench(tmp_path / "builds")
    for version in ("1.0.0", "1.0.1"):
        folder = found.folder / version
        folder.mkdir(parents=True)
        (folder / INPUTS_FILE).write_text(version)
        (folder / CONTENTS_FILE).write_bytes(strict.dump_json(CONTENTS))
    (tmp_path / "out").mkdir()
    write_definition(tmp_path / "host", "id: host\ntrim: {keep: [/usr/bin/mine]}\n")
    return found


def options(tmp_path: Path, own: str | None = None) -> TrimOptions:
    return TrimOptions(tmp_path / "host", tmp_path / "out", own, 4096)


def test_what_was_recorded_is_judged_with_the_definition_s_own_keep_list(bench: Bench, tmp_path: Path) -> None:
    trim(options(tmp_path), bench, progress=Silent())
    ((touched, keep),) = bench.judged
    assert touched == Sample(frozenset({CANARY}), frozenset({"erofs"}))
    assert keep.keeps("/usr/bin/mine")
    assert keep.keeps("/etc/passwd")


def test_the_record_is_taken_again_while_nothing_changes(bench: Bench, tmp_path: Path) -> None:
    trim(options(tmp_path), bench, progress=Silent())
    trim(options(tmp_path), bench, progress=Silent())
    assert bench.recorded == 1
    assert bench.judged[0][0] == bench.judged[1][0]


def test_another_workload_or_another_build_is_recorded_anew(bench: Bench, tmp_path: Path) -> None:
    trim(options(tmp_path), bench, progress=Silent())
    trim(options(tmp_path, "echo mine"), bench, progress=Silent())
    (bench.folder / "1.0.1" / INPUTS_FILE).write_text("other")
    trim(options(tmp_path, "echo mine"), bench, progress=Silent())
    assert bench.recorded == 3


def test_a_rehearsal_that_fails_leaves_no_record(bench: Bench, tmp_path: Path) -> None:
    bench.fails = True
    with pytest.raises(TrimError, match="the workload failed"):
        trim(options(tmp_path), bench, progress=Silent())
    assert not (tmp_path / "out" / RECORD_FILE).exists()
    assert (tmp_path / "host" / FILE_NAME).exists()
