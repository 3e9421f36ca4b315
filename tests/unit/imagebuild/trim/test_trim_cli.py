"""`twinhull trim` as a program."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bedrock.cli import run_command
from bedrock.errors import EXIT_DONE, EXIT_FAILED, EXIT_USAGE
from imagebuild.cli import twinhull
from imagebuild.definition.image import load_definition
from imagebuild.inputs.mirror import VARIABLE
from imagebuild.inspection.costs import Cost
from imagebuild.trim.cli import Trimmer
from imagebuild.trim.judging import Priced, TrimOutcome
from imagebuild.trim.proposals import Proposal
from imagebuild.trim.trimming import TrimOptions
from tests.fakes.definitions import write_definition
from tests.fakes.trees import contents_of

KIB = 1 << 10


def priced(*lines: str, sent: int, modules: bool = False) -> Priced:
    entries = contents_of({"/usr/x": 2 * sent}, owners={"/usr/x": "pack"}).entries
    files = tuple(entry for entry in entries if entry.size_bytes)
    return Priced(Proposal(lines, modules=modules, files=files), Cost(2 * sent, sent))


PROPOSALS = (
    priced("/usr/share/big", sent=900 * KIB),
    priced("drivers/isdn/", sent=100 * KIB, modules=True),
    priced("/usr/bin/vim", "/usr/bin/vi", sent=16 * KIB),
    priced("/usr/bin/small", sent=15 * KIB),
)


def outcome(*, everything: bool) -> TrimOutcome:
    return TrimOutcome(
        image="host",
        files=10,
        touched_files=3,
        staying_files=6,
        raw_bytes=1 << 20,
        proposals=PROPOSALS,
        listed=PROPOSALS if everything else PROPOSALS[:3],
        together=Cost(2032 * KIB, 700 * KIB),
    )


class Program:
    """`twinhull trim`, with the trimming left out: nothing is built or booted."""

    def __init__(self) -> None:
        self.asked: list[TrimOptions] = []

    def trim(self, options: TrimOptions, **_: object) -> TrimOutcome:
        self.asked.append(options)
        return outcome(everything=options.everything)

    def run(self, *argv: str) -> int:
        with pytest.raises(SystemExit) as caught:
            run_command(twinhull, prog_name="twinhull", argv=("trim", *argv), obj=Trimmer(self.trim))
        assert isinstance(caught.value.code, int)
        return caught.value.code


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(VARIABLE, "http://mirror.test")
    write_definition(tmp_path / "host", "# mine\nid: host\ndrop:\n- /usr/share/icons\n")
    return Program()


def test_the_proposals_are_shown_with_the_lines_and_nothing_is_written(
    program: Program, capsys: pytest.CaptureFixture[str]
) -> None:
    before = Path("host/image.yaml").read_bytes()
    assert program.run("host") == EXIT_DONE
    shown = capsys.readouterr().out
    assert "of 10 files 3 were touched, 6 stay, 4 could be dropped" in shown
    assert "/usr/bin/vim  1 link to it, 32.8 kB, 16.4 kB compressed" in shown
    assert "1 more below 16.4 kB each, 30.7 kB, 15.4 kB compressed (--all)" in shown
    assert "together the image loses  2.1 MB, 716.8 kB compressed" in shown
    assert shown.endswith("drop:\n- /usr/bin/vi\n- /usr/bin/vim\n- /usr/share/big\ndrop_modules:\n- drivers/isdn/\n")
    assert Path("host/image.yaml").read_bytes() == before


def test_write_adds_what_is_listed(program: Program, capsys: pytest.CaptureFixture[str]) -> None:
    assert program.run("host", "--write") == EXIT_DONE
    assert "written to host/image.yaml" in capsys.readouterr().out
    definition = load_definition(Path("host"))
    assert definition.drop == ("/usr/share/icons", "/usr/bin/vi", "/usr/bin/vim", "/usr/share/big")
    assert definition.drop_modules == ("drivers/isdn/",)
    assert Path("host/image.yaml").read_text().startswith("# mine\n")


def test_all_leaves_nothing_out(program: Program, capsys: pytest.CaptureFixture[str]) -> None:
    assert program.run("host", "--all") == EXIT_DONE
    shown = capsys.readouterr().out
    assert "- /usr/bin/small\n" in shown
    assert "--all" not in shown


def test_json_is_one_document_with_every_proposal(program: Program, capsys: pytest.CaptureFixture[str]) -> None:
    assert program.run("host", "--json") == EXIT_DONE
    captured = capsys.readouterr()
    assert captured.err == ""
    document = json.loads(captured.out)
    assert document["lines"] == {
        "drop": ["/usr/bin/vi", "/usr/bin/vim", "/usr/share/big"],
        "drop_modules": ["drivers/isdn/"],
    }
    assert document["together"] == {"raw_bytes": 2032 * KIB, "wire_bytes": 700 * KIB}
    assert [each["key"] for each in document["proposals"]] == ["drop", "drop_modules", "drop", "drop"]
    assert document["proposals"][0]["packages"] == ["pack"]
    assert document["written"] is None


def test_everything_is_made_below_out(program: Program, tmp_path: Path) -> None:
    Path("mine.sh").write_text("echo mine\n")
    assert program.run("host", "--workload", "mine.sh", "--memory", "8192") == EXIT_DONE
    assert program.asked == [TrimOptions(Path("host"), tmp_path / "out/trim/host", "echo mine\n", 8192)]


def test_a_definition_with_errors_is_told_before_anything_is_built(
    program: Program, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("host/image.yaml").write_text("id: host\ntrim: {keep: [usr/x], keep_modules: [nvme]}\n")
    assert program.run("host") == EXIT_USAGE
    told = capsys.readouterr().err
    assert "trim.keep[0]" in told
    assert "trim.keep_modules[0]" in told
    assert program.asked == []


@pytest.mark.parametrize(("content", "told"), [(b"\xff\xfe", "is not text"), (b"#" * 70000, "has 70000 bytes")])
def test_a_workload_that_is_none_is_told(
    program: Program, content: bytes, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("mine.sh").write_bytes(content)
    assert program.run("host", "--workload", "mine.sh") == EXIT_FAILED
    assert told in capsys.readouterr().err
