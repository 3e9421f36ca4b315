"""Fixtures of the integration tests."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

_SBIN = ("/usr/local/sbin", "/usr/sbin", "/sbin")


@pytest.fixture
def tool() -> Callable[[str], Path]:
    """Finds a program by name, in the administrator's folders too; a missing one fails the test."""

    def find(name: str) -> Path:
        path = os.pathsep.join((os.environ.get("PATH", os.defpath), *_SBIN))
        found = shutil.which(name, path=path)
        if found is None:
            pytest.fail(f"this test needs the program {name!r}, which is not installed")
        return Path(found)

    return find
