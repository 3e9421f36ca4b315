"""Makes the lock files: exact versions with the hashes of their wheels, for every Python and platform supported.

Only for maintainers (`make lock`); it asks the package index for versions, so its result changes over time.
The files name no index: an installation uses the machine's own index, and the hashes decide what is accepted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bedrock import process
from bedrock.errors import ProcessError
from bedrock.network import pip_environment
from bedrock.persist import write_atomic
from bedrock.process import Argument
from setup.errors import SetupError

_RESOLVER = "uv==0.13.9"
_TIMEOUT_S = 600
# The host's own interpreter is Debian 13's; the hashes of the arm64 wheels are in the same file.
_AGENT_TARGET = ("--python-version", "3.13", "--python-platform", "x86_64-manylinux_2_28")
_EVERY_TARGET = ("--universal", "--python-version", "3.11")


@dataclass(frozen=True)
class LockFile:
    """One lock file: its path, its purpose, and the resolver's arguments that make it."""

    path: str
    purpose: str
    arguments: tuple[str, ...]


LOCKS = (
    LockFile("requirements.lock", "what Twinhull needs to run", (*_EVERY_TARGET, "pyproject.toml")),
    LockFile(
        "requirements-dev.lock", "the same, and what tests it", (*_EVERY_TARGET, "--extra", "dev", "pyproject.toml")
    ),
    LockFile(
        "imagebuild/data/agent.lock", "what the on-host agent needs", (*_AGENT_TARGET, "imagebuild/data/agent.in")
    ),
)


def heading(lock: LockFile) -> str:
    """The comment at the top of a lock file."""
    return f"# {lock.purpose[0].upper()}{lock.purpose[1:]}; made by `make lock`, not by hand.\n"


def make_locks(root: Path, say: Callable[[str], None], *, cache: Path) -> None:
    """Write all lock files to the disk again, each in one step.

    Raises:
        SetupError: The resolver could not be installed or found no solution.
    """
    try:
        resolver = _ensure_resolver(cache, say)
        environment = _resolver_environment(resolver.parent / "python", cache)
        for lock in LOCKS:
            say(f"locking {lock.path}")
            words: list[Argument] = [
                resolver,
                "pip",
                "compile",
                "--quiet",
                "--no-header",
                "--generate-hashes",
                "--upgrade",
            ]
            words += ["--no-emit-index-url", "--only-binary", ":all:", *lock.arguments]
            done = process.run(words, timeout_s=_TIMEOUT_S, cwd=root, env=environment)
            write_atomic(root / lock.path, heading(lock) + done.stdout)
    except ProcessError as error:
        raise SetupError(f"the lock files could not be made\n{error}") from error


def _ensure_resolver(cache: Path, say: Callable[[str], None]) -> Path:
    """Install the resolver in an environment of its own: only maintainers need it."""
    folder = cache / "lock" / _RESOLVER.replace("==", "-")
    program = folder / "bin/uv"
    if not program.exists():
        say(f"installing {_RESOLVER}")
        process.run([sys.executable, "-m", "venv", "--clear", folder], timeout_s=_TIMEOUT_S)
        install: list[Argument] = [folder / "bin/python", "-m", "pip", "--quiet", "--no-input", "install", _RESOLVER]
        process.run(install, timeout_s=_TIMEOUT_S, env=pip_environment(os.environ))
    return program


def _resolver_environment(python: Path, cache: Path) -> dict[str, str]:
    """Pass pip's index to the resolver, which does not read pip's settings."""
    environment = pip_environment(os.environ) | {"UV_CACHE_DIR": str(cache / "lock/cache")}
    asked = process.run(
        [python, "-m", "pip", "config", "get", "global.index-url"], timeout_s=60, env=environment, check=False
    )
    index = os.environ.get("PIP_INDEX_URL") or (asked.stdout.strip() if asked.returncode == 0 else "")
    return environment | ({"UV_DEFAULT_INDEX": index} if index else {})
