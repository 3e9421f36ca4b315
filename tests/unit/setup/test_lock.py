"""The lock files as they are in the repository."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from setup.lock import LOCKS, LockFile, heading

ROOT = Path(__file__).resolve().parents[3]
PACKAGE = re.compile(r"^(?P<name>[a-z0-9-]+)==(?P<version>\S+)", re.MULTILINE)


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.path)
def test_every_package_of_a_lock_is_exact_and_has_hashes(lock: LockFile) -> None:
    text = (ROOT / lock.path).read_text()
    assert text.startswith(heading(lock))
    entries = re.split(r"(?m)^(?=[a-z0-9])", text)[1:]
    assert entries
    for entry in entries:
        assert PACKAGE.match(entry), entry
        assert "--hash=sha256:" in entry, entry


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.path)
def test_no_lock_names_a_package_index(lock: LockFile) -> None:
    assert not re.search(r"://|--index|--find-links", (ROOT / lock.path).read_text())


def test_the_agent_runs_the_versions_that_are_tested_here() -> None:
    ours = dict(PACKAGE.findall((ROOT / "requirements-dev.lock").read_text()))
    agents = dict(PACKAGE.findall((ROOT / "imagebuild/data/agent.lock").read_text()))
    assert agents == {name: ours[name] for name in agents}
