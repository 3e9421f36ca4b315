"""Container registries in a provisioning document: how to reach them and how to log in.

The result is the files that podman reads: registries.conf.d (containers-registries.conf(5)), certs.d
(containers-certs.d(5)), and a file of logins (containers-auth.json(5)) in a place that docker also reads.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

from bedrock import strict
from updater.provision.pem import Certificates

Location = Annotated[
    str,
    strict.Pattern(
        r"(?=.{1,255}$)[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?(/[a-z0-9][a-z0-9._/-]*)?",
        "a registry such as registry.example.com:5000",
    ),
]
REGISTRIES_FILE = "/etc/containers/registries.conf.d/50-provision.conf"
CERTIFICATES_FOLDER = "/etc/containers/certs.d"
LOGINS_FILE = "/var/roothome/.docker/config.json"


@dataclass(frozen=True)
class Login:
    """Name and password (or token) at a registry."""

    username: Annotated[str, strict.Pattern(r"[^\s:]{1,255}", "a user's name without spaces and colons")]
    password: Annotated[str, strict.Pattern(r"\S.{0,4095}", "a password"), strict.Secret()]


@dataclass(frozen=True)
class Mirror:
    """A mirror to pull from first."""

    location: Location
    insecure: bool = False


@dataclass(frozen=True)
class Registry:
    """One registry; `insecure` allows plain HTTP and untrusted certificates, `ca` adds a trusted one."""

    location: Location
    insecure: bool = False
    blocked: bool = False
    mirrors: tuple[Mirror, ...] = ()
    login: Annotated[Login, strict.Secret()] | None = None
    ca: Certificates | None = None

    @property
    def host(self) -> str:
        """The registry's host and port, without a path."""
        return self.location.partition("/")[0]


def registries_text(registries: Iterable[Registry]) -> str:
    """`registries.conf` of these (TOML; a JSON string of such text is a TOML string)."""
    lines: list[str] = []
    for registry in registries:
        lines += ["[[registry]]", f"location = {json.dumps(registry.location)}"]
        lines += ["insecure = true"] if registry.insecure else []
        lines += ["blocked = true"] if registry.blocked else []
        for mirror in registry.mirrors:
            lines += ["[[registry.mirror]]", f"location = {json.dumps(mirror.location)}"]
            lines += ["insecure = true"] if mirror.insecure else []
        lines.append("")
    return "\n".join(lines)


def logins_text(registries: Iterable[Registry]) -> bytes | None:
    """The file of logins; None when no registry needs one."""
    logins = {
        registry.location: {"auth": base64.b64encode(f"{login.username}:{login.password}".encode()).decode()}
        for registry in registries
        if (login := registry.login) is not None
    }
    return strict.dump_json({"auths": logins}) if logins else None
