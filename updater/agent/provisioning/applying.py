"""Applies a document to a host: accounts, files, certificates, hostname, units.  Writes to the disk.

Everything that can be checked in advance is checked before the first write, and each step may be repeated.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from bedrock.digest import bytes_sha256
from updater.agent.provisioning.host_files import Account, HostFiles
from updater.errors import UpdaterError
from updater.provision.document import Provision, Unit, User
from updater.provision.files import CERTIFICATES_FILE, USERS_FILE, TargetFile, files_of
from updater.provision.places import UNITS
from updater.provision.record import Applied

BUNDLE_FILE = "/etc/ssl/certs/ca-certificates.crt"
# systemd notices changes there only when it reloads its units and settings.
_UNIT_FOLDERS = ("/etc/systemd/system/", "/etc/containers/systemd/", "/etc/systemd/system.conf.d/")
_KEYS = ".ssh/authorized_keys"
_PRIVATE = 0o700

Run = Callable[[Sequence[str]], None]


@dataclass(frozen=True)
class ProvisionedHost:
    """The host that a document is applied to.

    Attributes:
        files: The files of the host.
        run: Starts a program and waits for its end; raises `TwinhullError` when it fails.
        image: The root file system of the image, without what the host changed.
        set_name: Sets the name of the running host.
        version: The version that runs.
    """

    files: HostFiles
    run: Run
    image: Callable[[], AbstractContextManager[Path]]
    set_name: Callable[[str], None]
    version: str


@dataclass(frozen=True)
class Done:
    """What was written: every file with the hash of its content, and whether systemd has to reload."""

    files: dict[str, str]
    units_changed: bool


def apply(document: Provision, host: ProvisionedHost, before: Applied | None) -> Done:
    """Apply a document to the disk and to the running host.

    Raises:
        UpdaterError: It cannot be applied; if this was found in advance, nothing was written.
        ProcessError: A program that makes users or enables units failed.
    """
    targets = files_of(document)
    _check(document, targets, host)
    was = dict(before.files) if before is not None else {}
    _make_users(document, targets, host)
    changed = [target.path for target in targets if _write(target, host)]
    keys = [_write_keys(user, host) for user in document.users if user.ssh_keys]
    written = {target.path: bytes_sha256(target.data) for target in (*targets, *keys)}
    gone = _leave(was, written, host)
    if document.ca_certificates or CERTIFICATES_FILE in gone:
        write_bundle(host)
    if document.hostname is not None:
        host.set_name(document.hostname)
    _set_units(document.units, was, host)
    return Done(written, units_changed=any(path.startswith(_UNIT_FOLDERS) for path in (*changed, *gone)))


def _set_units(units: Sequence[Unit], was: dict[str, str], host: ProvisionedHost) -> None:
    """Enable units as the document says, and disable those that the previous document may have enabled."""
    off = [unit.name for unit in units if not unit.enable and unit.path in was and unit.path.startswith(str(UNITS))]
    if off:
        host.run(("systemctl", "--root=/", "disable", *off))
    on = [unit.name for unit in units if unit.enable]
    if on:
        host.run(("systemctl", "--root=/", "reenable", *on))


def write_bundle(host: ProvisionedHost) -> None:
    """Write the bundle of certificates: the running image's own, followed by those of the document."""
    with host.image() as root:
        own = (root / BUNDLE_FILE.lstrip("/")).read_bytes()
    _write(TargetFile(BUNDLE_FILE, own + (host.files.read(CERTIFICATES_FILE) or b"")), host)


def _check(document: Provision, targets: Sequence[TargetFile], host: ProvisionedHost) -> None:
    coming = {user.name for user in document.users} | {group for user in document.users for group in user.groups}
    for target in targets:
        host.files.require_place(target.path)
        owners = ((host.files.account(target.owner), target.owner), (host.files.group(target.group), target.group))
        for known, name in owners:
            if known is None and name not in coming:
                raise UpdaterError(f"{target.path}: this host knows no {name}, and the document makes none")
    for user in document.users:
        account = host.files.account(user.name)
        if account is not None and user.uid is not None and account.uid != user.uid:
            raise UpdaterError(f"the user {user.name} has the id {account.uid} on this host, not {user.uid}")
        holder = host.files.user_of(user.number) if account is None else None
        if holder is not None:
            message = f"the user {user.name} cannot have the id {user.number}: on this host it belongs to {holder}"
            raise UpdaterError(message if user.uid is not None else f"{message}; give another uid")
        if account is not None:
            _require_home(user, account, host)


def _make_users(document: Provision, targets: Sequence[TargetFile], host: ProvisionedHost) -> None:
    for target in targets:
        if target.path == USERS_FILE:
            _write(target, host)
            host.run(("systemd-sysusers", USERS_FILE))
    for user in document.users:
        account = host.files.account(user.name)
        if account is None:
            raise UpdaterError(f"the user {user.name} was not made")
        if user.name != "root":
            host.files.make_home(account.home, account)


def _write(target: TargetFile, host: ProvisionedHost) -> bool:
    return host.files.write(target, host.files.owner_of(target))


def _write_keys(user: User, host: ProvisionedHost) -> TargetFile:
    account = host.files.account(user.name)
    if account is None:
        raise UpdaterError(f"this host knows no user {user.name}")
    text = "".join(f"{key}\n" for key in user.ssh_keys)
    target = TargetFile(_require_home(user, account, host), text.encode(), 0o600)
    host.files.write(target, (account.uid, account.gid), folder_mode=_PRIVATE)
    return target


def _require_home(user: User, account: Account, host: ProvisionedHost) -> str:
    """The path of a user's ssh keys, which must be inside the user's home.

    The folder belongs to the user, who may have put a link to somebody else's files there.
    """
    path = f"{account.home.rstrip('/')}/{_KEYS}"
    home = host.files.folder(account.home)
    if user.ssh_keys and host.files.require_place(path) != home / _KEYS:
        raise UpdaterError(f"{path} leads out of the home of {user.name}")
    return path


def _leave(was: dict[str, str], written: dict[str, str], host: ProvisionedHost) -> list[str]:
    """Remove files that the previous document wrote and this one does not name, unless somebody changed them since."""
    gone = []
    for path, sha256 in was.items():
        if path in written:
            continue
        name = path.rpartition("/")[2]
        if path.startswith("/etc/systemd/system/") and re.search(r"(?m)^\[Install\]", _text(path, host)):
            host.run(("systemctl", "--root=/", "disable", name))
        if host.files.remove(path, sha256):
            gone.append(path)
    return gone


def _text(path: str, host: ProvisionedHost) -> str:
    return (host.files.read(path) or b"").decode(errors="replace")
