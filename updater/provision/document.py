"""The document `Provision`: the configuration of one host, as a person writes it in YAML.

The same code reads it (`reading.py`) in `twinhull provision`, before it is written anywhere, and on the host.
Forbidden content is an error in both: paths outside `/etc` and `/var`, units that belong to the image.
Pure: no I/O.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections import Counter
from dataclasses import dataclass
from typing import Annotated

from bedrock import strict
from updater.agent.reboot_settings import DAY_S, Reboot
from updater.documents.release import Name
from updater.provision.network import Link
from updater.provision.pem import Certificates
from updater.provision.places import HostPath, UnitName, unit_path
from updater.provision.registries import Registry

FORMAT = 1
MAX_SERIAL = (1 << 53) - 1
LAST_UID = 60_000
# People choose small numbers.
_FIRST_DERIVED = 10_000

HostName = Annotated[
    str,
    strict.Pattern(r"(?=.{1,64}$)[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*", "a host's name"),
]
UserName = Annotated[str, strict.Pattern(r"[a-z_][a-z0-9_-]{0,30}", "a user's name of a-z, 0-9, _ and -")]
Mode = Annotated[str, strict.Pattern(r"0[0-7]{3}", "a mode in octal without setuid and the like, such as 0644")]
SshKey = Annotated[
    str,
    strict.Pattern(
        r"((sk-)?(ssh|ecdsa)-[A-Za-z0-9@.-]+) [A-Za-z0-9+/]{16,}={0,3}( [ -~]*)?",
        "a public ssh key on one line, as a file NAME.pub holds it",
    ),
]
ProxyUrl = Annotated[
    str, strict.Pattern(r"https?://[A-Za-z0-9._~:/?#\[\]@!$&()*+,;=-]+", "an http or https URL"), strict.Secret()
]
Content = Annotated[str, strict.Secret()]
NoProxy = Annotated[str, strict.Pattern(r"[A-Za-z0-9.:/*\[\]-]+", "a host, a domain or a network")]
ServerUrl = Annotated[str, strict.Pattern(r"https?://[!-\"$->@-~]+", "an http or https URL without ? and #")]


@dataclass(frozen=True)
class HostShell:
    """A login shell."""

    text: str

    @classmethod
    def from_text(cls, text: str) -> HostShell:
        """Parse its path.

        Raises:
            ValueError: It is not an absolute path.
        """
        if re.fullmatch(r"(/[A-Za-z0-9._+-]+)+", text) is None or ".." in text.split("/"):
            raise ValueError(f"{text!r} is not a shell's path such as /bin/bash")
        return cls(text)

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class User:
    """An account with keys for ssh; `root` exists already and may be given keys.  Passwords are not set."""

    name: UserName
    ssh_keys: tuple[SshKey, ...] = ()
    groups: tuple[UserName, ...] = ()
    uid: Annotated[int, strict.Range(1000, LAST_UID)] | None = None
    shell: HostShell | None = None

    def __post_init__(self) -> None:
        if self.name == "root" and (self.groups or self.uid or self.shell):
            raise ValueError("root can be given ssh_keys only")

    @property
    def number(self) -> int:
        """Its user id: the one given, else one that follows from the name, the same at each boot that makes it anew."""
        if self.uid is not None:
            return self.uid
        digest = hashlib.sha256(self.name.encode()).digest()
        return _FIRST_DERIVED + int.from_bytes(digest[:8], "big") % (LAST_UID + 1 - _FIRST_DERIVED)


@dataclass(frozen=True)
class File:
    """A file below `/etc` or `/var`; its content is text, or bytes in base64."""

    path: HostPath
    content: Content | None = None
    content_base64: Content | None = None
    mode: Mode = "0644"
    owner: UserName = "root"
    group: UserName = "root"

    def __post_init__(self) -> None:
        if (self.content is None) == (self.content_base64 is None):
            raise ValueError("one of content and content_base64 must be given")
        if self.content_base64 is not None:
            try:
                base64.b64decode(self.content_base64, validate=True)
            except ValueError as error:
                raise ValueError(f"content_base64 is not base64: {error}") from error

    @property
    def data(self) -> bytes:
        """The bytes of the file."""
        if self.content_base64 is not None:
            return base64.b64decode(self.content_base64)
        return (self.content or "").encode()


@dataclass(frozen=True)
class Unit:
    """A unit below `/etc/systemd/system`, or a Quadlet below `/etc/containers/systemd`."""

    name: UnitName
    content: Content
    enabled: bool = True

    def __post_init__(self) -> None:
        unit_path(self.name)
        if not re.search(r"(?m)^\[[A-Z][A-Za-z]*\]\s*$", self.content):
            raise ValueError(f"{self.name} has no section such as [Unit]")
        if self.enable and not re.search(r"(?m)^\[Install\]\s*$", self.content):
            raise ValueError(f"{self.name} is enabled but has no [Install] section; give one, or enabled: false")

    @property
    def path(self) -> str:
        """The path it is written to."""
        return unit_path(self.name)

    @property
    def enable(self) -> bool:
        """Whether systemd must enable it; a Quadlet uses its own [Install] section."""
        return self.enabled and self.path.startswith("/etc/systemd/")


@dataclass(frozen=True)
class Proxy:
    """The HTTP proxy of services, containers and of the updater."""

    http: ProxyUrl | None = None
    https: ProxyUrl | None = None
    no_proxy: tuple[NoProxy, ...] = ()

    def __post_init__(self) -> None:
        if self.http is None and self.https is None:
            raise ValueError("one of http and https must be given")


@dataclass(frozen=True)
class UpdaterSettings:
    """Where updates come from and when they boot; missing keys keep the image's values."""

    url: ServerUrl | None = None
    channel: Name | None = None
    poll_interval: Annotated[float, strict.Duration(), strict.Range(5, 7 * DAY_S)] | None = None
    reboot: Reboot | None = None


@dataclass(frozen=True)
class Provision:
    """A whole document; `serial` orders signed documents, of which a host accepts only newer ones."""

    format: Annotated[int, strict.Range(FORMAT, FORMAT)] = FORMAT
    serial: Annotated[int, strict.Range(1, MAX_SERIAL)] | None = None
    hostname: HostName | None = None
    network: tuple[Link, ...] = ()
    users: tuple[User, ...] = ()
    files: tuple[File, ...] = ()
    units: tuple[Unit, ...] = ()
    registries: tuple[Registry, ...] = ()
    proxy: Proxy | None = None
    ca_certificates: tuple[Certificates, ...] = ()
    updater: UpdaterSettings | None = None

    def __post_init__(self) -> None:
        for what, names in (
            ("network", [link.name for link in self.network]),
            ("users", [user.name for user in self.users]),
            ("the numbers of users", [str(user.number) for user in self.users if user.name != "root"]),
            ("registries", [registry.location for registry in self.registries]),
            ("files and units", [*(str(file.path) for file in self.files), *(unit.path for unit in self.units)]),
        ):
            twice = sorted(name for name, count in Counter(names).items() if count > 1)
            if twice:
                raise ValueError(f"{', '.join(twice)} is given twice in {what}")
