"""The settings `health:`: what must hold before a version is kept.  Values only."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Annotated

from bedrock import strict
from updater.agent.reboot_settings import HOUR_S, MINUTE_S

UnitName = Annotated[str, strict.Pattern(r"[A-Za-z0-9:_.\\@-]{1,255}\.[a-z]+", "a unit name such as nftables.service")]
UnitPattern = Annotated[
    str, strict.Pattern(r"[A-Za-z0-9:_.\\@*?-]{1,255}", "a unit name, in which * and ? stand for other characters")
]
ContainerName = Annotated[str, strict.Pattern(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,254}", "the name of a container")]
# These settings persist on the host's disk, so they must not name what whoever has that disk can put there.  All of
# `/usr` is the image's, and no program of `/etc` persists unless the image lets everything.
_VOUCHED = r"/(usr|etc|bin|sbin|lib)/(?!(.*/)?\.\.(/|$))[^\0]+"
ProgramPath = Annotated[str, strict.Pattern(_VOUCHED, "the absolute path of a program below /usr or /etc")]
ProgramFolder = Annotated[str, strict.Pattern(_VOUCHED, "the absolute path of a folder below /usr or /etc")]
CheckName = Annotated[str, strict.Pattern(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,62}", "a name of letters, digits, . _ @ -")]
Limit = Annotated[float, strict.Duration(), strict.Range(1, HOUR_S)]

# What fails by the network, by whoever logs in or connects, or by what an operator wrote says nothing of the image.
NOT_THE_IMAGE = (
    "systemd-networkd-wait-online*.service",
    "systemd-time-wait-sync.service",
    "chrony-wait.service",
    "*getty@*.service",
    "console-getty.service",
    "user@*.service",
    "ssh@*.service",
    "sshd@*.service",
    "twinhull-*.service",
)


class Engine(Enum):
    """The container engine."""

    PODMAN = "podman"
    DOCKER = "docker"
    CONTAINERD = "containerd"
    NONE = "none"


class Need(Enum):
    """What follows from a check that fails."""

    REQUIRED = "required"
    WANTED = "wanted"
    NONE = "none"


@dataclass(frozen=True)
class CheckSettings:
    """A check of its own; exactly one of `unit`, `container` and `program` says what is checked.

    Attributes:
        unit: A systemd unit that must be active.
        container: A container that must run and, if it has a health check, be healthy.
        program: A program that must exit with 0; as an absolute path below `/usr` or `/etc`, it gets no arguments.
        need: `required`: a version on trial is not kept without it; `wanted`: it is only reported; `none`: not checked.
        timeout: How long one look may take; `health.timeout` when left out.
    """

    unit: UnitName | None = None
    container: ContainerName | None = None
    program: ProgramPath | None = None
    need: Need = Need.REQUIRED
    timeout: Limit | None = None

    def __post_init__(self) -> None:
        given = [name for name in ("unit", "container", "program") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"must have one of unit, container and program, not {' and '.join(given) or 'none'}")


@dataclass(frozen=True)
class FailedUnits:
    """Units that failed or are started again and again, though no other check names them.

    Attributes:
        need: `required`: a version on trial is not kept with one; `wanted`: it is only reported; `none`: not checked.
        ignore: Names of units that may fail, in which `*` and `?` stand for other characters; besides those whose
            failure says nothing of an image: waiting for the network or for the time, logins, and the agent's own.
    """

    need: Need = Need.REQUIRED
    ignore: tuple[UnitPattern, ...] = ()

    @property
    def ignored(self) -> tuple[str, ...]:
        """Every pattern that counts."""
        return (*NOT_THE_IMAGE, *self.ignore)


@dataclass(frozen=True)
class Health:
    """What must hold before a slot is blessed.

    Attributes:
        checks: Checks by their names: units, containers and programs.
        failed_units: Whether units that failed count, though no check names them.
        engine: The container engine that must answer; `none` when none must.
        server: Whether the update server must answer.
        checks_dirs: Folders of programs that must exit with 0, and below each `wanted.d` with those that are only
            wanted; of two with the same name the later folder's counts.
        timeout: How long one look of a check may take.
        settle: How long all required checks must hold without a break before a version on trial is kept.
        retry_interval: Pause before the checks are looked at again.
        patience: How long required checks may fail or start over before the version counts as not healthy.
        server_patience: How long a version on trial waits for an update server that cannot be reached or whose metadata
            are refused.  Then the host goes back without holding it against the version, which is installed again when
            the old one reaches the server.
    """

    checks: dict[CheckName, CheckSettings] = field(default_factory=dict)
    failed_units: FailedUnits = FailedUnits()
    engine: Engine = Engine.PODMAN
    server: bool = True
    checks_dirs: tuple[ProgramFolder, ...] = ("/usr/lib/twinhull/health.d", "/etc/twinhull/health.d")
    timeout: Limit = 120.0
    # Twice the time in which systemd counts starts (DefaultStartLimitIntervalSec=): what ends as soon as it has started
    # has used up its starts by then and stays failed.
    settle: Annotated[float, strict.Duration(), strict.Range(0, 10 * MINUTE_S)] = 20.0
    retry_interval: Limit = 5.0
    patience: Annotated[float, strict.Duration(), strict.Range(0, HOUR_S)] = 180.0
    server_patience: Annotated[float, strict.Duration(), strict.Range(0, 2 * HOUR_S)] = HOUR_S

    def __post_init__(self) -> None:
        named = [name for name, check in self.checks.items() if check.container and check.need is not Need.NONE]
        if named and self.engine not in (Engine.PODMAN, Engine.DOCKER):
            raise ValueError(
                f"checks.{named[0]}: containers are asked of podman or docker, and engine is {self.engine.value}"
            )
