"""One host against servers that lie, servers that vanish, and its own disk going bad.

The tests stand in order: first everything that must be refused, each on the same untouched host, then the honest update
that still works, then the damage.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from disks import BLOCK, flip_bit
from hosts import Host, host_config, machine_folder, updater_credential
from update_server import UpdateServer, running
from workbench import FIRST, IMAGE, OUT, SECOND, ScenarioRepository, Workbench

from imagebuild.inputs.tools import Access
from imagebuild.vm.machine import VirtualMachine
from imagebuild.vm.waiting import wait_for
from keys.roles import TufRole
from tests.fakes.forgery import own_keys, resign, strangers_key
from updater.documents.release import parse_release

REFUSED = 3
FAILED = 1
OBJECT_BREAKS_AT = 4 << 20
STOP_WITHIN_S = 2.0
UPTIME = "cut -d ' ' -f 1 /proc/uptime"
# Each command starts the agent's interpreter, which takes seconds in an emulated machine.
QUICK_S = 60.0
# A file that nothing reads before a container starts.
VICTIM = "/usr/lib/podman/netavark"


@dataclass(frozen=True)
class Case:
    """A host, its server and the honest repository."""

    bench: Workbench
    host: Host
    server: UpdateServer
    honest: ScenarioRepository


@pytest.fixture(scope="module")
def case(bench: Workbench) -> Iterator[Case]:
    honest = bench.repository("honest", FIRST, SECOND)
    with running(UpdateServer(honest.base)) as server:
        # `enabled: false` stops the daemon; `updater update` by hand still works.
        config = host_config(bench, bench.disk(FIRST), updater_credential(server.guest_url, enabled=False))
        accelerator = bench.finding.accelerator
        machine = VirtualMachine(config, tools=bench.tools, accelerator=accelerator, folder=machine_folder("refusals"))
        with machine:
            host = Host(machine)
            host.wait_boot()
            host.wait_settled()
            honest.copy("before")
            honest.point(SECOND)
            yield Case(bench, host, server, honest)


def slot_b(host: Host) -> str:
    """What names slot B's partitions, and a hash over the start of what is in them."""
    names = host.text("lsblk -rno PARTUUID,PARTLABEL /dev/vda5 /dev/vda6")
    return names + host.text("for part in /dev/vda5 /dev/vda6; do head -c 1M $part | sha256sum; done")


def assert_only_the_running_version_can_boot(host: Host) -> dict[str, Any]:
    status = host.status()
    assert status["version"] == FIRST
    assert status["entries"] == [f"{IMAGE}_{FIRST}.efi"]
    return status


def test_metadata_that_has_expired_is_refused(case: Case) -> None:
    forged = case.honest.copy("expired")

    def expire(signed: Any) -> None:
        signed.version += 1
        signed.expires = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)

    keys = own_keys(forged.workshop, TufRole.TIMESTAMP)
    resign(forged.workshop, TufRole.TIMESTAMP, keys, change=expire)
    refuse_untouched(case, forged, "expired")


@pytest.mark.parametrize("role", [TufRole.TIMESTAMP, TufRole.CHANNELS, TufRole.RELEASES])
def test_metadata_signed_with_a_key_nobody_trusts_is_refused(case: Case, role: TufRole) -> None:
    forged = case.honest.copy(f"strangers-{role.value}")

    def newer(signed: Any) -> None:
        signed.version += 1

    resign(forged.workshop, role, [strangers_key()], change=newer)
    refuse_untouched(case, forged, "sign")


def test_an_older_state_of_the_repository_is_not_gone_back_to(case: Case) -> None:
    assert case.host.run("updater check").exit_code == 0
    before, seen = slot_b(case.host), len(case.server.requests)
    case.server.serve(OUT / "repositories" / "before" / "repo")
    try:
        # What the host saw before still counts, and the older repository does not have it.
        answer = case.host.update()
    finally:
        case.server.serve(case.honest.base)
    assert case.server.asked_for("timestamp.json", since=seen), "the host never asked"
    assert answer.exit_code == FAILED, answer.output
    assert "older metadata than this host has seen" in case.host.status()["poll"]["reason"]
    assert slot_b(case.host) == before
    assert assert_only_the_running_version_can_boot(case.host)["inactive"]["state"] == "empty"


def refuse_untouched(case: Case, forged: ScenarioRepository, word: str) -> None:
    """The host asks this repository, refuses with a reason, and has not touched slot B.

    Afterwards it forgets what it saw: a forgery can hold newer, well signed metadata next to what is forged, and the
    host would then rightly refuse the honest, older state.
    """
    before = slot_b(case.host)
    seen = len(case.server.requests)
    case.server.serve(forged.base)
    try:
        answer = case.host.update()
    finally:
        case.server.serve(case.honest.base)
    case.host.text("rm -rf /var/lib/twinhull/tuf")
    assert case.server.asked_for("timestamp.json", since=seen), "the host never asked"
    assert answer.exit_code == REFUSED, answer.output
    assert word in answer.output.lower()
    assert slot_b(case.host) == before
    assert assert_only_the_running_version_can_boot(case.host)["inactive"]["state"] == "empty"


