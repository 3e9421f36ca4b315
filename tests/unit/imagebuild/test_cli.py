from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from bedrock.cli import run_command
from bedrock.errors import EXIT_DONE, EXIT_FAILED, EXIT_NOTHING_TO_DO, EXIT_USAGE
from imagebuild.cli import twinhull
from imagebuild.definition.image import load_definition
from imagebuild.inputs.mirror import Mirrors
from imagebuild.pipeline.build import Built
from imagebuild.pipeline.chain import BuildChain
from imagebuild.steps.plan import BuildPlan
from partitions.version import Version
from tests.fakes.definitions import SUMMARY, plan_in, write_definition, write_keys


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("TWINHULL_MIRROR", raising=False)
    monkeypatch.setenv("TWINHULL_KEYS", "keys")
    return tmp_path


def run(*argv: str, chain: BuildChain | None = None) -> int:
    with pytest.raises(SystemExit) as caught:
        run_command(twinhull, prog_name="twinhull", argv=argv, obj=chain)
    assert isinstance(caught.value.code, int)
    return caught.value.code


def test_the_help_shows_every_command_and_the_way(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--help") == EXIT_DONE
    shown = capsys.readouterr().out
    assert {"build", "channel", "init", "keys", "repo", "server", "vm"} <= set(shown.split())
    assert "twinhull keys init my-keys --profile dev" in shown


def test_no_command_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == EXIT_USAGE
    assert capsys.readouterr().out == ""


def test_init_writes_a_definition_that_is_read_back(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("init", "my-host") == EXIT_DONE
    assert capsys.readouterr().out == "wrote my-host/image.yaml\n"
    assert load_definition(place / "my-host").id == "my-host"


def test_init_says_what_it_made_to_programs_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("init", "My_Host", "--json") == EXIT_DONE
    assert json.loads(capsys.readouterr().out) == {"definition": "My_Host/image.yaml", "id": "my-host"}


@pytest.mark.parametrize(("words", "key"), [((), "packages"), (("image",), "slots"), (("updater",), "poll_interval")])
def test_the_schema_is_printed_as_json(capsys: pytest.CaptureFixture[str], words: tuple[str, ...], key: str) -> None:
    assert run("schema", *words) == EXIT_DONE
    assert key in json.loads(capsys.readouterr().out)["properties"]


def test_init_leaves_an_existing_definition_alone(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_definition(place / "mine", "id: mine\n")
    assert run("init", "mine") == EXIT_FAILED
    assert "mine/image.yaml" in capsys.readouterr().err
    assert (folder / "image.yaml").read_text() == "id: mine\n"


@pytest.mark.parametrize("version", ["", "1_0", "+1", "1 0", "x" * 65])
def test_a_version_that_is_none_is_wrong_usage(place: Path, capsys: pytest.CaptureFixture[str], version: str) -> None:
    write_definition(place / "host")
    assert run("build", "host", "--version", version) == EXIT_USAGE
    assert "is not a version" in capsys.readouterr().err


def test_a_definition_that_is_not_there_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("build", "nowhere", "--version", "1") == EXIT_USAGE
    assert "nowhere" in capsys.readouterr().err


def test_missing_keys_say_how_to_make_them(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_definition(place / "host")
    assert run("build", "host", "--version", "1", "--keys", "nokeys") == EXIT_FAILED
    told = capsys.readouterr().err
    assert "no keyring at nokeys/keyring.yaml" in told
    assert "hint: make one: twinhull keys init nokeys" in told


def test_all_errors_of_a_definition_are_told(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_keys(place)
    write_definition(place / "host", "id: Host\npackages: curl\n")
    assert run("build", "host", "--version", "1") == EXIT_USAGE
    told = capsys.readouterr().err
    assert "host/image.yaml: id:" in told
    assert "host/image.yaml: packages:" in told


class Played:
    """A way to a build on which nothing is fetched or built, and what was asked for on it."""

    def __init__(self, place: Path) -> None:
        (place / "planned").mkdir()
        self.planned = plan_in(place / "planned")
        self.fresh = True
        self.asked: dict[str, object] = {}

    def run(self, *argv: str) -> int:
        chain = BuildChain(
            mirrors=lambda _: Mirrors("http://mirror.test", None),
            newest=lambda *_, **__: self.planned.supply,
            plan=self.plan,
            build=lambda plan, **_: Built(plan.out, fresh=self.fresh, summary=SUMMARY),
        )
        return run("build", "host", "--version", "1.0.0", *argv, chain=chain)

    def plan(self, folder: Path, **wanted: object) -> BuildPlan:
        self.asked.update(wanted, folder=folder)
        return self.planned


@pytest.fixture
def played(place: Path) -> Played:
    write_keys(place)
    write_definition(place / "host")
    return Played(place)


def test_json_is_one_document_on_stdout(played: Played, capsys: pytest.CaptureFixture[str]) -> None:
    assert played.run("--json") == EXIT_DONE
    captured = capsys.readouterr()
    assert captured.err == ""
    document = json.loads(captured.out)
    assert (document["version"], document["fresh"], document["size_bytes"]) == ("1.0.0", True, {"uki.efi": 1})
    assert played.asked["version"] == Version("1.0.0")
    assert played.asked["out"] is None


def test_people_get_steps_on_stderr_and_the_result_on_stdout(
    played: Played, capsys: pytest.CaptureFixture[str]
) -> None:
    assert played.run("--out", "there", "--profile", "debug") == EXIT_DONE
    captured = capsys.readouterr()
    assert captured.out.startswith("host 1.0.0 built: ")
    assert captured.err.endswith("done\n")
    assert played.asked["out"] == Path("there")


def test_a_build_that_is_there_already_is_nothing_to_do(played: Played, capsys: pytest.CaptureFixture[str]) -> None:
    played.fresh = False
    assert played.run("--json") == EXIT_NOTHING_TO_DO
    assert '"fresh": false' in capsys.readouterr().out


def test_what_the_packages_lack_is_the_last_line_and_in_the_document(
    played: Played, capsys: pytest.CaptureFixture[str]
) -> None:
    lacking = replace(played.planned.supply, warnings=("no security updates are in this image",))
    played.planned = replace(played.planned, supply=lacking)
    assert played.run() == EXIT_DONE
    assert capsys.readouterr().err.splitlines()[-1] == "warning: no security updates are in this image"
    assert played.run("--json") == EXIT_DONE
    assert json.loads(capsys.readouterr().out)["warnings"] == ["no security updates are in this image"]
