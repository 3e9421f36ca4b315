"""What proves that something was changed is found, stays when files are collected, and is never made of leftovers."""

from __future__ import annotations

import os
import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tuf.api.metadata import MetaFile

from bedrock.progress import Silent
from keys.roles import TufRole
from partitions.version import Version
from tests.fakes.builds import NOW, Publisher, write_build
from tests.fakes.forgery import own_keys, resign, swap_release
from updater.repository.channels import ReleaseChoice
from updater.repository.lifetime import Lifetimes
from updater.repository.upkeep.garbage import Garbage, collect
from updater.repository.upkeep.refresh import refresh
from updater.repository.upkeep.verify import Verification, verify
from updater.repository.upkeep.withdraw import withdraw

RELEASE = "releases/host/1.0.0/x86-64.json"


@pytest.fixture
def workshop(tmp_path: Path) -> Publisher:
    made = Publisher.make(tmp_path)
    made.publish("1.0.0")
    return made


def checked(workshop: Publisher) -> Verification:
    return verify(workshop.base, now=NOW, progress=Silent())


def garbage(workshop: Publisher) -> Garbage:
    """Everything that nothing needs, removed; every file counts as old."""
    for path in workshop.base.rglob("*"):
        os.utime(path, (0, 0))
    return collect(workshop.base, older_than=timedelta(days=7), now=NOW, remove=True)


def refreshed(workshop: Publisher, times: int = 1) -> None:
    for _ in range(times):
        refresh(workshop.base, access=workshop.access, lifetimes=Lifetimes(), now=NOW)


def resigned(workshop: Publisher, change: Any) -> None:
    """What somebody with the keys of releases, snapshot and timestamp can do: a next version, signed and named."""

    def next_version(signed: Any) -> None:
        signed.version += 1
        change(signed)

    resign(workshop, TufRole.RELEASES, own_keys(workshop, TufRole.RELEASES), change=next_version)


def test_documents_that_only_grew_are_collected(workshop: Publisher) -> None:
    workshop.publish("1.0.1", seed=2)
    refreshed(workshop, 3)
    gone = garbage(workshop).files
    assert {"metadata/1.releases.json", "metadata/2.releases.json", "metadata/3.snapshot.json"} <= set(gone)
    assert "metadata/3.releases.json" not in gone
    report = checked(workshop)
    assert (report.problems, report.notes) == ((), ())


def test_what_a_killed_publish_left_is_not_taken_for_a_release_that_was_changed(
    workshop: Publisher, tmp_path: Path
) -> None:
    shutil.copytree(workshop.base, tmp_path / "twin/repo")
    twin = Publisher(tmp_path / "twin", workshop.access)
    twin.publish_folders(write_build(tmp_path / "killed", version="2.0.0", seed=5))
    shutil.copy(twin.base / "metadata/3.releases.json", workshop.base / "metadata")
    workshop.publish_folders(write_build(tmp_path / "good", version="2.0.0", seed=6))
    assert (workshop.base / "metadata/4.releases.json").is_file()
    assert checked(workshop).problems == ()
    assert "metadata/3.releases.json" in garbage(workshop).files


def test_a_changed_release_is_found_after_files_were_collected_as_well(workshop: Publisher) -> None:
    refreshed(workshop, 2)
    swap_release(workshop, "1.0.0", seed=7)
    before = checked(workshop).problems
    assert any("was changed after publication" in problem for problem in before)
    garbage(workshop)
    assert any("was changed after publication" in problem for problem in checked(workshop).problems)
    assert garbage(workshop).files == ()


def test_a_release_that_was_taken_off_the_list_is_found(workshop: Publisher) -> None:
    refreshed(workshop)
    resigned(workshop, lambda signed: signed.targets.pop(RELEASE))
    garbage(workshop)
    assert [problem for problem in checked(workshop).problems if "is not named any more" in problem]


def test_a_withdrawal_that_was_taken_back_is_found(workshop: Publisher) -> None:
    choice = ReleaseChoice("host", Version("1.0.0"))
    withdraw(workshop.base, choice, "bad", access=workshop.access, lifetimes=Lifetimes(), now=NOW)
    refreshed(workshop)
    resigned(workshop, lambda signed: signed.targets[RELEASE].unrecognized_fields.pop("custom"))
    garbage(workshop)
    assert any("was withdrawn by" in problem for problem in checked(workshop).problems)


def test_a_role_that_went_back_is_found_after_files_were_collected_as_well(workshop: Publisher) -> None:
    workshop.publish("1.0.1", seed=2)
    refreshed(workshop)

    old = (workshop.base / "metadata/2.releases.json").read_bytes()

    def put_back(signed: Any) -> None:
        signed.version += 1
        signed.meta["releases.json"] = MetaFile.from_data(2, old, ["sha256"])

    resign(workshop, TufRole.SNAPSHOT, own_keys(workshop, TufRole.SNAPSHOT), change=put_back)
    assert any("rolled back: releases.json" in problem for problem in checked(workshop).problems)
    garbage(workshop)
    assert any("rolled back: releases.json" in problem for problem in checked(workshop).problems)


def test_snapshots_that_nobody_signed_are_counted_in_one_note(workshop: Publisher) -> None:
    for number in (90, 91):
        (workshop.base / f"metadata/{number}.snapshot.json").write_text("{}")
    assert checked(workshop).notes == ("2 other snapshots are not signed by a key of this repository",)
