"""The cache folder, for everything that can be recreated: tools trees, packages, wheels, payloads."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from bedrock import process
from bedrock.process import Argument

_REMOVE_TIMEOUT_S = 600


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/twinhull`, with the usual default."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "twinhull"


def forget(folders: Iterable[Path], say: Callable[[str], None]) -> None:
    """Remove folders from the disk, even trees made without root, whose files only a user namespace may remove.

    Raises:
        ProcessError: Something in them could not be removed.
    """
    namespace: tuple[Argument, ...] = () if os.geteuid() == 0 else ("unshare", "--map-root-user", "--map-auto")
    for folder in folders:
        if folder.exists():
            say(f"removing {folder}")
            process.run([*namespace, "rm", "-rf", "--one-file-system", folder], timeout_s=_REMOVE_TIMEOUT_S)
