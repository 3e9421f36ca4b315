"""Runs the steps of one build: each is shown, timed and, when it fails, explained.

Not here: which steps there are, and in what order (`build.py`).
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from bedrock.errors import ProcessError
from bedrock.progress import Progress
from imagebuild.diagnosis import explain
from imagebuild.errors import SpaceError

T = TypeVar("T")
U = TypeVar("U")


class StepRunner:
    """Runs steps.

    Attributes:
        progress: Shows the steps.
        seconds: How long each successful step took.
        notes: Notes for the person who builds the image.

    Args:
        progress: Shows the steps.
        kept_log: Where the build's log will be when a step fails.
    """

    def __init__(self, progress: Progress, kept_log: Path) -> None:
        self.progress = progress
        self.seconds: dict[str, float] = {}
        self.notes: list[str] = []
        self._kept_log = kept_log

    def run(self, name: str, job: Callable[[], T]) -> T:
        """Run a step; returns its result.

        Raises:
            ImageBuildError: A program failed: its cause where the output names one, else its last lines.
            SpaceError: The disk is full.
        """
        title = name.replace("_", " ")
        self.progress.step(title)
        began = time.monotonic()
        try:
            made = job()
        except ProcessError as error:
            failed = explain(f"the step {title} failed", error)
            failed.add_note(f"the whole log is {self._kept_log}")
            raise failed from error
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            raise SpaceError(f"the step {title} failed: the disk is full") from error
        self.seconds[name] = time.monotonic() - began
        return made


def both(first: Callable[[], T], second: Callable[[], U]) -> tuple[T, U]:
    """Run two independent jobs at the same time; raises an error after both have ended."""
    with ThreadPoolExecutor(2) as pool:
        running = pool.submit(first), pool.submit(second)
    return running[0].result(), running[1].result()
