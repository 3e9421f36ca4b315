"""A tools tree whose programs a test plays: it records what ran, and the test decides what a program leaves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bedrock.process import Argument, Finished
from imagebuild.inputs.tools import Access, ToolsTree

_NOTHING = Access()


@dataclass(frozen=True)
class Call:
    """A program that was run: its words, what it may see of the host, and where it began."""

    words: list[str]
    access: Access
    cwd: Path | None

    def end(self, output: str = "", errors: str = "", *, code: int = 0) -> Finished:
        """How it ends."""
        return Finished(tuple(self.words), code, output, errors)


@dataclass(frozen=True)
class PlayedTools(ToolsTree):
    """Programs that `play` plays.

    Attributes:
        calls: All that ran.
    """

    calls: list[Call] = field(default_factory=list)

    def run(
        self,
        argv: Sequence[Argument],
        access: Access = _NOTHING,
        *,
        timeout_s: float,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        log: Path | None = None,
        check: bool = True,
    ) -> Finished:
        call = Call([str(word) for word in argv], access, cwd)
        self.calls.append(call)
        return self.play(call)

    def play(self, call: Call) -> Finished:
        """What a program does."""
        return call.end()

    @property
    def ran(self) -> list[list[str]]:
        """The words of all that ran."""
        return [call.words for call in self.calls]
