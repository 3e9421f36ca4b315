"""The virtual environment `.venv`, made from the lock and identified by all of its inputs.

A stamp inside names the inputs it was made from; it is written last, so an interrupted set-up starts over.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable
from pathlib import Path

from bedrock import process
from bedrock.errors import ProcessError
from bedrock.network import pip_environment
from bedrock.persist import write_atomic
from setup.errors import SetupError

FOLDER = ".venv"
LOCK = "requirements-dev.lock"
_STAMP = "twinhull-stamp"
_FORMAT = "1"
_TIMEOUT_S = 1200


def fingerprint(root: Path, *, interpreter: str, version: str) -> str:
    """The hash of everything a virtual environment at `root` is made from."""
    digest = hashlib.sha256()
    for part in (_FORMAT, interpreter, version, str(root)):
        digest.update(part.encode() + b"\0")
    for name in (LOCK, "pyproject.toml"):
        digest.update((root / name).read_bytes() + b"\0")
    return digest.hexdigest()


def ensure_venv(root: Path, say: Callable[[str], None]) -> Path:
    """Return the environment's Python; makes the environment first unless one with the same inputs exists.

    Raises:
        SetupError: Python or pip failed; the message contains the end of their output.
    """
    folder = root / FOLDER
    base = str(Path(sys.executable).resolve())
    wanted = fingerprint(root, interpreter=base, version=sys.version)
    stamp = folder / _STAMP
    if stamp.is_file() and stamp.read_text().strip() == wanted:
        return folder / "bin/python"
    say(f"making {FOLDER} from {LOCK} with Python {sys.version.split()[0]}")
    python = folder / "bin/python"
    pip = (python, "-m", "pip", "--quiet", "--no-input", "--disable-pip-version-check")
    environment = pip_environment(os.environ)
    try:
        process.run([sys.executable, "-m", "venv", "--clear", folder], timeout_s=_TIMEOUT_S)
        process.run(
            [*pip, "install", "--require-hashes", "--only-binary", ":all:", "-r", root / LOCK],
            timeout_s=_TIMEOUT_S,
            env=environment,
        )
        # The "compat" mode puts the folder itself on the path, so type checkers and new packages see it too.
        options = ("--no-deps", "--no-build-isolation", "--no-index", "--config-settings", "editable_mode=compat")
        process.run([*pip, "install", *options, "--editable", root], timeout_s=_TIMEOUT_S, env=environment)
    except ProcessError as error:
        failure = SetupError(f"{FOLDER} could not be made\n{error}")
        failure.add_note("is the package index reachable (pip's own settings apply), and is there space on the disk?")
        raise failure from error
    write_atomic(stamp, wanted + "\n")
    return python
