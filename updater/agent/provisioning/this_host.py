"""Provisioning put together for the host this program runs on."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bedrock import process, strict
from bedrock.clock import Clock
from updater.agent.machine import parse_os_release
from updater.agent.provisioning.applying import ProvisionedHost
from updater.agent.provisioning.host_files import HostFiles
from updater.agent.provisioning.provisioning import Provisioner, RecordStore
from updater.documents.channel import Instant
from updater.errors import UpdaterError
from updater.etc_policy import POLICY_FILE as ETC_POLICY_FILE
from updater.etc_policy import EtcPolicy, parse_policy
from updater.provision.policy import POLICY_FILE, Policy

_RUNTIME = Path("/run/twinhull")
_MOUNT_TIMEOUT_S = 30.0
_PROGRAM_TIMEOUT_S = 60.0


def this_provisioner(clock: Clock, state: Path) -> Provisioner:
    """The provisioner of this host.

    Raises:
        DocumentError: The image's policy cannot be read.
    """
    release = parse_os_release(Path("/usr/lib/os-release").read_text())
    policy = strict.read_json(Policy, Path(POLICY_FILE).read_bytes(), source=POLICY_FILE)
    host = ProvisionedHost(
        files=HostFiles(), run=run, image=image_root, set_name=socket.sethostname, version=release["IMAGE_VERSION"]
    )
    return Provisioner(host, RecordStore(state), policy, load_etc_policy(), decrypt, lambda: Instant.of(clock.now()))


def load_etc_policy(root: Path = Path("/")) -> EtcPolicy:
    """What of `/etc` outlives a boot.

    Raises:
        UpdaterError: The image does not say.
    """
    path = root / ETC_POLICY_FILE.lstrip("/")
    try:
        return parse_policy(path.read_text())
    except (ValueError, FileNotFoundError) as error:
        raise UpdaterError(f"{path} does not say what of /etc outlives a boot: {error}") from error


def run(words: Sequence[str]) -> None:
    """Run a program to its end."""
    process.run(words, timeout_s=_PROGRAM_TIMEOUT_S)


def decrypt(name: str, data: bytes) -> bytes:
    """Decrypt a credential with systemd-creds, by this host's key, its TPM, or both.

    Raises:
        ProcessError: It is encrypted to another host, or under another name.
    """
    _RUNTIME.mkdir(parents=True, exist_ok=True)
    # Into a file, for what a program prints is taken for text.
    with tempfile.TemporaryDirectory(dir=_RUNTIME, prefix="credential-") as folder:
        sealed, opened = Path(folder, "sealed"), Path(folder, "opened")
        sealed.write_bytes(data)
        process.run(("systemd-creds", "decrypt", f"--name={name}", sealed, opened), timeout_s=_PROGRAM_TIMEOUT_S)
        return opened.read_bytes()


@contextmanager
def image_root() -> Iterator[Path]:
    """The image's own root file system; a bind mount without submounts shows `/etc` below the overlay."""
    at = _RUNTIME / f"lower.{os.getpid()}"
    at.mkdir(parents=True, mode=0o700)
    process.run(("mount", "--bind", "-o", "ro", "/", at), timeout_s=_MOUNT_TIMEOUT_S)
    try:
        yield at
    finally:
        process.run(("umount", at), timeout_s=_MOUNT_TIMEOUT_S)
        at.rmdir()