def test_an_object_with_one_flipped_bit_is_refused(case: Case) -> None:
    forged = case.honest.copy("tampered")
    path = stored_root(forged)
    flip_bit(path, path.stat().st_size // 2)
    before, seen = slot_b(case.host), len(case.server.requests)
    case.server.serve(forged.base)
    try:
        answer = case.host.update()
    finally:
        case.server.serve(case.honest.base)
    assert case.server.asked_for(path.name, since=seen), "the host never fetched the object"
    assert answer.exit_code == REFUSED, answer.output
    assert slot_b(case.host) == before
    assert_only_the_running_version_can_boot(case.host)


def test_a_server_that_vanishes_in_the_middle_costs_nothing(case: Case) -> None:
    before = slot_b(case.host)
    case.server.vanish_when_broken_off = True
    case.server.breaks.append(OBJECT_BREAKS_AT)
    try:
        answer = case.host.update()
    finally:
        case.server.vanish_when_broken_off = False
        case.server.breaks.clear()
        case.server.gone.clear()
    assert case.server.broken_off > 1, "the server never broke off"
    assert answer.exit_code == FAILED, answer.output
    assert slot_b(case.host) == before
    assert_only_the_running_version_can_boot(case.host)


def test_an_update_that_is_stopped_ends_at_once(case: Case) -> None:
    case.server.stalls.set()
    try:
        case.host.text("systemd-run --quiet --unit=stalled updater update --no-reboot")
        wait_for(lambda: case.server.stalled.is_set() or None, what="the stalled transfer", timeout_s=300)
        # What an operator may want meanwhile does not wait for it.
        began = time.monotonic()
        case.host.text("updater hold --reason now && updater release-hold && updater status")
        assert time.monotonic() - began < QUICK_S
        took = case.host.text(f"{UPTIME}; systemctl stop stalled; {UPTIME}").split()
    finally:
        case.host.run("systemctl stop stalled")
        case.server.stalls.clear()
    assert float(took[-1]) - float(took[0]) < STOP_WITHIN_S, took
    assert case.host.run("pgrep -f lib/twinhull/bin/transfer").exit_code != 0, "the network side goes on"


def test_an_honest_update_meets_a_reader_a_second_update_and_a_broken_connection(case: Case) -> None:
    seen, broken = len(case.server.requests), case.server.broken_off
    case.server.breaks += [OBJECT_BREAKS_AT]
    # Somebody looks at the boot partition, as `updater status` does: mount(8) must not hand us a read-only one then.
    case.host.text("mkdir -p /run/reader && mount --read-only -t vfat /dev/vda2 /run/reader")
    case.host.text("systemd-run --quiet --unit=first-update updater update --no-reboot")
    case.host.text("while flock --nonblock /run/twinhull/update.lock true; do sleep 0.2; done")
    second = case.host.run("updater update --no-reboot")
    assert second.exit_code == FAILED, second.output
    assert "running" in second.output
    # Everything has been downloaded when the boot entries are locked.
    case.host.text("while flock --nonblock /run/twinhull/lock true; do sleep 0.2; done", timeout_s=600)
    case.host.text("sleep 5")
    assert case.host.status()["inactive"]["state"] == "empty", "the writer did not wait for the reader"
    case.host.text("umount /run/reader")
    case.host.text("while systemctl is-active -q first-update; do sleep 1; done", timeout_s=600)
    log = case.host.text("journalctl --no-pager -o cat -u first-update")
    assert case.server.broken_off == broken + 1, "the server never broke off"
    ranges = [request.range or "" for request in case.server.asked_for("/objects/", since=seen)]
    assert any(wanted and not wanted.startswith("bytes=0-") for wanted in ranges), log
    status = case.host.status()
    assert status["inactive"] == {"slot": "b", "state": "staged", "version": SECOND}, log
    assert status["entries"] == [f"{IMAGE}_{FIRST}.efi", f"{IMAGE}_{SECOND}+2-0.efi"]


def test_a_flipped_block_of_the_running_slot_is_detected(case: Case) -> None:
    block = block_of(case, VICTIM)
    read_block = f"dd if=/dev/vda3 bs={BLOCK} skip={block} count=1 iflag=direct status=none"
    read_file = f"sync; echo 3 > /proc/sys/vm/drop_caches; cat {VICTIM} > /dev/null"
    case.host.text(read_file)
    before = case.host.text(f"{read_block} | sha256sum")
    case.host.text(
        f"{read_block} of=/run/block; byte=$(head -c 1 /run/block | od -An -tu1); "
        'printf "\\\\$(printf %o $((byte ^ 1)))" | dd of=/run/block bs=1 conv=notrunc status=none; '
        # Whoever wants to can take the locks away.
        f"updater open-disk; blockdev --setrw /dev/vda3; "
        f"dd if=/run/block of=/dev/vda3 bs={BLOCK} seek={block} conv=notrunc oflag=direct status=none; "
        f"blockdev --setro /dev/vda3"
    )
    assert case.host.text(f"{read_block} | sha256sum") != before, "the block was not flipped"
    answer = case.host.run(read_file)
    assert answer.exit_code != 0
    assert "Input/output error" in answer.output
    assert f"data block {block} is corrupted" in case.host.text("journalctl --no-pager -k -o cat")


def block_of(case: Case, path: str) -> int:
    """The number of a block of the data partition that holds the middle of a file's first extent."""
    build = case.bench.build(FIRST).resolve()
    words: list[str | Path] = ["dump.erofs", f"--path={path}", "-e", build / "root.erofs"]
    said = case.bench.tools.run(words, Access(read=(build,)), timeout_s=60).stdout
    extent = re.search(r"^ +0: +0\.\. *(\d+) \| +\d+ : +(\d+)\.\.", said, re.MULTILINE)
    assert extent is not None, said
    return (int(extent[2]) + int(extent[1]) // 2) // BLOCK


def stored_root(repository: ScenarioRepository) -> Path:
    """The file that carries the root filesystem of the channel's release."""
    (document,) = (
        path for path in (repository.base / "targets/releases" / IMAGE / SECOND).iterdir() if path.suffix == ".json"
    )
    (stored,) = parse_release(document.read_bytes(), source=document.name).artifacts.root.objects
    return repository.base / stored.path
