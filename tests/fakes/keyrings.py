"""Keys folders for tests: made once per process, copied (modes included) for each test that changes something."""

from __future__ import annotations

import shutil
import tempfile
from functools import cache
from pathlib import Path

from keys.generate import init
from keys.passphrase import FixedPassphrase, NoPassphrase
from keys.roles import Profile

PASSPHRASE = "correct horse battery staple"


def dev_folder(parent: Path) -> Path:
    """A fresh copy of an unencrypted dev keys folder below `parent`."""
    return _copy(_dev(), parent)


def production_folder(parent: Path) -> Path:
    """A fresh copy of a production keys folder, encrypted with PASSPHRASE, below `parent`."""
    return _copy(_production(), parent)


def _copy(kept: tempfile.TemporaryDirectory[str], parent: Path) -> Path:
    target = parent / "keys"
    shutil.copytree(Path(kept.name) / "keys", target)
    return target


@cache
def _dev() -> tempfile.TemporaryDirectory[str]:
    kept = tempfile.TemporaryDirectory()
    init(Path(kept.name) / "keys", Profile.DEV, NoPassphrase())
    return kept


@cache
def _production() -> tempfile.TemporaryDirectory[str]:
    kept = tempfile.TemporaryDirectory()
    init(Path(kept.name) / "keys", Profile.PRODUCTION, FixedPassphrase(PASSPHRASE))
    return kept
