"""The agent's configuration: baked into the image, overridden by the host, overridden by a credential.

Layers, later ones override key by key: `/usr/lib/twinhull/updater.yaml`, `/etc/twinhull/updater.yaml`,
`/etc/twinhull/updater.d/*.yaml` by name, the system credential `twinhull.updater`.
Each layer is checked together with those below it, so a mistake is reported with the file that made it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

from bedrock import strict
from updater.release import Name

CREDENTIAL = "twinhull.updater"
MINUTE_S = 60.0
HOUR_S = 3600.0


class RebootPolicy(Enum):
    """When a staged update may boot."""

    IMMEDIATE = "immediate"
    WINDOW = "window"
    MANUAL = "manual"


@dataclass(frozen=True)
class TimeOfDay:
    """Hours and minutes in UTC, written `03:00`."""

    hour: int
    minute: int

    @classmethod
    def from_text(cls, text: str) -> TimeOfDay:
        """Read `HH:MM`.

        Raises:
            ValueError: Any other form.
        """
        match = re.fullmatch(r"([01][0-9]|2[0-3]):([0-5][0-9])", text)
        if match is None:
            raise ValueError(f"must be a time of day from 00:00 to 23:59, not {text!r}")
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.hour:02}:{self.minute:02}"


@dataclass(frozen=True)
class Window:
    """The daily time in which reboots are allowed."""

    start: TimeOfDay = TimeOfDay(3, 0)
    length: Annotated[float, strict.Duration(), strict.Range(MINUTE_S, 24 * HOUR_S)] = 2 * HOUR_S


@dataclass(frozen=True)
class Reboot:
    """How a staged update comes to boot."""

    policy: RebootPolicy = RebootPolicy.IMMEDIATE
    window: Window = Window()


UnitName = Annotated[str, strict.Pattern(r"[A-Za-z0-9:_.\\@-]{1,255}\.[a-z]+", "a unit name such as nftables.service")]


@dataclass(frozen=True)
class Health:
    """What must hold before a slot is blessed.

    `timeout` bounds each check; checks that fail are tried again every `retry_interval` until `patience` is used up.
    """

    units: tuple[UnitName, ...] = ()
    podman: bool = True
    server: bool = True
    checks_dirs: tuple[str, ...] = ("/usr/lib/twinhull/health.d", "/etc/twinhull/health.d")
    timeout: Annotated[float, strict.Duration(), strict.Range(1, HOUR_S)] = 120.0
    retry_interval: Annotated[float, strict.Duration(), strict.Range(1, HOUR_S)] = 5.0
    patience: Annotated[float, strict.Duration(), strict.Range(0, HOUR_S)] = 180.0


@dataclass(frozen=True)
class Timeouts:
    """Bounds for talking to the update server: connecting, silence in a transfer, one whole metadata document."""

    connect: Annotated[float, strict.Duration(), strict.Range(1, 10 * MINUTE_S)] = 10.0
    read: Annotated[float, strict.Duration(), strict.Range(1, 10 * MINUTE_S)] = 30.0
    document: Annotated[float, strict.Duration(), strict.Range(1, HOUR_S)] = 120.0


@dataclass(frozen=True)
class Config:
    """Everything that can be set; without `url` and `channel` the host takes no updates."""

    url: Annotated[str, strict.Pattern(r"https?://[^\s?#]+", "an http or https URL without ? and #")] | None = None
    channel: Name | None = None
    image: Name | None = None
    enabled: bool = True
    poll_interval: Annotated[float, strict.Duration(), strict.Range(5, 7 * 24 * HOUR_S)] = 30 * MINUTE_S
    poll_jitter: Annotated[float, strict.Range(0, 1)] = 0.5
    tries: Annotated[int, strict.Range(1, 9)] = 3
    reboot: Reboot = Reboot()
    health: Health = field(default_factory=Health)
    timeouts: Timeouts = field(default_factory=Timeouts)


@dataclass(frozen=True)
class Sources:
    """Where the layers lie; tests point this elsewhere."""

    baked: Path = Path("/usr/lib/twinhull/updater.yaml")
    host: Path = Path("/etc/twinhull/updater.yaml")
    drop_ins: Path = Path("/etc/twinhull/updater.d")
    credentials: tuple[Path, ...] = (Path("/run/credentials/@system") / CREDENTIAL,)

    def layers(self) -> tuple[Path, ...]:
        """The files that exist, lowest first; of several credential folders the first that has one counts."""
        drop_ins = sorted(self.drop_ins.glob("*.yaml")) if self.drop_ins.is_dir() else []
        credential = [path for path in self.credentials if path.is_file()][:1]
        return tuple(path for path in (self.baked, self.host, *drop_ins, *credential) if path.is_file())


def sources(credentials_directory: str | None) -> Sources:
    """The usual layers; a unit's own credentials folder comes before the system's."""
    usual = Sources()
    if not credentials_directory:
        return usual
    return Sources(credentials=(Path(credentials_directory) / CREDENTIAL, *usual.credentials))


def load(where: Sources) -> Config:
    """Read all layers.

    Raises:
        DocumentError: A layer has mistakes; names the file and each key.
        OSError: A file cannot be read.
    """
    merged: dict[str, Any] = {}
    config = Config()
    for path in where.layers():
        layer = strict.parse_yaml(path.read_bytes(), source=str(path))
        if not isinstance(layer, Mapping):
            return strict.read(Config, layer, source=str(path))
        merged = merge(merged, layer)
        config = strict.read(Config, merged, source=str(path))
    return config


def merge(below: Mapping[str, Any], above: Mapping[Any, Any]) -> dict[str, Any]:
    """Both mappings in one, key by key; where both have a value that is no mapping, the one above counts."""
    result = dict(below)
    for key, value in above.items():
        under = result.get(key)
        both = isinstance(value, Mapping) and isinstance(under, Mapping)
        result[key] = merge(under, value) if both and isinstance(under, Mapping) else value
    return result
