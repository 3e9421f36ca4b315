"""The life of a host that is recorded, and the record's proof of itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from imagebuild.definition.image import load_definition
from imagebuild.errors import TrimError, VmError
from imagebuild.rehearsal.guest import STATUS
from imagebuild.trim.keeping import KeepList
from imagebuild.trim.life import RecordedLife
from imagebuild.trim.page_cache import CANARY, SAMPLE_SCRIPT, Sample
from imagebuild.trim.recording import Recorder, choose_probes
from imagebuild.trim.trimming import TouchRecord, read_record, write_rehearsed
from tests.fakes.clock import FakeClock
from tests.fakes.definitions import RecordedProgress, write_definition
from tests.fakes.recorded_guest import RecordedGuest
from tests.fakes.trees import contents_of
from updater.provision.policy import Unsigned

SMALL, LARGE, OTHER = "/usr/share/small", "/usr/share/large", "/usr/bin/other"
CONTENTS = contents_of({SMALL: 100, LARGE: 100_000, OTHER: 50, "/usr/bin/podman": 9, CANARY: 7, "/etc/x": 3})
KEEP = KeepList(paths=("/usr/share", "/etc"))


def life_of(guest: RecordedGuest, own: str | None = None) -> RecordedLife:
    recorder = Recorder(guest, b"program", RecordedProgress())
    return RecordedLife(
        recorder,
        contents=CONTENTS,
        keep=KEEP,
        reference="host:5000/x",
        own=own,
        offer_update=lambda: offered(guest),
        clock=FakeClock(),
    )


def offered(guest: RecordedGuest) -> None:
    guest.heard.append("offer")


def test_what_was_touched_in_any_boot_counts() -> None:
    touched = life_of(RecordedGuest()).lead()
    assert {"/usr/bin/podman", "/usr/bin/late", CANARY} <= touched.files
    assert OTHER not in touched.files
    assert touched.modules == {"overlay"}


def test_the_order_of_a_life() -> None:
    guest = RecordedGuest()
    life_of(guest, own="echo mine").lead()
    kinds = {
        STATUS: "blessed?",
        SAMPLE_SCRIPT: "sample",
        "reboot": "reboot",
        "offer": "offer",
        "updater update --no-reboot": "update",
        "TWINHULL_STAGE=before-update\nexport TWINHULL_STAGE\necho mine": "own 1",
        "TWINHULL_STAGE=after-update\nexport TWINHULL_STAGE\necho mine": "own 2",
    }
    told = [kinds[command] for command in guest.heard if command in kinds]
    first = ["blessed?", "sample", "sample", "sample", "own 1", "offer", "update", "sample", "reboot"]
    assert told == [*first, "blessed?", "own 2", "sample"]


def test_a_workload_that_fails_ends_the_trim() -> None:
    with pytest.raises(TrimError, match=r"'the workload, before-update' failed with exit code 3\nit went wrong"):
        life_of(RecordedGuest(fails=("echo mine", 3)), own="echo mine").lead()


def test_a_workload_that_hangs_is_told() -> None:
    with pytest.raises(TrimError, match="did not end in time"):
        life_of(RecordedGuest(fails=("podman network", 124))).lead()


def test_a_container_that_does_not_run_ends_the_trim() -> None:
    with pytest.raises(TrimError, match="container did not run"):
        life_of(RecordedGuest(fails=("podman start", 1))).lead()


def test_an_image_that_never_blesses_is_told() -> None:
    with pytest.raises(VmError, match=r"a host that runs 1\.0\.0 and has blessed it did not come") as caught:
        life_of(RecordedGuest(sick=True)).lead()
    assert "fix the image first" in caught.value.hints[0]


def test_a_guest_in_which_fincore_does_not_run_is_told() -> None:
    with pytest.raises(TrimError, match=r"cannot be asked what it touched: exit code 127"):
        life_of(RecordedGuest(fails=("fincore --version", 127))).lead()


def test_a_record_that_does_not_see_a_read_is_worthless() -> None:
    with pytest.raises(TrimError, match=f"{SMALL} was read but not recorded|{LARGE}, {SMALL} was read"):
        life_of(RecordedGuest(forgets=True)).lead()


def test_a_record_that_touches_by_asking_is_worthless() -> None:
    with pytest.raises(TrimError, match=f"recording itself touched {LARGE}"):
        life_of(RecordedGuest(nosy={LARGE})).lead()


def test_dropped_pages_end_the_trim() -> None:
    with pytest.raises(TrimError, match="dropped pages"):
        life_of(RecordedGuest(dropped_pages=5)).lead()


def test_probes_are_a_small_and_a_large_file_that_are_kept_anyway() -> None:
    assert choose_probes(CONTENTS, KEEP, Sample(frozenset({CANARY}), frozenset())) == (SMALL, LARGE)


def test_what_is_not_kept_must_do_when_everything_kept_was_touched() -> None:
    touched = Sample(frozenset({CANARY, SMALL, "/usr/bin/podman"}), frozenset())
    assert choose_probes(CONTENTS, KEEP, touched) == (OTHER, LARGE)


def test_nothing_untouched_is_told() -> None:
    everything = frozenset(entry.path for entry in CONTENTS.entries)
    with pytest.raises(TrimError, match="every file"):
        choose_probes(CONTENTS, KEEP, Sample(everything, frozenset()))


def test_the_second_definition_differs_by_one_file(tmp_path: Path) -> None:
    first = write_definition(tmp_path / "a", "id: host\nfiles: [{path: /etc/motd, source: motd}]\n")
    (first / "motd").write_text("hello\n")
    (first / ".git").mkdir()
    second = write_rehearsed(first, tmp_path / "b", second=True)
    assert not (second / ".git").exists()
    assert (second / "motd").read_text() == "hello\n"
    paths = [str(file.path) for file in load_definition(second).files]
    assert paths == ["/etc/motd", "/usr/share/twinhull-trim/version"]


MOTD_ONLY = "id: host\nfiles: [{path: /etc/motd, content: x}]\nprovision: {updater: never}\n"


def test_the_first_definition_is_the_same_but_lets_the_shell_in_at_every_boot(tmp_path: Path) -> None:
    first = write_definition(tmp_path / "a", MOTD_ONLY)
    rehearsed = load_definition(write_rehearsed(first, tmp_path / "b", second=False))
    before = load_definition(first)
    assert rehearsed.provision == replace(before.provision, unsigned=Unsigned.ALWAYS)
    assert replace(rehearsed, provision=before.provision) == before


def test_a_record_is_taken_again_only_for_the_same_inputs(tmp_path: Path) -> None:
    path = tmp_path / "recorded.json"
    assert read_record(path, "k") is None
    path.write_text('{"key": "k", "files": ["/a"], "modules": []}')
    assert read_record(path, "k") == TouchRecord("k", ("/a",), ())
    assert read_record(path, "other") is None
    path.write_text('{"key": "k"')
    assert read_record(path, "k") is None
