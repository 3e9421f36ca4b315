"""A host that is recorded: it has a page cache, versions and a bad mood where a test wants one."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field

from imagebuild.rehearsal.guest import STATUS
from imagebuild.trim.page_cache import CANARY, SAMPLE_SCRIPT
from imagebuild.vm.guest import Answer
from tests.fakes.trees import sample_text

DONE = Answer(0, "")


@dataclass
class RecordedGuest:
    """Implements `imagebuild.rehearsal.guest.Shell`.

    Attributes:
        touched: What is in its page cache; a reboot empties it.
        sick: It never blesses a version.
        fails: Commands that hold this text fail, with the exit code.
        forgets: What is read is not remembered.
        nosy: Asking what was touched touches everything in this set.
        memory: What it says about dropped pages.
    """

    touched: set[str] = field(default_factory=lambda: {"/usr/bin/podman"})
    after_reboot: set[str] = field(default_factory=lambda: {"/usr/bin/late"})
    sick: bool = False
    fails: tuple[str, int] | None = None
    forgets: bool = False
    nosy: set[str] = field(default_factory=set)
    dropped_pages: int = 0
    on_status: Callable[[], None] = lambda: None
    heard: list[str] = field(default_factory=list)
    version: str = "1.0.0"

    def run(self, command: str, *, timeout_s: float = 60) -> Answer:
        self.heard.append(command)
        if self.fails and self.fails[0] in command:
            return Answer(self.fails[1], "it went wrong\n")
        if command == SAMPLE_SCRIPT:
            self.touched |= self.nosy if len(self._samples()) > 1 else set()
            return Answer(
                0, sample_text(*sorted(self.touched - {CANARY}), modules=("overlay",), lost=self.dropped_pages)
            )
        if command.startswith("cat ") and not self.forgets:
            self.touched |= set(shlex.split(command)[1:-1])
        if command == STATUS:
            self.on_status()
            return Answer(0, json.dumps({"version": self.version, "blessed": not self.sick}))
        return Answer(0, "hello from 6.12\n") if command.startswith("podman start") else DONE

    def check_run(self, command: str, *, timeout_s: float = 60) -> str:
        return self.run(command, timeout_s=timeout_s).output

    def wait_ready(self, *, timeout_s: float) -> str:
        return "boot-1"

    def wait_reboot(self, *, timeout_s: float) -> str:
        return "boot-2"

    def reboot(self, *, timeout_s: float) -> str:
        self.heard.append("reboot")
        self.touched = set(self.after_reboot)
        self.version = "1.0.1"
        return "boot-2"

    def _samples(self) -> list[str]:
        return [command for command in self.heard if command == SAMPLE_SCRIPT]
