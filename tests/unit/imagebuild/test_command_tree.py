"""What holds for every command of both programs: it has `--json`, it explains itself, and its line completes."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from bedrock import process
from imagebuild.cli import twinhull
from updater.agent.cli import updater

# Neither reads something nor ends in a result; the completion script and the schema are for programs as they are.
WITHOUT_JSON = {"twinhull server", "twinhull vm run", "twinhull completion", "twinhull schema", "updater completion"}


def commands(program: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    """The commands a person can type, by their words."""
    if not isinstance(program, click.Group):
        yield name, program
        return
    for word, command in program.commands.items():
        # `lock make` is hidden because it is `lock` itself.
        if not command.hidden or word == "make":
            yield from commands(command, f"{name} {word}")


EVERY = dict([*commands(twinhull, "twinhull"), *commands(updater, "updater")])


@pytest.mark.parametrize("name", sorted(EVERY))
def test_every_command_has_json_or_a_reason_not_to(name: str) -> None:
    has = any(parameter.name == "as_json" for parameter in EVERY[name].params)
    assert has is (name not in WITHOUT_JSON)


@pytest.mark.parametrize("name", sorted(EVERY))
def test_every_command_explains_itself_and_its_options(name: str) -> None:
    assert len(EVERY[name].get_short_help_str(limit=1000)) > 15
    for parameter in EVERY[name].params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{name} {parameter.opts[0]} says nothing"


def test_no_default_is_a_folder_of_the_source() -> None:
    sources = {path.name for path in Path(__file__).parents[3].iterdir() if path.is_dir() and path.name != "out"}
    for name, command in EVERY.items():
        for parameter in command.params:
            if isinstance(parameter.default, Path | str):
                assert Path(parameter.default).parts[:1] not in {(source,) for source in sources}, name


@pytest.mark.parametrize("program", ["twinhull", "updater"])
def test_the_script_for_bash_completes_a_command(program: str) -> None:
    word = {"twinhull": "bun", "updater": "rollb"}[program]
    script = f"""
        source <({program} completion bash)
        COMP_WORDS=({program} {word}) COMP_CWORD=1
        _{program}_completion {program}
        echo "${{COMPREPLY[@]}}"
    """
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = process.run(["bash", "-euc", script], timeout_s=60, env={"PATH": path})
    assert done.stdout.split() == [{"twinhull": "bundle", "updater": "rollback"}[program]]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_scripts_for_other_shells_name_the_program(shell: str) -> None:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = process.run(["twinhull", "completion", shell], timeout_s=60, env={"PATH": path})
    assert f"_TWINHULL_COMPLETE={shell}_complete" in done.stdout
