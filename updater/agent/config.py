"""The agent's configuration: baked into the image, overridden by the host, overridden by a credential.

Layers, later ones override key by key: `/usr/lib/twinhull/updater.yaml`, `/etc/twinhull/updater.yaml`,
`/etc/twinhull/updater.d/*.yaml` by name, the system credential `twinhull.updater`.
Each layer is checked together with those below it, so an error is reported with the file that caused it; each invalid
key is ignored and never keeps a host from updating.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from bedrock import strict
from bedrock.errors import DocumentError, Problem
from partitions.entries import MAX_TRIES
from updater.agent.health_settings import Health
from updater.agent.reboot_settings import DAY_S, HOUR_S, MINUTE_S, Reboot
from updater.documents.release import Name
from updater.transfer.urls import shown

CREDENTIAL = "twinhull.updater"
MAX_DEPTH = 10


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
    poll_interval: Annotated[float, strict.Duration(), strict.Range(5, 7 * DAY_S)] = 30 * MINUTE_S
    poll_jitter: Annotated[float, strict.Range(0, 1)] = 0.5
    tries: Annotated[int, strict.Range(1, MAX_TRIES)] = 3
    reboot: Reboot = field(default_factory=Reboot)
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
    first: DocumentError | None = None
    # Without a key, what it was part of may be invalid as a whole, and so on up to the layer.
    for _ in range(MAX_DEPTH):
        try:
            merged = merge(below, layer)
            return merged, strict.read(Config, merged, source=source), first
        except DocumentError as error:
            first = first or error
            for problem in error.problems:
                layer = _without(layer, problem.path.partition("[")[0].split("."))
    return below, config, first


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
