"""The script that says whether the agent has edits of /etc to note; files play a host, and a script the agent."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

import imagebuild

SCRIPT = Path(str(imagebuild.__file__)).parent / "data/tree/usr/lib/twinhull/etc-edited"
LAYER = "var/lib/twinhull/etc/upper"
EARLIER, LATER = 1_000_000_000, 4_000_000_000


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in (LAYER, "run/twinhull"):
        (tmp_path / name).mkdir(parents=True)
    agent = tmp_path / "updater"
    agent.write_text(f"#!/bin/sh\necho noted >>{tmp_path}/noted\n")
    agent.chmod(0o755)
    return tmp_path


def put(path: Path, *, at: int | None = None) -> Path:
    path.write_text("x")
    if at is not None:
        os.utime(path, (at, at))
    return path


def times_noted(root: Path) -> int:
    """Run the script, with another root, and count how often the agent was started so far."""
    text = SCRIPT.read_text()
    for sign in ("=", " "):
        for folder in ("/run/", "/var/"):
            text = text.replace(f"{sign}{folder}", f"{sign}{root}{folder}")
    (root / "script").write_text(text.replace("/usr/bin/updater", str(root / "updater")))
    subprocess.run(["/bin/sh", root / "script"], check=True)
    noted = root / "noted"
    return len(noted.read_text().splitlines()) if noted.exists() else 0


def test_a_host_that_nobody_edited_starts_no_agent(root: Path) -> None:
    for name in ("machine-id", ".updated", ".pwd.lock"):
        put(root / LAYER / name)
    assert times_noted(root) == 0
    assert times_noted(root) == 0


def test_edits_are_noted_once_per_boot_unless_there_are_more(root: Path) -> None:
    put(root / LAYER / "hostname")
    assert times_noted(root) == 1
    os.utime(root / "run/twinhull/etc-looked", (LATER, LATER))
    assert times_noted(root) == 1
    os.utime(root / "run/twinhull/etc-looked", (EARLIER, EARLIER))
    assert times_noted(root) == 2


def test_what_was_noted_at_an_earlier_boot_is_not_noted_again(root: Path) -> None:
    put(root / LAYER / "hostname", at=EARLIER)
    put(root / "var/lib/twinhull/etc-origins.json", at=EARLIER + 1)
    assert times_noted(root) == 0
    # The power went before it was noted.
    (root / "run/twinhull/etc-looked").unlink()
    put(root / LAYER / "hosts", at=EARLIER + 2)
    assert times_noted(root) == 1


def test_what_was_refused_at_the_boot_is_looked_at_once(root: Path) -> None:
    put(root / "run/twinhull/etc-refused")
    assert times_noted(root) == 1
    assert times_noted(root) == 1


def test_a_host_without_a_layer_on_its_disk_starts_no_agent(root: Path) -> None:
    (root / LAYER).rmdir()
    assert times_noted(root) == 0
