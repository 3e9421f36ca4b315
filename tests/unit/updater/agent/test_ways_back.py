"""A host comes back by itself: guarded entries, the second loader, UKIs restored from their slots, names given back."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from bedrock.progress import Silent
from partitions.entries import parse_entry
from partitions.errors import BlockIOError
from partitions.version import Version
from tests.fakes.boot_folder import FakeBootFolder
from tests.fakes.clock import START
from tests.fakes.documents import channel_at, reference_to
from tests.fakes.machine import FakeMachine, FakeServer
from tests.fakes.memory_disk import PowerCut
from tests.fakes.twin_host import TwinHost, built
from tests.unit.updater.agent.test_plan import entry, facts
from updater.agent import trial
from updater.agent.agent import Agent
from updater.agent.config import Config
from updater.agent.efi import InitrdFailure
from updater.agent.plan import Nothing, Update, UpdateOptions, Why
from updater.agent.state import EventKind, SlotState
from updater.agent.store import HintStore
from updater.documents.channel import Instant

OLD, NEW, NEXT = (built(text) for text in ("1.0.0", "1.0.1", "1.0.2"))


class Life:
    """A host with 1.0.1 running and guarded, and 1.0.0 proven in the other slot."""

    def __init__(self, folder: Path) -> None:
        self.host = TwinHost(OLD)
        for one in (OLD, NEW, NEXT):
            self.host.know(one)
        self.machine = FakeMachine(self.host)
        channel = channel_at(reference_to(NEW.release), Instant(START))
        self.server = FakeServer(channel, {str(one.release.version): one for one in (OLD, NEW, NEXT)})
        config = Config(url="http://server", channel="stable")
        store = HintStore(folder / "lib/state.json")
        self.agent = Agent(self.machine, config, store, folder / "run/lock", self.server)
        self.agent.update(UpdateOptions(), Silent())
        assert self.start() == "1.0.1"
        self.agent.bless()

    def start(self) -> str | None:
        """Boot, and let twinhull-boot.service do its work."""
        version = self.machine.power_cycle()
        if version is not None:
            self.agent.book_boot()
        return None if version is None else str(version)

    def well(self) -> str | None:
        """Boot, and become healthy."""
        version = self.start()
        self.agent.bless()
        return version

    def plan(self) -> Update | Nothing:
        decided = self.agent.update(UpdateOptions(), Silent()).plan
        assert isinstance(decided, (Update, Nothing))
        return decided

    @property
    def names(self) -> tuple[str, ...]:
        return self.host.folder.names()

    def told(self, kind: EventKind) -> list[str]:
        return [event.text for event in self.agent.hints().history if event.kind is kind]


@pytest.fixture
def life(tmp_path: Path) -> Life:
    return Life(tmp_path)


def test_a_healthy_boot_gives_a_guarded_entry_its_tries_back(life: Life) -> None:
    assert life.names == ("host_1.0.0.efi", "host_1.0.1+3-6.efi")
    assert life.start() == "1.0.1"
    assert life.names == ("host_1.0.0.efi", "host_1.0.1+2-7.efi")
    life.agent.bless()
    assert life.names == ("host_1.0.0.efi", "host_1.0.1+3-6.efi")


def test_a_proven_slot_that_goes_bad_is_left_after_three_boots_and_written_anew(life: Life) -> None:
    where = life.host.map().b.data
    life.host.disk.corrupt(where.offset_bytes + 77)
    assert [life.start() for _ in range(4)] == [None, None, None, "1.0.0"]
    life.agent.bless()
    assert life.agent.facts().inactive_state is SlotState.GIVEN_UP
    assert "slot b is damaged" in life.told(EventKind.REPAIRED)[-1]
    assert not life.agent.hints().bad
    # What was given up stays so over more boots of the older version, which alone is not counted.
    assert [life.well() for _ in range(4)] == ["1.0.0"] * 4
    assert isinstance(life.plan(), Update)
    assert life.well() == "1.0.1"
    assert life.names == ("host_1.0.0.efi", "host_1.0.1+3-6.efi")


def test_three_boots_without_power_cost_a_proven_version_one_reboot(life: Life) -> None:
    for _ in range(3):
        assert str(life.machine.power_cycle()) == "1.0.1"
    assert life.start() == "1.0.0"
    assert life.names == ("host_1.0.0.efi", "host_1.0.1+3-6.efi")
    life.agent.bless()
    waits = life.plan()
    assert isinstance(waits, Nothing)
    assert waits.why is Why.STAGED
    assert life.well() == "1.0.1"
    assert not life.agent.hints().attempts


def test_a_proven_version_that_hangs_again_and_again_is_bad_in_the_end(life: Life) -> None:
    life.host.dying.add("1.0.1")
    rounds = [[life.start() for _ in range(4)] for _ in range(2)]
    assert rounds == [[None, None, None, "1.0.0"]] * 2
    life.agent.bless()
    assert life.agent.hints().bad_version(Version("1.0.1")) is not None
    waits = life.plan()
    assert isinstance(waits, Nothing)
    assert waits.why is Why.KNOWN_BAD
    assert [life.start() for _ in range(5)] == ["1.0.0"] * 5


def test_a_damaged_newest_uki_is_passed_over_and_restored_from_its_slot(life: Life) -> None:
    life.host.damage_uki("host_1.0.1+3-6.efi")
    assert life.start() == "1.0.0"
    assert life.host.second_boots == 1
    assert "was damaged and is restored from slot b" in life.told(EventKind.REPAIRED)[-1]
    life.agent.bless()
    assert life.well() == "1.0.1"
    assert life.host.second_boots == 1


def test_a_uki_that_is_damaged_beyond_its_copy_ends_on_the_other_slot(life: Life) -> None:
    part = life.host.map().b.data
    life.host.damage_uki("host_1.0.1+3-6.efi")
    life.host.disk.corrupt(part.offset_bytes + part.size_bytes - 2 * 4096 + 1500)
    for _ in range(4):
        assert life.start() == "1.0.0"
        life.agent.bless()
    assert life.agent.facts().inactive_state is SlotState.GIVEN_UP
    assert isinstance(life.plan(), Update)
    assert life.well() == "1.0.1"


def test_an_unreadable_uki_stays_where_it_is_when_its_copy_is_damaged_too(life: Life) -> None:
    part = life.host.map().b.data
    life.host.disk.corrupt(part.offset_bytes + part.size_bytes - 2 * 4096 + 1500)
    for files in (life.host.folder.durable, life.host.folder.current):
        files["host_1.0.1+3-6.efi"] = bytes(512) + files["host_1.0.1+3-6.efi"][512:]
    assert life.start() == "1.0.0"
    assert any(name.startswith("host_1.0.1") for name in life.names)
    assert "the boot partition was not put right" in life.told(EventKind.REPAIRED)[0]


def test_a_uki_that_cannot_be_compared_for_a_moment_condemns_nothing(
    life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    life.server.point_to("1.0.2")
    assert isinstance(life.plan(), Update)
    life.host.damage_uki("host_1.0.2+3-0.efi")
    with monkeypatch.context() as away:
        away.setattr("partitions.kept_uki.read_record", unreadable)
        assert life.start() == "1.0.1"
    assert life.agent.facts().inactive_state is SlotState.TRIAL
    # The next boot can.
    assert life.well() == "1.0.1"
    assert life.well() == "1.0.2"


def unreadable(*_: object, **__: object) -> NoReturn:
    raise BlockIOError("the disk does not answer")


def test_a_lost_sector_of_a_uki_is_damage(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    life.host.damage_uki("host_1.0.1+3-6.efi")
    known = FakeBootFolder.sha256_uncached
    damaged = life.host.folder.current["host_1.0.1+3-6.efi"]

    def read(self: FakeBootFolder, name: str) -> str:
        if self.durable[name] == damaged:
            raise OSError(errno.EIO, "Input/output error", name)
        return known(self, name)

    monkeypatch.setattr(FakeBootFolder, "sha256_uncached", read)
    assert life.start() == "1.0.0"
    assert "was damaged and is restored from slot b" in life.told(EventKind.REPAIRED)[-1]


def test_upkeep_that_fails_keeps_no_boot_from_being_judged(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("updater.agent.upkeep.mends", unreadable)
    monkeypatch.setattr("updater.agent.upkeep.spare_choice", unreadable)
    monkeypatch.setattr("updater.agent.upkeep.Mender.repair_uki", unreadable)
    life.server.point_to("1.0.2")
    assert isinstance(life.plan(), Update)
    life.host.damage_uki("host_1.0.2+3-0.efi")
    assert life.start() == "1.0.1"
    assert life.agent.hints().attempt(Version("1.0.2")).passed_over


def test_a_broken_esp_stops_neither_an_update_nor_the_way_back(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*, writable: bool) -> NoReturn:
        raise OSError(errno.EIO, f"mounting failed (writable: {writable})")

    monkeypatch.setattr(life.host.esp, "mounted", broken)
    life.server.point_to("1.0.2")
    assert isinstance(life.plan(), Update)
    for _ in range(3):
        assert life.start() == "1.0.2"
        assert life.agent.unhealthy("podman does not start", force=False).reboot
    assert life.well() == "1.0.1"


def test_settings_of_the_second_loader_that_cannot_be_written_stop_no_update(
    life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(life.host.folder, "choose_second", unreadable)
    life.server.point_to("1.0.2")
    assert isinstance(life.plan(), Update)
    assert life.well() == "1.0.2"


def test_a_slot_without_a_copy_of_its_uki_is_not_a_damaged_one(life: Life) -> None:
    part = life.host.map().b.data
    # The record of the copy: nobody knows where it is.
    life.host.disk.pwrite(part.offset_bytes + part.size_bytes - 4096, bytes(4096))
    life.host.disk.sync()
    assert life.start() == "1.0.1"
    assert not life.agent.unhealthy("podman does not start", force=False).reboot


def test_a_damaged_uki_of_a_trial_falls_back_by_itself_and_is_restored(life: Life) -> None:
    life.server.point_to("1.0.2")
    assert isinstance(life.plan(), Update)
    life.host.damage_uki("host_1.0.2+3-0.efi")
    assert life.start() == "1.0.1"
    assert life.host.second_boots == 1
    assert life.well() == "1.0.2"


def test_the_only_proven_entry_is_never_counted_while_the_other_slot_is_written(life: Life) -> None:
    life.server.point_to("1.0.2")
    for steps in range(400):
        life.host.power.cut_after(steps)
        try:
            life.plan()
        except PowerCut:
            life.host.cut(keep=False)
            life.host.power.restore()
        else:
            break
        proven = [entry for entry in life.host.entries() if entry.blessed]
        assert any(not entry.guarded for entry in proven) or len(proven) > 1
        assert life.start() in ("1.0.1", "1.0.2")
        life.agent.bless()
        if str(life.host.running.release.version) == "1.0.2":
            break


LOSSES: dict[str, Callable[[dict[str, bytes]], object]] = {
    "its long name": lambda files: files.update({"HOST_1~2.EFI": files.pop("host_1.0.1+2-7.efi")}),
    "its name": lambda files: files.pop("host_1.0.1+2-7.efi"),
    "a foreign name": lambda files: files.update({"linux.efi": files.pop("host_1.0.1+2-7.efi")}),
    "a newer name": lambda files: files.update({"host_99.0.0.efi": files.pop("host_1.0.1+2-7.efi")}),
}


@pytest.mark.parametrize("loss", LOSSES)
def test_a_running_entry_that_lost_its_name_gets_it_back_and_is_blessed(life: Life, loss: str) -> None:
    assert str(life.machine.power_cycle()) == "1.0.1"
    for files in (life.host.folder.durable, life.host.folder.current):
        LOSSES[loss](files)
    life.agent.book_boot()
    life.agent.bless()
    assert life.names == ("host_1.0.0.efi", "host_1.0.1+3-6.efi")
    assert life.told(EventKind.REPAIRED)
    assert life.agent.hints().newest_blessed == Version("1.0.1")


def test_an_old_uki_under_a_new_name_changes_nothing(life: Life) -> None:
    ancient = built("0.9.0")
    life.host.know(ancient)
    for files in (life.host.folder.durable, life.host.folder.current):
        files["host_99.0.0.efi"] = ancient.content(ancient.release.artifacts.uki)
        files["host_98.0.0.efi"] = b"x"
        files["host_97.0.0+3-0.efi"] = b""
    life.agent.book_boot()
    life.agent.bless()
    assert life.names == ("host_1.0.0.efi", "host_1.0.1+3-6.efi")
    life.server.point_to("1.0.2")
    assert isinstance(life.plan(), Update)


def test_an_entry_the_firmware_lost_comes_back_from_its_slot(life: Life) -> None:
    for files in (life.host.folder.durable, life.host.folder.current):
        del files["host_1.0.1+3-6.efi"]
    assert life.start() == "1.0.0"
    assert life.names == ("host_1.0.0.efi", "host_1.0.1+3-6.efi")
    assert life.well() == "1.0.1"


def test_every_name_on_the_disk_is_one_that_is_understood(life: Life) -> None:
    assert all(parse_entry(name) for name in life.names)
    assert not life.agent.facts().strays


def test_a_failure_is_taken_back_by_an_operator_and_tried_at_the_next_reboot(life: Life) -> None:
    life.server.point_to("1.0.2")
    assert isinstance(life.plan(), Update)
    for _ in range(3):
        assert life.start() == "1.0.2"
        assert life.agent.unhealthy("the registry is away", force=False).reboot
    assert life.well() == "1.0.1"
    bad = life.plan()
    assert isinstance(bad, Nothing)
    assert bad.why is Why.KNOWN_BAD
    assert not life.agent.forgive(Version("1.0.0"), "")
    assert life.agent.forgive(Version("1.0.2"), "the registry was away")
    assert life.told(EventKind.FORGIVEN) == ["the registry was away"]
    waits = life.plan()
    assert isinstance(waits, Nothing)
    assert waits.why is Why.STAGED
    assert life.well() == "1.0.2"


def test_an_unhealthy_proven_slot_is_left_at_once_only_when_its_disk_is_damaged(life: Life) -> None:
    assert life.start() == "1.0.1"
    assert not life.agent.unhealthy("unit web.service: it is failed", force=False).reboot
    where = life.host.map().b.data
    life.host.disk.corrupt(where.offset_bytes + 77)
    assert life.agent.unhealthy("podman does not start", force=False).reboot
    assert life.names == ("host_1.0.0.efi", "host_1.0.1+0-9.efi")
    assert life.well() == "1.0.0"
    assert isinstance(life.plan(), Update)


def test_a_proven_version_that_never_reaches_its_checks_is_left_in_the_end() -> None:
    guarded = facts("1.0.1", entry("1.0.0"), entry("1.0.1", 2, 7), other="1.0.0")
    assert trial.hangs(guarded, judged=False, up_s=trial.HANG_S)
    assert not trial.hangs(guarded, judged=False, up_s=trial.HANG_S - 1)
    assert not trial.hangs(guarded, judged=True, up_s=2 * trial.HANG_S)
    alone = facts("1.0.1", entry("1.0.1"))
    assert not trial.hangs(alone, judged=False, up_s=2 * trial.HANG_S)


def test_the_esp_has_a_spare_of_the_version_that_is_not_guarded(life: Life) -> None:
    assert life.start() == "1.0.1"
    assert life.host.esp.names() == ("host_1.0.0.efi",)
    life.agent.bless()
    life.server.point_to("1.0.2")
    assert isinstance(life.plan(), Update)
    assert life.host.esp.names() == ("host_1.0.1.efi",)
    assert life.well() == "1.0.2"
    assert life.host.esp.names() == ("host_1.0.1.efi",)


def test_a_lost_partition_of_ukis_is_started_without_and_filled_again(life: Life) -> None:
    assert life.well() == "1.0.1"
    for files in (life.host.folder.durable, life.host.folder.current):
        files.clear()
    assert life.start() == "1.0.0"
    assert life.names == ("host_1.0.0.efi", "host_1.0.1.efi")
    life.agent.bless()
    assert life.well() == "1.0.1"


@pytest.mark.parametrize("what", ["folder", "esp"])
def test_a_lost_file_system_is_made_anew_and_filled_again(life: Life, what: str) -> None:
    lost: FakeBootFolder = getattr(life.host, what)
    assert life.well() == "1.0.1"
    lost.durable, lost.current, lost.lost = {}, {}, True
    # From the spare when the UKIs are lost.
    assert life.start() == ("1.0.0" if what == "folder" else "1.0.1")
    assert "was lost and is made anew" in life.told(EventKind.REPAIRED)[0]
    assert life.host.esp.names() == ("host_1.0.0.efi",)
    life.agent.bless()
    assert life.well() == "1.0.1"


def test_a_full_esp_stops_no_update(life: Life) -> None:
    life.host.esp.room = 100
    life.server.point_to("1.0.2")
    assert isinstance(life.plan(), Update)
    assert life.host.esp.names() == ()
    assert life.well() == "1.0.2"


def test_what_the_initrd_of_a_new_version_left_behind_condemns_it_at_once(life: Life) -> None:
    life.server.point_to("1.0.2")
    assert isinstance(life.plan(), Update)
    life.host.dying.add("1.0.2")
    for _ in range(3):
        assert life.machine.power_cycle() is None
    life.machine.failure = InitrdFailure(NEXT.release.root_hash, "no driver leads to the disk")
    assert life.start() == "1.0.1"
    bad = life.agent.hints().bad_version(Version("1.0.2"))
    assert bad is not None
    assert (bad.reason, bad.evidence) == ("no driver leads to the disk", ("no driver leads to the disk",))
    assert life.machine.failure is None


def test_what_another_systems_initrd_left_behind_condemns_nothing(life: Life) -> None:
    life.server.point_to("1.0.2")
    assert isinstance(life.plan(), Update)
    life.host.dying.add("1.0.2")
    for _ in range(3):
        assert life.machine.power_cycle() is None
    life.machine.failure = InitrdFailure(OLD.release.root_hash, "of yesterday")
    assert life.start() == "1.0.1"
    assert not life.agent.hints().bad
    assert "of yesterday" in life.told(EventKind.FAILED)[-1]
