"""The agent's configuration: baked into the image, overridden by the host, overridden by a credential.

Layers, later ones override key by key: `/usr/lib/twinhull/updater.yaml`, `/etc/twinhull/updater.yaml`,
`/etc/twinhull/updater.d/*.yaml` by name, the system credential `twinhull.updater`.
Each layer is checked together with those below it, so an error is reported with the file that caused it; each invalid
key is ignored and never keeps a host from updating.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

from bedrock import strict
from bedrock.errors import DocumentError, Problem
from partitions.entries import MAX_TRIES
from updater.documents.release import Name
from updater.transfer.urls import shown

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
class RebootWindow:
    """The daily time in which reboots are allowed.

    Attributes:
        start: When it opens, in UTC, as `"03:00"` (quoted).
        length: How long it stays open; it may cross midnight.
    """

    start: TimeOfDay = TimeOfDay(3, 0)
    length: Annotated[float, strict.Duration(), strict.Range(MINUTE_S, 24 * HOUR_S)] = 2 * HOUR_S


@dataclass(frozen=True)
class Reboot:
    """How a staged update comes to boot.

    Attributes:
        policy: `immediate`: as soon as it is installed; `window`: in the daily window; `manual`: never by itself.
        window: When a host may reboot with `policy: window`.
    """

    policy: RebootPolicy = RebootPolicy.IMMEDIATE
    window: RebootWindow = RebootWindow()


UnitName = Annotated[str, strict.Pattern(r"[A-Za-z0-9:_.\\@-]{1,255}\.[a-z]+", "a unit name such as nftables.service")]


class Engine(Enum):
    """The container engine."""

    PODMAN = "podman"
    DOCKER = "docker"
    CONTAINERD = "containerd"
    NONE = "none"


@dataclass(frozen=True)
class Health:
    """What must hold before a slot is blessed.

    Attributes:
        units: systemd units that must be active.
        engine: The container engine that must answer; `none` when none must.
        server: Whether the update server must answer.
        checks_dirs: Folders of programs that must exit with 0; of two with the same name the later folder's counts.
        timeout: How long one check may take.
        retry_interval: Pause before a failed check is repeated.
        patience: How long failed checks are repeated before the version counts as not healthy.
        server_patience: How long a version on trial waits for an update server that cannot be reached or whose metadata
            are refused.  Then the host goes back without holding it against the version, which is installed again when
            the old one reaches the server.
    """

    units: tuple[UnitName, ...] = ()
    engine: Engine = Engine.PODMAN
    server: bool = True
    checks_dirs: tuple[str, ...] = ("/usr/lib/twinhull/health.d", "/etc/twinhull/health.d")
    timeout: Annotated[float, strict.Duration(), strict.Range(1, HOUR_S)] = 120.0
    retry_interval: Annotated[float, strict.Duration(), strict.Range(1, HOUR_S)] = 5.0
    patience: Annotated[float, strict.Duration(), strict.Range(0, HOUR_S)] = 180.0
    server_patience: Annotated[float, strict.Duration(), strict.Range(0, 2 * HOUR_S)] = HOUR_S


@dataclass(frozen=True)
class Timeouts:
    """Time limits for talking to the update server.

    Attributes:
        connect: How long making a connection may take.
        read: How long a transfer may bring no data.
        document: How long one whole metadata document may take.
    """

    connect: Annotated[float, strict.Duration(), strict.Range(1, 10 * MINUTE_S)] = 10.0
    read: Annotated[float, strict.Duration(), strict.Range(1, 10 * MINUTE_S)] = 30.0
    document: Annotated[float, strict.Duration(), strict.Range(1, HOUR_S)] = 120.0


# A wrong one is not shown, for it may hold a password.
Url = Annotated[str, strict.Pattern(r"https?://[^\s?#]+", "an http or https URL without ? and #"), strict.Secret()]


@dataclass(frozen=True)
class Config:
    """All settings; without `url` and `channel` the host takes no updates.

    Attributes:
        url: Where the repository is, as `https://updates.example.com`; user and password may be part of it.
        mirrors: More places of the same repository, asked in this order when `url` does not answer or has nothing new.
        proxy: The proxy to reach them through, as `http://proxy.example.com:3128`; without it `HTTPS_PROXY`,
            `HTTP_PROXY` and `NO_PROXY` of the service's environment count.
        ca: A file with certificates (PEM) to trust besides the image's own.
        bandwidth: How many bytes per second a download may take, such as `2M`, at least `16K`; no limit when left out.
        channel: The channel this host follows.
        image: The image it takes releases of; its own when left out.
        enabled: Whether the host looks for updates by itself; `updater update` works either way.
        poll_interval: How often it asks.
        poll_jitter: The random part of the interval, from 0 to 1, so that hosts do not all ask at once.
        tries: How often a new version may boot before the old one returns.
        reboot: When a host reboots into an installed update.
        health: What must hold before a new version is kept.
        timeouts: Time limits for talking to the update server.
    """

    url: Url | None = None
    mirrors: tuple[Url, ...] = ()
    proxy: Annotated[str, strict.Pattern(r"https?://[^\s?#]+", "an http or https URL"), strict.Secret()] | None = None
    ca: Annotated[str, strict.Pattern(r"/[^\0]+", "an absolute path")] | None = None
    bandwidth: Annotated[int, strict.Size(), strict.Range(16 << 10, 1 << 40)] | None = None
    channel: Name | None = None
    image: Name | None = None
    enabled: bool = True
    poll_interval: Annotated[float, strict.Duration(), strict.Range(5, 7 * 24 * HOUR_S)] = 30 * MINUTE_S
    poll_jitter: Annotated[float, strict.Range(0, 1)] = 0.5
    tries: Annotated[int, strict.Range(1, MAX_TRIES)] = 3
    reboot: Reboot = Reboot()
    health: Health = field(default_factory=Health)
    timeouts: Timeouts = field(default_factory=Timeouts)

    @property
    def urls(self) -> tuple[str, ...]:
        """Every place of the repository, in the order in which they are asked."""
        return (*((self.url,) if self.url else ()), *self.mirrors)

    def without_passwords(self) -> Config:
        """The settings as they may be shown."""
        return replace(
            self,
            url=self.url and shown(self.url),
            mirrors=tuple(map(shown, self.mirrors)),
            proxy=self.proxy and shown(self.proxy),
        )


@dataclass(frozen=True)
class Sources:
    """Where the layers are; tests use other places."""

    baked: Path = Path("/usr/lib/twinhull/updater.yaml")
    host: Path = Path("/etc/twinhull/updater.yaml")
    drop_ins: Path = Path("/etc/twinhull/updater.d")
    credentials: tuple[Path, ...] = (Path("/run/credentials/@system") / CREDENTIAL,)

    def layers(self) -> tuple[Path, ...]:
        """The files that exist, lowest first; of several credential folders the first one with a file counts."""
        drop_ins = sorted(self.drop_ins.glob("*.yaml")) if self.drop_ins.is_dir() else []
        credential = [path for path in self.credentials if path.is_file()][:1]
        return tuple(path for path in (self.baked, self.host, *drop_ins, *credential) if path.is_file())


@dataclass(frozen=True)
class Loaded:
    """The settings in force, and the errors that were ignored.

    Attributes:
        config: The settings.
        problems: One error per layer that had any, each naming the file and every key that was ignored.
        image_is_sound: Whether the image's own layer has no errors.
    """

    config: Config
    problems: tuple[DocumentError, ...] = ()
    image_is_sound: bool = True


def load(where: Sources) -> Loaded:
    """Read all layers; an invalid key in a layer is ignored, and the layers below decide it.

    Only the invalid key is ignored, so that a typo does not undo an operator's other settings (`enabled: false`).
    A layer that is not YAML, is not a mapping or cannot be read is ignored as a whole.
    """
    merged: dict[str, Any] = {}
    config, sound = Config(), True
    problems: list[DocumentError] = []
    for path in where.layers():
        try:
            layer = _parse_layer(path)
            merged, config, wrong = _add_layer(merged, config, layer, source=str(path))
        except DocumentError as error:
            wrong = error
        if wrong is not None:
            problems.append(wrong)
            sound = sound and path != where.baked
    return Loaded(config, tuple(problems), sound)


def _parse_layer(path: Path) -> Mapping[str, Any]:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DocumentError(str(path), (Problem("", f"cannot be read: {error.strerror}"),)) from error
    layer = strict.parse_yaml(raw, source=str(path))
    if not isinstance(layer, Mapping):
        raise DocumentError(str(path), (Problem("", "must be a mapping of settings"),))
    return layer


def _add_layer(
    below: dict[str, Any], config: Config, layer: Mapping[str, Any], *, source: str
) -> tuple[dict[str, Any], Config, DocumentError | None]:
    """The merged layers and the settings with this layer on top, without its invalid keys; pure."""
    try:
        merged = merge(below, layer)
        return merged, strict.read(Config, merged, source=source), None
    except DocumentError as error:
        sound = layer
        for problem in error.problems:
            sound = _without(sound, problem.path.partition("[")[0].split("."))
        try:
            merged = merge(below, sound)
            return merged, strict.read(Config, merged, source=source), error
        except DocumentError:
            return below, config, error


def _without(layer: Mapping[str, Any], path: Sequence[str]) -> Mapping[str, Any]:
    """A layer without the key at this path; an empty path means the whole layer."""
    key, *rest = path
    inner = layer.get(key)
    if not key:
        return {}
    if rest and isinstance(inner, Mapping):
        return {**layer, key: _without(inner, rest)}
    return {name: value for name, value in layer.items() if name != key}


def merge(below: Mapping[str, Any], above: Mapping[Any, Any]) -> dict[str, Any]:
    """Both mappings merged key by key; where both have a value that is not a mapping, the upper one counts."""
    result = dict(below)
    for key, value in above.items():
        under = result.get(key)
        both = isinstance(value, Mapping) and isinstance(under, Mapping)
        result[key] = merge(under, value) if both and isinstance(under, Mapping) else value
    return result
