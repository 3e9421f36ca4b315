"""A command that is killed at any step leaves a repository that verifies and can be gone on with.

Each command is killed at its first step on the disk, then, from the same beginning, at its second, and so on, until it
ends by itself.  After each kill hosts see a whole repository; the same command completes what was begun, and what is
left over is collected.  A new command that writes to a repository belongs in COMMANDS.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bedrock.errors import EXIT_DONE, EXIT_DUE, EXIT_NOTHING_TO_DO
from bedrock.progress import Silent
from imagebuild.cli import twinhull
from tests.fakes.builds import Publisher, write_build
from tests.fakes.killing import run
from updater.repository.ceremony.cli import root
from updater.repository.cli import channel, repo
from updater.repository.layout import Layout
from updater.repository.lifetime import Lifetimes
from updater.repository.metadata import going_on, load_state
from updater.repository.publish import init_repository
from updater.repository.upkeep.verify import verify

MOST_STEPS = 300
# A signing request ends with "due": somebody has to sign it.
ENDS = (EXIT_DONE, EXIT_NOTHING_TO_DO, EXIT_DUE)


@dataclass(frozen=True)
class KilledCommand:
    """A command line; the names in braces are folders: keys, repositories and builds.

    Attributes:
        name: Its name.
        words: The command line.
        least: How many steps it has at least: a kill that never happens proves nothing.
        before: Command lines that come first.
        base: The repository it writes to.
        waits: What it signs waits for the online keys.
        over: What it says when it was complete already, if that is an error.
    """

    name: str
    words: str
    least: int
    before: tuple[str, ...] = ()
    base: str = "repo"
    waits: bool = False
    over: str = ""

    def __str__(self) -> str:
        return self.name


ROTATED = "keys rotate {keys} timestamp --no-passphrase"
TRUST = "keys trust-boot {repo} host --certificate {keys}/KEK.crt --reason renewed"
SET = "channel set {repo} stable --release host/1.0.0 --keys {keys}"
COMMANDS = (
    KilledCommand("publish", "repo publish {repo} {build} --level 1 --keys {keys}", 40),
    KilledCommand("refresh", "repo refresh {repo} --keys {keys}", 8),
    KilledCommand("refresh-every-role", "repo refresh {old} --within 99d --keys {keys}", 20, base="old"),
    KilledCommand("refresh-new-key", "repo refresh {repo} --keys {keys}", 10, (ROTATED,)),
    KilledCommand("root-sign-request", "root sign-request {repo} --out {request} --keys {keys}", 2, (ROTATED,)),
    KilledCommand(
        "root-apply",
        "root apply {repo} {request} --keys {keys}",
        12,
        (
            ROTATED,
            "root sign-request {repo} --out {request} --keys {keys}",
            "sign {request} --yes --keys {keys}",
        ),
    ),
    KilledCommand("keys-trust-boot", f"{TRUST} --keys {{keys}}", 10),
    KilledCommand("channel-set", SET, 12),
    KilledCommand("channel-halt", "channel set {repo} stable --halt --keys {keys}", 12, (SET,)),
    KilledCommand(
        "channel-delete", "channel delete {repo} stable --keys {keys}", 10, (SET,), over="there is no channel stable"
    ),
    KilledCommand(
        "channel-move",
        "channel move {repo} stable other/1.0.0 --force --keys {keys}",
        12,
        (SET, "repo publish {repo} {other} --level 1 --keys {keys}"),
    ),
    KilledCommand("withdraw", "repo withdraw {repo} host/1.0.0 --reason bad --keys {keys}", 10),
    KilledCommand("submit", "repo publish {repo} {build} --level 1 --keys {pipeline}", 30, waits=True),
    KilledCommand(
        "sign-online", "repo sign-online {repo} --keys {keys}", 8, ("repo publish {repo} {build} --keys {pipeline}",)
    ),
    KilledCommand("gc", "repo gc {repo} --older-than 0s", 3, ("repo refresh {repo} --keys {keys}",) * 2),
    KilledCommand("copy", "repo copy {repo} {mirror} --keys {keys}", 40, base="mirror"),
    KilledCommand(
        "copy-again",
        "repo copy {repo} {mirror} --keys {keys}",
        30,
        ("repo copy {repo} {mirror} --keys {keys}", "repo publish {repo} {build} --level 1 --keys {keys}"),
        base="mirror",
    ),
)


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with keys, a repository with one release, one whose signatures are half over, and builds to publish."""
    folder = tmp_path_factory.mktemp("pristine")
    now = datetime.now(UTC)
    workshop = Publisher.make(folder, now=now)
    workshop.publish("1.0.0", now=now)
    span = timedelta(days=90)
    half_over = Lifetimes(offline=span, delegated=span, online=span)
    init_repository(folder / "old", workshop.access, lifetimes=half_over, now=now - span * 0.6)
    pipeline = workshop.without_keys("snapshot", "timestamp").access.keyring.folder
    pipeline.rename(folder / "pipeline")
    write_build(folder / "build", version="1.0.1", seed=2)
    write_build(folder / "other", version="1.0.0", seed=3, image="other")
    return folder


