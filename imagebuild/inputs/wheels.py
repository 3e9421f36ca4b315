"""The agent's third-party packages: wheels fetched by hash, kept in the cache, unpacked with care.

Rules: pip fetches, with the machine's own index settings; the lock's hashes decide what is accepted; a wheel is only
ever unpacked, never installed, so nothing in it runs on the build host.
"""

from __future__ import annotations

import os
import shutil
import struct
import sys
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath

from bedrock import process
from bedrock.digest import bytes_sha256
from bedrock.errors import ProcessError
from bedrock.network import pip_environment
from bedrock.partial import new_folder
from bedrock.process import Argument
from imagebuild.errors import BuildError
from imagebuild.inputs.tools import ToolsTree
from imagebuild.paths import DATA

LOCK = DATA / "agent.lock"
PYTHON_VERSION = "3.13"
INTERPRETER = "usr/bin/python3.13"
_MACHINES = {62: "x86_64", 183: "aarch64"}
_OLDEST_GLIBC, _NEWEST_GLIBC = 17, 41  # 2.41 is Debian 13's
_TIMEOUT_S = 600
_MAX_WHEEL_BYTES = 256 << 20


def agent_wheels(tools: ToolsTree, cache: Path, *, offline: bool = False) -> tuple[Path, ...]:
    """The agent's third-party packages, fetched into the cache unless they are there.

    Raises:
        BuildError: One could not be fetched, or is missing and there is no network.
    """
    return fetch_wheels(LOCK, machine=machine_of(tools.root / INTERPRETER), cache=cache, offline=offline)


def keep_agent_wheels(wheels: Mapping[str, Path], cache: Path, *, machine: str = "x86_64") -> None:
    """Copy the agent's wheels into the cache, by file name, unless they are there."""
    folder = wheels_folder(LOCK, machine=machine, cache=cache)
    if folder.is_dir():
        return
    with new_folder(folder) as partial:
        for name, path in wheels.items():
            shutil.copyfile(path, partial / name)


def machine_of(program: Path) -> str:
    """The CPU a program is for, from its ELF header (System V ABI, e_machine)."""
    with program.open("rb") as stream:
        header = stream.read(20)
    number = struct.unpack_from("<H", header, 18)[0] if header.startswith(b"\x7fELF") else 0
    if number not in _MACHINES:
        raise BuildError(f"{program} is for a CPU (ELF machine {number}) that has no agent yet")
    return _MACHINES[number]


def platforms(machine: str) -> tuple[str, ...]:
    """The wheel platforms Debian 13 on `machine` (`x86_64`, `aarch64`) can load, newest first."""
    numbered = (f"manylinux_2_{minor}_{machine}" for minor in range(_NEWEST_GLIBC, _OLDEST_GLIBC - 1, -1))
    return (*numbered, f"manylinux2014_{machine}")


def wheels_folder(lock: Path, *, machine: str, cache: Path) -> Path:
    """The path of a lock's wheels in the cache, whether or not they exist."""
    key = bytes_sha256(lock.read_bytes() + machine.encode())[:16]
    return cache / "wheels" / key


def fetch_wheels(lock: Path, *, machine: str, cache: Path, offline: bool = False) -> tuple[Path, ...]:
    """Return the wheels a lock names, fetching them into the cache unless they are there.

    Raises:
        BuildError: pip could not fetch one, or its hash is not in the lock.
    """
    folder = wheels_folder(lock, machine=machine, cache=cache)
    if not folder.is_dir() and offline:
        raise BuildError("the agent's packages are not in the cache, and there is no network")
    if not folder.is_dir():
        with new_folder(folder) as partial:
            _download(lock, machine, partial)
    return tuple(sorted(folder.glob("*.whl")))


def unpack(wheel: Path, destination: Path, *, wanted: Callable[[str], bool]) -> None:
    """Write those members of a wheel to the disk that `wanted` says yes to.

    Raises:
        BuildError: A member's path leaves the destination, or the wheel is unreasonably large.
    """
    with zipfile.ZipFile(wheel) as archive:
        if sum(member.file_size for member in archive.infolist()) > _MAX_WHEEL_BYTES:
            raise BuildError(f"{wheel.name} holds more than {_MAX_WHEEL_BYTES} bytes")
        for member in archive.infolist():
            path = PurePosixPath(member.filename)
            if path.is_absolute() or ".." in path.parts or "\\" in member.filename:
                raise BuildError(f"{wheel.name} holds the path {member.filename!r}, which leaves its folder")
            if member.is_dir() or not wanted(member.filename):
                continue
            target = destination / path
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(member) as source, target.open("xb") as sink:
                shutil.copyfileobj(source, sink)


def _download(lock: Path, machine: str, folder: Path) -> None:
    words: list[Argument] = [sys.executable, "-m", "pip", "--quiet", "--no-input", "--disable-pip-version-check"]
    words += ["download", "--require-hashes", "--no-deps", "--only-binary", ":all:", "--implementation", "cp"]
    words += ["--python-version", PYTHON_VERSION, "--requirement", lock, "--dest", folder]
    words += [word for platform in platforms(machine) for word in ("--platform", platform)]
    try:
        process.run(words, timeout_s=_TIMEOUT_S, env=pip_environment(os.environ))
    except ProcessError as error:
        failure = BuildError(f"the agent's packages could not be fetched\n{error}")
        failure.add_note("is the package index reachable (pip's own settings apply)?")
        raise failure from error
