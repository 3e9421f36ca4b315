"""The root of every error Twinhull raises, and the exit code each one means.

    TwinhullError                 1  failed
    ├── DocumentError             2  a YAML or JSON document has errors (all of them are listed)
    └── ProcessError              1  another program failed or ran out of time

Each package derives its own root from `TwinhullError`.  Codes: 0 done, 1 failed, 2 wrong usage, 3 refused because
verification failed, 4 nothing to do, 5 something must be done soon, 6 it is overdue.
What the user can do next is attached with `add_note`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_REFUSED = 3
EXIT_NOTHING_TO_DO = 4
EXIT_DUE = 5
EXIT_OVERDUE = 6


class TwinhullError(Exception):
    """Something failed; the message says what, where and with which value."""

    exit_code: ClassVar[int] = EXIT_FAILED

    def with_hint(self, hint: str) -> Self:
        """Return this error with a hint that says what the user can do next."""
        self.add_note(hint)
        return self

    @property
    def hints(self) -> tuple[str, ...]:
        """The hints added so far, first one first."""
        return tuple(getattr(self, "__notes__", ()))


@dataclass(frozen=True)
class Problem:
    """One error in a document: where (`slots.root_size`) and what."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class DocumentError(TwinhullError):
    """A document was refused; `problems` holds every error found in it."""

    exit_code = EXIT_USAGE

    def __init__(self, source: str, problems: tuple[Problem, ...]) -> None:
        self.source = source
        self.problems = problems
        super().__init__("\n".join(f"{source}: {problem}" for problem in problems))


class ProcessError(TwinhullError):
    """Another program failed, was missing, or ran longer than it may."""

    def __init__(self, message: str, *, returncode: int | None = None, tail: str = "") -> None:
        self.returncode = returncode
        self.tail = tail
        super().__init__(f"{message}\n{tail.rstrip()}" if tail.strip() else message)
