"""The files that a document results in, in the order they are written.  Pure.

Not here: users and their keys, the bundle of certificates and the hostname, which depend on the host.
"""

from __future__ import annotations

from dataclasses import dataclass

from bedrock import strict
from updater.provision.document import Provision, Proxy, UpdaterSettings, User
from updater.provision.registries import (
    CERTIFICATES_FOLDER,
    LOGINS_FILE,
    REGISTRIES_FILE,
    logins_text,
    registries_text,
)

HOSTNAME_FILE = "/etc/hostname"
USERS_FILE = "/etc/sysusers.d/50-provision.conf"
PROXY_FILE = "/etc/systemd/system.conf.d/50-provision-proxy.conf"
UPDATER_FILE = "/etc/twinhull/updater.d/50-provision.yaml"
CERTIFICATES_FILE = "/etc/ssl/certs/provision.pem"
SECRET_MODE = 0o600


@dataclass(frozen=True)
class TargetFile:
    """A file to write."""

    path: str
    data: bytes
    mode: int = 0o644
    owner: str = "root"
    group: str = "root"


def files_of(document: Provision) -> tuple[TargetFile, ...]:
    """Every file the document itself names or implies."""
    found = [TargetFile(HOSTNAME_FILE, f"{document.hostname}\n".encode())] if document.hostname else []
    found += [TargetFile(link.path, link.text.encode()) for link in document.network]
    if lines := user_lines(document.users):
        found.append(TargetFile(USERS_FILE, lines.encode()))
    found += _registries(document)
    if document.proxy is not None:
        found.append(TargetFile(PROXY_FILE, proxy_text(document.proxy).encode()))
    if document.ca_certificates:
        found.append(TargetFile(CERTIFICATES_FILE, "".join(map(str, document.ca_certificates)).encode()))
    if document.updater is not None:
        found.append(TargetFile(UPDATER_FILE, updater_settings(document.updater)))
    found += [TargetFile(str(one.path), one.data, int(one.mode, 8), one.owner, one.group) for one in document.files]
    found += [TargetFile(unit.path, unit.content.encode()) for unit in document.units]
    return tuple(found)


def user_lines(users: tuple[User, ...]) -> str:
    """The accounts for systemd-sysusers (sysusers.d(5)); their homes are below `/home`."""
    lines: list[str] = []
    for user in users:
        if user.name != "root":
            lines.append(f'u {user.name} {user.number} "{user.name}" /home/{user.name} {user.shell or "/bin/bash"}')
            lines += [f"m {user.name} {group}" for group in user.groups]
    return "".join(f"{line}\n" for line in lines)


def proxy_environment(proxy: Proxy) -> dict[str, str]:
    """The environment variables that set a proxy, in upper and lower case."""
    values = {"http_proxy": proxy.http, "https_proxy": proxy.https, "no_proxy": ",".join(proxy.no_proxy)}
    given = {name: value for name, value in values.items() if value}
    return given | {name.upper(): value for name, value in given.items()}


def proxy_text(proxy: Proxy) -> str:
    """The environment of every service, as systemd's own setting (systemd-system.conf(5))."""
    words = " ".join(f'"{name}={value}"' for name, value in sorted(proxy_environment(proxy).items()))
    return f"[Manager]\nDefaultEnvironment={words}\n"


def updater_settings(settings: UpdaterSettings) -> bytes:
    """A drop-in of the agent's settings that holds only the given keys (JSON is YAML)."""
    plain = strict.plain(settings)
    return strict.dump_json({key: value for key, value in plain.items() if value is not None})


def _registries(document: Provision) -> list[TargetFile]:
    if not document.registries:
        return []
    found = [TargetFile(REGISTRIES_FILE, registries_text(document.registries).encode())]
    found += [
        TargetFile(f"{CERTIFICATES_FOLDER}/{registry.host}/provision.crt", str(registry.ca).encode())
        for registry in document.registries
        if registry.ca is not None
    ]
    logins = logins_text(document.registries)
    return [*found, TargetFile(LOGINS_FILE, logins, SECRET_MODE)] if logins is not None else found
