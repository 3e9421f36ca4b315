"""The host packages: which ones are needed or missing, and how to install them.

The file `host-packages` next to this module is the only list.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from bedrock import process
from bedrock.errors import ProcessError
from setup.errors import MissingPackagesError, SetupError

LIST = Path(__file__).with_name("host-packages")
_APT_TIMEOUT_S = 900
_NAMESPACE_TIMEOUT_S = 10
_COLUMNS = 4


class Probe(Enum):
    """How to detect a package."""

    PROGRAM = "program"
    FILE = "file"
    MODULE = "module"


@dataclass(frozen=True)
class HostPackage:
    """One line of the list."""

    name: str
    probe: Probe
    subject: str
    rootless_only: bool
    why: str


def parse_list(text: str) -> tuple[HostPackage, ...]:
    """The packages named in the text of a list file.

    Raises:
        SetupError: A line has not the four columns or an unknown word in them.
    """
    return tuple(
        _parse_line(line, number)
        for number, line in enumerate(text.splitlines(), start=1)
        if line.strip() and not line.startswith("#")
    )


def missing(
    packages: Iterable[HostPackage], *, is_root: bool, present: Callable[[HostPackage], bool]
) -> tuple[HostPackage, ...]:
    """The packages that this user needs and that are missing."""
    return tuple(package for package in packages if not (is_root and package.rootless_only) and not present(package))


def is_present(package: HostPackage) -> bool:
    """Whether the package's file or program is on this machine, however it was installed."""
    if package.probe is Probe.PROGRAM:
        return shutil.which(package.subject, path=_program_path()) is not None
    if package.probe is Probe.FILE:
        return Path(package.subject).exists()
    return importlib.util.find_spec(package.subject) is not None


def install_command(packages: Iterable[HostPackage]) -> str:
    """The command that somebody with root rights must run."""
    return f"sudo apt-get update && sudo apt-get install -y --no-install-recommends {_names(packages)}"


def ensure_host_packages(say: Callable[[str], None], *, log: Path, rootless: bool = False) -> None:
    """Install the missing host packages (as root), or say how; `rootless` includes those for builds without root.

    Raises:
        MissingPackagesError: Some are missing and this user may not install them.
        SetupError: apt-get is missing or failed, or the packages lack what was expected of them.
    """
    is_root = os.geteuid() == 0
    packages = parse_list(LIST.read_text())
    lacking = missing(packages, is_root=is_root and not rootless, present=is_present)
    if lacking:
        _install(lacking, is_root=is_root, say=say, log=log)
        importlib.invalidate_caches()
        still = missing(lacking, is_root=is_root and not rootless, present=is_present)
        if still:
            raise SetupError(f"installed, but still not found: {', '.join(package.subject for package in still)}")
    if not is_root:
        _require_user_namespaces()


def _install(lacking: tuple[HostPackage, ...], *, is_root: bool, say: Callable[[str], None], log: Path) -> None:
    if not is_root:
        lines = "\n".join(f"  {package.name}: {package.why}" for package in lacking)
        hint = f"run this once, then the same make command again:\n  {install_command(lacking)}"
        error = MissingPackagesError(f"host packages are missing\n{lines}")
        error.add_note(hint)
        raise error
    say(f"installing host packages: {_names(lacking)}")
    environment = {"DEBIAN_FRONTEND": "noninteractive"}
    words = ["apt-get", "install", "-y", "--no-install-recommends", *(package.name for package in lacking)]
    log.parent.mkdir(parents=True, exist_ok=True)
    try:
        process.run(["apt-get", "update"], timeout_s=_APT_TIMEOUT_S, env=environment, log=log)
        process.run(words, timeout_s=_APT_TIMEOUT_S, env=environment, log=log)
    except ProcessError as error:
        raise SetupError(f"host packages could not be installed\n{error}") from error


def _require_user_namespaces() -> None:
    """Check user namespaces, which builds without root need; some distributions disable them for ordinary users."""
    words = ["unshare", "--user", "--map-root-user", "--map-auto", "true"]
    if process.run(words, timeout_s=_NAMESPACE_TIMEOUT_S, check=False).returncode != 0:
        error = SetupError("this user may not create user namespaces, and builds without root need them")
        error.add_note(
            "run as root, or allow them (Ubuntu: sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0)"
        )
        raise error


def _program_path() -> str:
    """Programs of the system may be in sbin folders that an ordinary user's PATH leaves out."""
    return f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"


def _names(packages: Iterable[HostPackage]) -> str:
    return " ".join(package.name for package in packages)


def _parse_line(line: str, number: int) -> HostPackage:
    columns = line.split(maxsplit=_COLUMNS - 1)
    kind, _, subject = columns[1].partition(":") if len(columns) == _COLUMNS else ("", "", "")
    if kind not in {probe.value for probe in Probe} or not subject or columns[2] not in {"everyone", "rootless"}:
        raise SetupError(f"{LIST.name}:{number}: must be: package probe:subject everyone|rootless why")
    return HostPackage(columns[0], Probe(kind), subject, columns[2] == "rootless", columns[3])
