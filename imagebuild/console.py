"""How `twinhull` shows progress and results to a person: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from bedrock.progress import LineProgress, Progress, Silent, stamped


@contextmanager
def open_progress(*, quiet: bool) -> Iterator[Progress]:
    """Show the steps of long work on stderr for as long as the context lasts."""
    console = Console(stderr=True)
    if quiet:
        yield Silent()
    elif console.is_terminal:
        columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
        with Bars(*columns, console=console) as bars:
            shown = _TerminalProgress(bars)
            yield shown
            shown.finish()
    else:
        say = stamped(lambda line: print_line(console, line))
        yield LineProgress(say)
        say("done")


class _TerminalProgress:
    """One bar per step; a step without a total pulses."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._task: TaskID | None = None

    def step(self, name: str, *, total: int | None = None) -> None:
        self.finish()
        self._task = self._bars.add_task(name, total=total)

    def advance(self, amount: int) -> None:
        if self._task is not None:
            self._bars.advance(self._task, amount)

    def finish(self) -> None:
        if self._task is not None:
            self._bars.update(self._task, total=1, completed=1)
            self._bars.stop_task(self._task)


def print_line(console: Console, line: str) -> None:
    """Print a line unchanged: a path may contain text that rich would interpret as markup."""
    console.print(line, highlight=False, markup=False, soft_wrap=True)
