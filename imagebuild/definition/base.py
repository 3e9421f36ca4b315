"""The choices of packages in image.yaml: the container engine and what sets the clock.

Pure: names of packages, and of their units that start at boot.
The packages of every image are in `data/image.conf`.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum

from updater.agent.health_settings import Engine


class TimeService(Enum):
    """What sets the clock of a host."""

    TIMESYNCD = "timesyncd"
    CHRONY = "chrony"
    NONE = "none"


@dataclass(frozen=True)
class BasePackages:
    """The result of one choice: Debian packages, and the units that start at boot.

    Twinhull's own preset starts those of the defaults.
    """

    packages: tuple[str, ...] = ()
    units: tuple[str, ...] = ()


ENGINES = {
    Engine.PODMAN: BasePackages(("podman", "crun", "netavark", "aardvark-dns", "conmon")),
    Engine.DOCKER: BasePackages(("docker.io", "docker-cli"), ("docker.service", "docker.socket", "containerd.service")),
    Engine.CONTAINERD: BasePackages(("containerd", "runc"), ("containerd.service",)),
    Engine.NONE: BasePackages(),
}
TIME_SERVICES = {
    TimeService.TIMESYNCD: BasePackages(("systemd-timesyncd",)),
    TimeService.CHRONY: BasePackages(("chrony",), ("chrony.service",)),
    TimeService.NONE: BasePackages(),
}
DEFAULTS = (ENGINES[Engine.PODMAN], TIME_SERVICES[TimeService.TIMESYNCD])
# Debian lets one package be installed that sets the clock.
_OTHER_TIME_PACKAGES = frozenset({"ntpsec", "openntpd"})


def time_service(said: TimeService | None, packages: Collection[str]) -> TimeService:
    """What sets the clock: what image.yaml says, else what its packages bring, else systemd-timesyncd.

    Raises:
        ValueError: The packages bring another one.
    """
    names = {name.partition("/")[0] for name in packages}
    chrony, others = "chrony" in names, sorted(names & _OTHER_TIME_PACKAGES)
    if said is None:
        return TimeService.CHRONY if chrony else TimeService.NONE if others else TimeService.TIMESYNCD
    if others and said is not TimeService.NONE:
        raise ValueError(f"time: {said.value} and the package {others[0]} both set the clock; write time: none")
    if chrony and said is not TimeService.CHRONY:
        raise ValueError(f"time: {said.value} and the package chrony both set the clock; write time: chrony")
    return said


def checked_engine(engine: Engine, said: Engine) -> Engine:
    """The engine that must answer before a new version is kept: the image's, unless `said` is that none must."""
    return Engine.NONE if said is Engine.NONE else engine
