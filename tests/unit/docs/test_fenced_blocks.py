"""The fenced blocks of our pages: each has a language, and each command in them exists.  `qemu-test` runs them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import click
import pytest

from bedrock import strict
from bedrock.errors import DocumentError
from imagebuild.cli import twinhull
from imagebuild.definition.image import ImageDefinition
from tests.fenced_blocks import ROOT, Block, BlockUse, blocks_of, command_lines, pages, parse
from updater.agent.cli import updater
from updater.agent.config import Config
from updater.provision.document import Provision

PROGRAMS: dict[str, click.Command] = {"twinhull": twinhull, "updater": updater}
# Groups that take something else where a command may be: `twinhull lock DIR`.
USUAL = {"lock": "make", "provision": "write"}
BLOCKS = [block for page in pages() for block in blocks_of(page) if block.language == "sh"]
YAML = [block for page in pages() for block in blocks_of(page) if block.language == "yaml"]
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
_EXAMPLE = re.compile(r"^ +((?:twinhull|updater) .*)$", re.MULTILINE)


def test_there_are_blocks_and_most_of_them_run() -> None:
    run = [block for block in BLOCKS if block.way not in {BlockUse.SKIP, BlockUse.SLOW}]
    assert len(run) > len(BLOCKS) / 2
    assert any(block.page == "README.md" for block in run)


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_every_command_of_a_block_exists(block: Block) -> None:
    for words in command_lines(block.text):
        assert not (problem := problem_of(words)), f"{block}: {problem}"


def read_example(text: str) -> None:
    """A YAML block of our pages as a definition or a part of one, as settings, or as a provisioning document."""
    value = strict.parse_yaml(text, source="the block")
    assert isinstance(value, dict)
    try:
        strict.read(ImageDefinition, {"id": "x", **value}, source="the block")
    except DocumentError as error:
        for other in (Config, Provision):
            with suppress(DocumentError):
                strict.read(other, value, source="the block")
                return
        raise error from None


@pytest.mark.parametrize(
    "block", [block for page in pages() for block in blocks_of(page) if block.language == "yaml"], ids=str
)
def test_every_yaml_block_is_read_by_the_program(block: Block) -> None:
    read_example(block.text)


def test_a_wrong_yaml_block_is_seen() -> None:
    with pytest.raises(DocumentError, match="packges"):
        read_example("packges: [less]\n")


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.way is BlockUse.SKIP], ids=str)
def test_a_block_that_is_not_run_has_a_reason(block: Block) -> None:
    assert len(block.detail.split()) >= 3


def commands(program: click.Command) -> Iterator[click.Command]:
    yield program
    if isinstance(program, click.Group):
        for command in program.commands.values():
            yield from commands(command)


def test_every_example_of_the_help_exists() -> None:
    helps = [(each.help or "").replace("\\\n", " ") for top in PROGRAMS.values() for each in commands(top)]
    examples = [line for text in helps for line in _EXAMPLE.findall(text)]
    assert len(examples) > 20
    for example in examples:
        for words in command_lines(re.sub(r"  +[a-z].*|<\(|\)", "", example)):
            assert not (problem := problem_of(words)), f"{example}: {problem}"


def test_the_help_shows_the_way_of_the_readme() -> None:
    shown = [words for block in blocks_of("README.md") if block.language == "sh" for words in command_lines(block.text)]
    way = [words for line in _EXAMPLE.findall(twinhull.help or "") for words in command_lines(line)]
    assert len(way) > 6
    for words in way:
        assert words in shown, f"the help's `{' '.join(words)}` is not in README.md"


def problem_of(words: list[str]) -> str:
    """What is wrong with a command line of ours; empty for a good one and for other programs."""
    if words[:1] == ["make"]:
        targets = [word for word in words[1:] if "=" not in word]
        return "; ".join(f"no target {target}" for target in targets if target not in TARGETS)
    if words[:1] == ["sudo"]:
        words = words[1:]
    command = PROGRAMS.get(words[0]) if words else None
    if command is None:
        return ""
    rest = words[1:]
    while isinstance(command, click.Group):
        word = rest[0] if rest else ""
        if word not in command.commands and command.name in USUAL:
            rest = [word := USUAL[command.name], *rest]
        if word not in command.commands:
            return "" if word in {"", "--help", "--version"} else f"no command {word}"
        command, rest = command.commands[word], rest[1:]
    known = {"--help", "-h"} | {name for each in command.params for name in (*each.opts, *each.secondary_opts)}
    options = [word.partition("=")[0] for word in rest if word.startswith("-")]
    return "; ".join(f"no option {option}" for option in options if option not in known)


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("twinhull build x --version 1", ""),
        ("twinhull lock x --update", ""),
        ("twinhull bild x", "no command bild"),
        ("twinhull build x --versoin 1", "no option --versoin"),
        ("updater hold --reason x", ""),
        ("make demo", ""),
        ("make dmeo PYTHON=x", "no target dmeo"),
        ("ls --nothing", ""),
    ],
)
def test_a_wrong_command_is_seen(words: str, problem: str) -> None:
    assert problem_of(words.split()) == problem


@pytest.mark.parametrize("unit", sorted((ROOT / "examples").rglob("*.service")), ids=lambda path: path.name)
def test_the_units_of_the_examples_run_commands_that_exist(unit: Path) -> None:
    started = re.findall(r"^ExecStart=(\S+) (.*)$", unit.read_text(), re.MULTILINE)
    assert started
    for program, words in started:
        assert Path(program).name in PROGRAMS
        assert not (problem := problem_of([Path(program).name, *words.split()])), f"{unit.name}: {problem}"


def test_blocks_are_read_with_their_marks() -> None:
    text = "x\n```sh until listening on\na\n```\n- y\n  ```yaml\n  a:\n    b\n  ```\n```sh\n```\n"
    found = list(parse(text, "p"))
    assert [(block.line, block.language, block.way, block.detail) for block in found] == [
        (2, "sh", BlockUse.UNTIL, "listening on"),
        (6, "yaml", BlockUse.RUN, ""),
        (10, "sh", BlockUse.RUN, ""),
    ]
    assert found[1].text == "a:\n  b\n"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("```\nx\n```\n", "no language"),
        ("```sh\nx\n", "never closed"),
        ("```sh soon\nx\n```\n", "says nothing"),
        ("```yaml skip: because\nx\n```\n", "says nothing"),
        ("```sh skip:\nx\n```\n", "too little"),
        ("```sh slow really\nx\n```\n", "too much"),
    ],
)
def test_a_block_that_says_nothing_clear_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        list(parse(text, "p"))


def test_commands_are_found_between_comments_and_here_documents() -> None:
    text = "# no\na b  # c\nd 'e f' && g | h\ncat > x <<'END'\ntwinhull nothing\nEND\ni \\\n  j\n"
    assert list(command_lines(text)) == [["a", "b"], ["d", "e f"], ["g"], ["h"], ["cat", ">", "x"], ["i", "j"]]