@dataclass(frozen=True)
class KillTrial:
    """A folder in which a command is tried, each time from the same beginning."""

    pristine: Path
    folder: Path
    command: KilledCommand

    @property
    def base(self) -> Path:
        """The repository that it writes to."""
        return self.folder / "now" / self.command.base

    def prepare(self) -> None:
        """Make the beginning."""
        (self.folder / "now").mkdir(parents=True)
        for name in ("repo", "old", "keys", "pipeline"):
            shutil.copytree(self.pristine / name, self.folder / "now" / name)
        for words in self.command.before:
            assert self.ran(words) != (EXIT_NOTHING_TO_DO,), words
        (self.folder / "now").rename(self.folder / "beginning")

    def begin(self) -> None:
        shutil.rmtree(self.folder / "now", ignore_errors=True)
        shutil.copytree(self.folder / "beginning", self.folder / "now")

    def ran(self, *lines: str) -> tuple[int, ...]:
        """The exit codes of command lines that nobody kills."""
        ended = run(twinhull, *map(self.words, lines), folder=self.base)
        for each in ended:
            over = bool(self.command.over) and self.command.over in each.said
            assert over or each.exit_code in ENDS, each.said
        return tuple(each.exit_code for each in ended)

    def killed(self, step: int) -> bool:
        """Whether the command came to this step, and was killed there."""
        return run(twinhull, self.words(self.command.words), folder=self.base, kill_at=step)[0].killed

    def words(self, line: str) -> list[str]:
        places = {name: self.pristine / name for name in ("build", "other")}
        places |= {
            name: self.folder / "now" / name for name in ("keys", "pipeline", "repo", "old", "mirror", "request")
        }
        return [word.format(**places) for word in line.split()]

    def require_sound(self, *, when: str) -> None:
        """What hosts see holds; of a first copy they may see nothing yet."""
        if self.command.base != "mirror" or (self.base / "metadata/timestamp.json").exists():
            report = verify(self.base, now=datetime.now(UTC), progress=Silent())
            assert not report.problems, (when, report.problems)

    def require_complete(self, *, when: str) -> None:
        """Everything that was signed is seen, unless it waits for the online keys."""
        layout = Layout(self.base)
        state = load_state(layout, None)
        assert going_on(layout, state).unfinished is self.command.waits, when


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_a_command_that_is_killed_at_any_step_can_be_gone_on_with(
    pristine: Path, tmp_path: Path, command: KilledCommand
) -> None:
    trial = KillTrial(pristine, tmp_path / "trial", command)
    trial.prepare()
    step = 0
    for step in range(1, MOST_STEPS):
        trial.begin()
        if not trial.killed(step):
            break
        trial.require_sound(when=f"killed at step {step}")
        trial.ran(command.words, f"repo gc {trial.base} --older-than 0s")
        trial.require_complete(when=f"completed and collected after a kill at step {step}")
        trial.require_sound(when=f"completed and collected after a kill at step {step}")
    assert command.least < step < MOST_STEPS


def test_every_command_that_writes_is_tried() -> None:
    """`repo init` makes its folder in one step, `repo layouts` one record that no host reads, and `keys revoke-boot`
    needs a UKI and goes the way of `keys trust-boot`.
    """
    reads = {"status", "verify", "list", "show"}
    known = {f"{group.name} {name}" for group in (repo, channel, root) for name in set(group.commands) - reads}
    tried = {" ".join(command.words.split()[:2]) for command in COMMANDS}
    assert known - tried == {"repo init", "repo layouts"}
