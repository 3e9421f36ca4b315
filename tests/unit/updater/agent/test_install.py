"""I1 to I4: the state of the disk after an installation, wherever power is cut and whatever is wrong with the bytes."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from bedrock.errors import TwinhullError
from bedrock.progress import Silent
from partitions.disk import write_identity
from partitions.errors import VerityError
from partitions.layout import identity_of
from partitions.version import Version
from tests.fakes.memory_disk import PowerCut
from tests.fakes.twin_host import BuiltRelease, MemorySource, TwinHost, built, random_uuid
from updater.agent.install import Installation, InstallTarget, install
from updater.errors import FetchError, NoSpaceError, PolicyError, RefusedError

OLD = built("1.0.0")
NEW = built("1.0.1", blocks=11)


def host() -> TwinHost:
    machine = TwinHost(OLD)
    machine.know(NEW)
    machine.disk.journal.clear()
    machine.folder.journal.clear()
    return machine


def target(machine: TwinHost) -> InstallTarget:
    facts = machine.facts()
    return InstallTarget(
        disk=machine.disk,
        slot=machine.map().slot(facts.slot.other),
        running=machine.map().slot(facts.slot),
        boot=machine.folder,
        esp=machine.esp,
        facts=facts,
        tries=3,
        free_uuid=random_uuid,
        steady=lambda: 0.0,
    )


def run(machine: TwinHost, new: BuiltRelease = NEW, source: MemorySource | None = None) -> Installation:
    return install(target(machine), new.release, source or MemorySource(new), Silent())


def assert_only_verified_is_bootable(machine: TwinHost) -> None:
    for name, root_hash in machine.bootable().items():
        assert machine.verified(root_hash), name


def version(text: str) -> Version:
    return Version.from_text(text)


def test_an_installation_boots_the_new_version_as_a_trial() -> None:
    machine = host()
    report = run(machine)
    assert report.written_bytes == sum(
        artifact.size_bytes for artifact in (NEW.release.artifacts.root, NEW.release.artifacts.verity)
    )
    assert machine.folder.names() == ("host_1.0.0.efi", "host_1.0.1+3-0.efi")
    assert machine.boot() == version("1.0.1")
    assert machine.folder.names() == ("host_1.0.0.efi", "host_1.0.1+2-1.efi")


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("torn", [False, True])
def test_a_cut_at_any_step_leaves_the_old_version_or_the_whole_new_one(*, keep: bool, torn: bool) -> None:
    outcomes = []
    for steps in itertools.count():
        machine = host()
        machine.disk.torn = torn
        machine.power.steps = 0
        machine.power.cut_after(steps)
        try:
            run(machine)
        except PowerCut:
            assert machine.power.off
            machine.cut(keep=keep)
            machine.power.restore()
        else:
            break
        assert machine.folder.durable["host_1.0.0.efi"] == OLD.content(OLD.release.artifacts.uki)
        assert machine.verified(OLD.release.root_hash)
        assert_only_verified_is_bootable(machine)
        outcomes.append(str(machine.boot()))
        if outcomes[-1] == "1.0.0":
            run(machine)
            assert machine.boot() == version("1.0.1")
    # The flip is one step: before it the old version, after it the new one, never back and forth.
    assert outcomes == sorted(outcomes)
    assert outcomes[0] == "1.0.0"
    assert len(outcomes) > 20


@pytest.mark.parametrize("keep", [False, True])
def test_a_cut_while_replacing_a_failed_version_never_boots_the_failed_one(*, keep: bool) -> None:
    for steps in itertools.count():
        machine = host()
        run(machine)
        machine.folder.rename("host_1.0.1+3-0.efi", "host_1.0.1+0-3.efi")
        machine.folder.sync()
        third = built("1.0.2")
        machine.know(third)
        machine.power.cut_after(steps)
        try:
            run(machine, third)
        except PowerCut:
            machine.cut(keep=keep)
            machine.power.restore()
        else:
            break
        assert machine.boot() in (version("1.0.0"), version("1.0.2"))


def test_each_step_is_durable_before_the_next() -> None:
    machine = host()
    run(machine)
    assert not machine.disk.pending
    assert machine.folder.journal == [
        ("second", "host_1.0.0"),
        ("sync",),
        ("create", "host_1.0.1+3-0.new"),
        ("sync",),
        ("rename", "host_1.0.1+3-0.new", "host_1.0.1+3-0.efi"),
    ]


def test_the_running_slot_is_never_written() -> None:
    machine = host()
    where = machine.map().a
    run(machine)
    for kind, offset, length in machine.disk.journal:
        for part in (where.data, where.verity):
            end = part.offset_bytes + part.size_bytes
            assert kind == "sync" or offset + length <= part.offset_bytes or offset >= end


def test_a_disk_that_keeps_other_bytes_than_written_is_found_before_anything_boots() -> None:
    machine = host()
    where = machine.map().b
    original = machine.disk.sync

    def forgetful_sync() -> None:
        original()
        if any(offset == where.verity.offset_bytes for _, offset, _ in machine.disk.journal):
            machine.disk.durable[where.data.offset_bytes + 5] ^= 1
            machine.disk._current[where.data.offset_bytes + 5] ^= 1
            machine.disk.sync = original  # type: ignore[method-assign]

    machine.disk.sync = forgetful_sync  # type: ignore[method-assign]
    with pytest.raises(VerityError):
        run(machine)
    assert machine.folder.names() == ("host_1.0.0.efi",)
    assert machine.map().b.data.label == "_empty"
    assert machine.boot() == version("1.0.0")


@pytest.mark.parametrize("which", ["root", "verity", "uki"])
@pytest.mark.parametrize("how", ["flipped", "shorter", "longer"])
def test_wrong_bytes_are_refused_and_nothing_new_is_bootable(which: str, how: str) -> None:
    machine = host()
    artifact = getattr(NEW.release.artifacts, which)
    content = NEW.content(artifact)
    damaged = {
        "flipped": content[:100] + bytes([content[100] ^ 1]) + content[101:],
        "shorter": content[:-1],
        "longer": content + b"\0",
    }[how]
    with pytest.raises(TwinhullError) as caught:
        run(machine, source=MemorySource(NEW, damage={artifact.sha256: damaged}))
    assert caught.value.exit_code == 3
    assert [entry.file_name for entry in machine.entries()] == ["host_1.0.0.efi"]
    assert machine.boot() == version("1.0.0")


def test_a_wrong_root_hash_is_refused() -> None:
    machine = host()
    wrong = replace(NEW.release, root_hash="ab" * 32)
    with pytest.raises(VerityError):
        install(target(machine), wrong, MemorySource(NEW), Silent())
    assert machine.boot() == version("1.0.0")


def test_a_tree_over_fewer_blocks_than_signed_is_refused() -> None:
    machine = host()
    small = built("1.0.1", blocks=7)
    padded = small.content(small.release.artifacts.root) + bytes(4096)
    root = replace(small.release.artifacts.root, size_bytes=len(padded))
    release = replace(small.release, artifacts=replace(small.release.artifacts, root=root))
    with pytest.raises(RefusedError, match="covers 7 blocks"):
        install(target(machine), release, MemorySource(small, damage={root.sha256: padded}), Silent())
    assert machine.boot() == version("1.0.0")


def test_a_boot_entry_that_reads_back_wrong_is_not_flipped() -> None:
    machine = host()
    machine.folder.corrupt_on_disk.add("host_1.0.1+3-0.new")
    with pytest.raises(RefusedError, match="the disk holds"):
        run(machine)
    assert [entry.file_name for entry in machine.entries()] == ["host_1.0.0.efi"]


@pytest.mark.parametrize("which", ["root", "verity", "uki"])
def test_a_server_gone_in_the_middle_leaves_the_old_version_and_a_second_run_completes(which: str) -> None:
    machine = host()
    artifact = getattr(NEW.release.artifacts, which)
    with pytest.raises(FetchError):
        run(machine, source=MemorySource(NEW, break_at={artifact.sha256: artifact.size_bytes // 2 // 5000 * 5000}))
    assert_only_verified_is_bootable(machine)
    assert machine.boot() == version("1.0.0")
    run(machine)
    assert machine.boot() == version("1.0.1")


def test_an_unblessed_running_slot_is_not_updated() -> None:
    machine = host()
    machine.folder.rename("host_1.0.0.efi", "host_1.0.0+2-1.efi")
    machine.disk.journal.clear()
    with pytest.raises(PolicyError, match="not blessed"):
        run(machine)
    assert not machine.disk.journal


def test_the_running_slot_is_refused_as_a_target() -> None:
    machine = host()
    wrong = replace(target(machine), slot=machine.map().a)
    with pytest.raises(PolicyError, match="never written"):
        install(wrong, NEW.release, MemorySource(NEW), Silent())


def test_the_running_version_is_refused() -> None:
    with pytest.raises(PolicyError, match="running already"):
        run(host(), OLD)


def test_a_release_with_the_identity_of_the_running_slot_is_refused() -> None:
    twin = replace(NEW.release, root_hash=OLD.release.root_hash)
    with pytest.raises(PolicyError, match="identity"):
        install(target(host()), twin, MemorySource(NEW), Silent())


def test_a_slot_that_is_too_small_is_told_before_anything_changes() -> None:
    machine = host()
    big = built("1.0.1", blocks=64)
    with pytest.raises(NoSpaceError, match="root partition"):
        run(machine, big)
    assert not machine.disk.journal
    assert not machine.folder.journal


def test_a_full_boot_partition_is_told_before_anything_changes() -> None:
    machine = host()
    machine.folder.room = 1 << 20
    with pytest.raises(NoSpaceError, match="boot partition"):
        run(machine)
    assert not machine.disk.journal
    assert not machine.folder.journal


def test_room_taken_by_the_entry_to_be_replaced_counts_as_free() -> None:
    machine = host()
    run(machine)
    machine.folder.room = (1 << 20) + sum(machine.folder.size_bytes(name) for name in machine.folder.names())
    third = built("1.0.2")
    machine.know(third)
    run(machine, third)
    assert machine.boot() == version("1.0.2")


def test_a_leftover_of_the_running_version_may_share_its_clusters_and_stays() -> None:
    machine = host()
    with machine.folder.create("host_1.0.0+3-0.new") as sink:
        sink.write(b"shared")
    with machine.folder.create("host_0.9.0+3-0.new") as sink:
        sink.write(b"old")
    run(machine)
    assert "host_1.0.0+3-0.new" in machine.folder.names()
    assert "host_0.9.0+3-0.new" not in machine.folder.names()


def test_files_that_are_not_ours_are_left_alone() -> None:
    machine = host()
    with machine.folder.create("memtest.efi") as sink:
        sink.write(b"foreign")
    run(machine)
    assert "memtest.efi" in machine.folder.names()


def test_a_half_identity_is_not_taken_for_a_written_slot() -> None:
    machine = host()
    run(machine)
    where = machine.map().b
    write_identity(machine.disk, where.data_index, uuid=random_uuid(), label="_empty")
    assert machine.map().b.verity.uuid == identity_of(NEW.release.root_hash).verity_uuid
    machine.folder.remove("host_1.0.1+3-0.efi")
    run(machine)
    assert machine.boot() == version("1.0.1")
