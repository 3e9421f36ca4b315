"""The fenced blocks of our Markdown pages, and what their info strings say about running them.

The word after the fence is the language; what follows it is for the test that runs the blocks in their order, and no
reader sees it:

    ```sh                   runs, and ends with exit code 0
    ```sh exits 4           runs, and ends with that code
    ```sh until TEXT        is started, prints TEXT, and is ended with its page
    ```sh given NAME        runs after the test put its file NAME there
    ```sh slow              runs only when everything is asked for (make test-docs)
    ```sh skip: REASON      does not run
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

ROOT = Path(__file__).parent.parent
LANGUAGES = {"sh", "text", "yaml", "json", "ini"}
_FENCE = re.compile(r"(?P<indent> *)(?P<ticks>`{3,}|~{3,})(?P<info>.*)")
_SEPARATOR = re.compile(r"&&|\|\||[;|&]")
_HERE = re.compile(r"<<-?\s*(['\"]?)(\w+)\1")


class BlockUse(Enum):
    """What becomes of a block of commands."""

    RUN = "run"
    EXITS = "exits"
    UNTIL = "until"
    GIVEN = "given"
    SLOW = "slow"
    SKIP = "skip"


@dataclass(frozen=True)
class Block:
    """A fenced block: where it is, its language, how it runs, and its text."""

    page: str
    line: int
    language: str
    way: BlockUse
    detail: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> tuple[str, ...]:
    """Our Markdown pages in the order in which their blocks run."""
    docs = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))
    return ("README.md", *docs, *(name for name in ("CONTRIBUTING.md", "SECURITY.md") if (ROOT / name).exists()))


def runbooks() -> tuple[str, ...]:
    """Those of them that run on small repositories made for them (tests/integration), each in a place of its own."""
    return tuple(page for page in pages() if page.startswith("docs/runbooks/"))


def blocks_of(page: str) -> tuple[Block, ...]:
    """The blocks of a page.

    Raises:
        ValueError: A fence has no language or is never closed, or an info string has an unknown marker.
    """
    return tuple(parse((ROOT / page).read_text(), page))


def parse(text: str, page: str) -> Iterator[Block]:
    """The blocks in the text of a page; see `blocks_of`."""
    lines = iter(enumerate(text.splitlines(), start=1))
    for number, line in lines:
        opening = _FENCE.fullmatch(line)
        if opening is None:
            continue
        indent, body = len(opening["indent"]), []
        for _, inner in lines:
            if inner.strip() == opening["ticks"]:
                break
            body.append(inner[indent:] if not inner[:indent].strip() else inner)
        else:
            raise ValueError(f"{page}:{number}: the block is never closed")
        yield _block(page, number, opening["info"].strip(), "\n".join(body) + "\n")


def _block(page: str, line: int, info: str, text: str) -> Block:
    language, _, rest = info.partition(" ")
    if language not in LANGUAGES:
        message = f"{page}:{line}: a block of {language or 'no language'}; known are {', '.join(sorted(LANGUAGES))}"
        raise ValueError(message)
    word, _, detail = rest.strip().partition(" ")
    name = word.removesuffix(":") or BlockUse.RUN.value
    if name not in {way.value for way in BlockUse} or (rest and language != "sh"):
        raise ValueError(f"{page}:{line}: {rest!r} says nothing about running a block")
    way = BlockUse(name)
    if (way in {BlockUse.EXITS, BlockUse.UNTIL, BlockUse.GIVEN, BlockUse.SKIP}) is not bool(detail):
        raise ValueError(f"{page}:{line}: {rest!r} says too much or too little")
    return Block(page, line, language, way, detail, text)


def command_lines(text: str) -> Iterator[list[str]]:
    """The commands of a shell text as words, without comments, here-documents and what a `#` hides."""
    lines = iter(text.replace("\\\n", " ").splitlines())
    for line in lines:
        if line.strip().startswith("#"):
            continue
        here = _HERE.search(line)
        words = shlex.split(_HERE.sub("", line), comments=True)
        command: list[str] = []
        for word in words:
            if _SEPARATOR.fullmatch(word):
                yield command
                command = []
            else:
                command.append(word)
        if command:
            yield command
        if here is not None:
            for inner in lines:
                if inner.strip() == here[2]:
                    break
