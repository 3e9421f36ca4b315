"""One host with a TPM, from its first boot through two good updates and a bad one, all by itself.

The tests stand in the order of the host's life, and each starts where the one before it ended.
"""

from __future__ import annotations

import base64
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from disks import flip_bit
from hosts import Host, host_config, machine_folder, read_json, updater_credential
from update_server import UpdateServer, running
from workbench import FIRST, IMAGE, SECOND, SICK, SICK_REASON, THIRD, ScenarioRepository, Workbench

from bedrock import process
from bedrock.progress import Silent
from imagebuild.inspection.contents import EntryKind
from imagebuild.inspection.record import read_contents
from imagebuild.trim.keeping import load_keep_list
from imagebuild.trim.recording import Recorder
from imagebuild.vm.machine import VirtualMachine
from imagebuild.vm.waiting import wait_for
from keys.keyring import Keyring
from keys.passphrase import NoPassphrase
from keys.roles import TufRole
from keys.secureboot.pe import authenticode_digest
from keys.secureboot.siglist import DATABASE_GUID, BootVariable, hashes_of, parse_lists
from tests.fakes.builds import Publisher
from updater.documents.release import parse_release
from updater.repository.access import KeyAccess

POLLS_UNTIL_SURE = 3
POLL_TIMEOUT_S = 300
LIFE_TIMEOUT_S = 900
# What a shell answers when a program may not be started.
NOT_EXECUTABLE = 126
SETTINGS_AT_LEAST = 20
DBX = f"/sys/firmware/efi/efivars/{BootVariable.DBX.value}-{DATABASE_GUID}"
ATTRIBUTES_BYTES = 4
PROGRAM_TIMEOUT_S = 120
# By `systemd-analyze security`; 9.6 is a unit without any restriction.
MOST_EXPOSURE = 2.9
LEAST_UNITS = 8


@dataclass
class Life:
    """A host, its server and its repository."""

    bench: Workbench
    host: Host
    server: UpdateServer
    repository: ScenarioRepository


@pytest.fixture(scope="module")
def life(bench: Workbench) -> Iterator[Life]:
    repository = bench.repository("life", FIRST, SECOND, THIRD, SICK)
    with running(UpdateServer(repository.base)) as server:
        # The daemon polls all the time; what it finds is what the channel names.
        credential = updater_credential(server.guest_url, poll_interval="5s")
        config = replace(host_config(bench, bench.disk(FIRST), credential), tpm=True)
        accelerator = bench.finding.accelerator
        machine = VirtualMachine(config, tools=bench.tools, accelerator=accelerator, folder=machine_folder("life"))
        with machine:
            yield Life(bench, Host(machine), server, repository)


@pytest.fixture(scope="module")
def first(life: Life) -> dict[str, Any]:
    """The status after the first boot has settled."""
    life.host.wait_boot()
    return life.host.wait_settled()


def twinhull(*words: str | Path) -> str:
    """Run the program as somebody types it."""
    program = Path(sys.executable).with_name("twinhull")
    return process.run((program, *words), timeout_s=PROGRAM_TIMEOUT_S).stdout


def key_ids(keyring: Keyring) -> set[str]:
    """The keys of all roles."""
    return {key.keyid for role in TufRole for key in keyring.role(role).keys}


def history(life: Life) -> list[str]:
    """The texts of what happened on the host."""
    return [event["text"] for event in read_json(life.host.text("updater history --json"))]


def settled_in(life: Life, version: str) -> dict[str, Any]:
    """Wait until the host runs a version and has blessed it."""
    wanted = life.host.wait_status
    return wanted(lambda status: status["version"] == version and status["blessed"], timeout_s=LIFE_TIMEOUT_S)


def test_the_first_boot_runs_the_image_from_slot_a(life: Life, first: dict[str, Any]) -> None:
    release = parse_release((life.bench.build(FIRST) / "release.json").read_bytes(), source="release.json")
    assert (first["image"], first["version"], first["slot"]) == (IMAGE, FIRST, "a")
    assert first["root_hash"] == release.root_hash
    assert first["inactive"] == {"slot": "b", "state": "empty", "version": None}
    assert first["bad"] == []


def test_secure_boot_is_on(life: Life, first: dict[str, Any]) -> None:
    assert first["secure_boot"] is True


def test_the_root_is_read_only_and_under_verity(life: Life, first: dict[str, Any]) -> None:
    assert life.host.text("findmnt -no FSTYPE /") == "erofs"
    assert life.host.run("touch /usr/x").exit_code != 0
    assert life.host.text("cat /sys/dev/block/$(mountpoint -d /)/dm/uuid").startswith("CRYPT-VERITY-")


def test_var_is_made_and_fills_the_disk(life: Life, first: dict[str, Any]) -> None:
    assert life.host.text("findmnt -no FSTYPE /var") == "ext4"
    assert life.host.text("lsblk -no PARTLABEL $(findmnt -no SOURCE /var)") == "var"
    size = int(life.host.text("findmnt -bno SIZE /var"))
    partition = int(life.host.text("lsblk -bno SIZE $(findmnt -no SOURCE /var)"))
    assert size > 0.9 * partition
    assert partition > 1 << 30


def test_etc_is_an_overlay_that_takes_the_host_s_edits(life: Life, first: dict[str, Any]) -> None:
    assert life.host.text("findmnt -no FSTYPE /etc") == "overlay"
    life.host.text("echo kept >/etc/twinhull-test && echo lost >/etc/not-listed")
    told = life.host.text("updater etc-diff").splitlines()
    assert "added    /etc/twinhull-test" in told
    assert "added    /etc/not-listed  (lost at the next boot)" in told


def test_file_systems_take_no_setuid_programs_or_devices(life: Life, first: dict[str, Any]) -> None:
    wanted = {
        "/": {"ro", "nosuid", "nodev"},
        "/etc": {"nosuid", "nodev"},
        "/var": {"nosuid", "nodev"},
        "/run": {"nosuid", "nodev", "noexec"},
        "/dev/shm": {"nosuid", "nodev", "noexec"},  # noqa: S108 - the guest's
        "/tmp": {"nosuid", "nodev", "noexec"},  # noqa: S108 - the guest's
    }
    for place, options in wanted.items():
        assert options <= set(life.host.text(f"findmnt -no OPTIONS {place}").split(",")), place
    for place in ("/run", "/dev/shm", "/tmp"):  # noqa: S108 - the guest's
        script = f"cp /usr/bin/true {place}/x && {place}/x; code=$?; rm {place}/x; exit $code"
        assert life.host.run(script).exit_code == NOT_EXECUTABLE, place


def test_kernel_settings_are_as_the_image_says(life: Life, first: dict[str, Any]) -> None:
    text = life.host.text("cat /usr/lib/sysctl.d/60-twinhull.conf")
    lines = (line.lstrip("-").split(" = ") for line in text.splitlines() if line and not line.startswith("#"))
    # Debian leaves rp_filter of `all` alone: the higher of it and of an interface counts.
    wanted = {key.replace(".conf.*.", ".conf.eth0."): value for key, value in lines}
    assert len(wanted) > SETTINGS_AT_LEAST
    card = life.host.text("ls /sys/class/net | grep -v '^lo$' | head -n 1")
    for key, value in wanted.items():
        path = key.replace(".", "/").replace("/eth0/", f"/{card}/")
        assert life.host.text(f"cat /proc/sys/{path}") == value, key


def test_the_kernel_is_locked_down_and_apparmor_is_on(life: Life, first: dict[str, Any]) -> None:
    assert "[integrity]" in life.host.text("cat /sys/kernel/security/lockdown")
    assert life.host.text("cat /sys/module/module/parameters/sig_enforce") == "Y"
    assert life.host.text("podman info --format '{{.Host.Security.AppArmorEnabled}}'") == "true"


def test_no_program_is_setuid(life: Life, first: dict[str, Any]) -> None:
    assert life.host.text("find / -xdev -type f -perm /6000") == ""
    # Such a search finds one that is there.
    life.host.text("cp /usr/bin/true /var/tmp/x && chmod 4755 /var/tmp/x")
    assert life.host.text("find /var/tmp -xdev -type f -perm /6000; rm /var/tmp/x") == "/var/tmp/x"  # noqa: S108 - the guest's


def test_no_unit_failed(life: Life, first: dict[str, Any]) -> None:
    assert life.host.text("systemctl --failed --no-legend --plain") == ""


def test_the_image_holds_no_python_no_package_manager_and_no_ssh(life: Life, first: dict[str, Any]) -> None:
    for name in ("python3", "apt-get", "dpkg", "gcc", "sshd", "perl"):
        assert life.host.run(f"command -v {name}").exit_code != 0, name


def test_nobody_listens_on_the_network(life: Life, first: dict[str, Any]) -> None:
    assert life.host.text("ss -Htln 'not ( src 127.0.0.0/8 or src [::1] )'") == ""


def test_podman_answers(life: Life, first: dict[str, Any]) -> None:
    assert life.host.text("podman info --format '{{.Host.OCIRuntime.Name}}'") == "crun"


def test_what_the_host_touched_is_recorded_and_asking_touches_nothing(life: Life, first: dict[str, Any]) -> None:
    contents = read_contents(life.bench.build(FIRST))
    fincore = (life.bench.tools.root / "usr/bin/fincore").read_bytes()
    recorder = Recorder(life.host.machine.shell, fincore, Silent())
    # Raises when a file that is read stays unseen, or one that is not read is seen.
    recorder.prove(contents, load_keep_list())
    touched = recorder.touched
    assert {"/usr/bin/podman", "/usr/bin/crun", "/usr/lib/systemd/systemd-journald"} <= touched.files
    assert {"erofs", "dm_verity", "overlay"} <= touched.modules
    files = {entry.path for entry in contents.entries if entry.kind is EntryKind.FILE}
    assert touched.files <= files
    assert len(touched.files) < len(files) / 2


def test_a_host_that_is_up_to_date_says_so(life: Life, first: dict[str, Any]) -> None:
    answer = life.host.run("updater check --json 2>/dev/null")
    assert answer.exit_code == 4
    assert read_json(answer.output)["why"] == "up-to-date"


def test_an_update_goes_to_slot_b_and_is_blessed(life: Life, first: dict[str, Any]) -> None:
    life.repository.point(SECOND)
    life.host.wait_reboot()
    status = settled_in(life, SECOND)
    assert status["slot"] == "b"
    assert status["inactive"]["version"] == FIRST
    assert life.host.text("cat /usr/share/twinhull-test/version") == SECOND
    assert life.host.text("cat /etc/twinhull-test") == "kept"
    assert life.host.run("test -e /etc/not-listed").exit_code != 0


def test_the_agent_s_units_have_few_rights(life: Life, first: dict[str, Any]) -> None:
    units = life.host.text("cd /usr/lib/systemd/system && ls -d twinhull-*.service").split()
    assert len(units) >= LEAST_UNITS
    names = " ".join(unit.replace("@.", "@0.") for unit in units)
    rated = life.host.text(f"for unit in {names}; do systemd-analyze security --no-pager $unit | tail -n 1; done")
    found = {unit: float(level) for unit, level in re.findall(r"for (\S+): ([0-9.]+)", rated)}
    assert len(found) == len(units), rated
    assert max(found.values()) <= MOST_EXPOSURE, found


def test_every_role_s_keys_are_exchanged(life: Life) -> None:
    before = life.repository.workshop
    keys = before.folder / "new-keys"
    shutil.copytree(before.access.keyring.folder, keys)
    for role in TufRole:
        twinhull("keys", "rotate", keys, role.value, "--no-passphrase")
    twinhull("repo", "refresh", before.base, "--keys", keys)
    for keyid in sorted(key_ids(before.access.keyring)):
        twinhull("keys", "revoke", keys, keyid)
    twinhull("repo", "refresh", before.base, "--keys", keys)
    after = Keyring.load(keys)
    old, new = (
        {key.keyid for role in TufRole for key in ring.role(role).keys} for ring in (before.access.keyring, after)
    )
    assert not old & new
    twinhull("repo", "verify", before.base)
    life.repository = ScenarioRepository(Publisher(before.folder, KeyAccess(after, NoPassphrase())))
    seen = len(life.server.requests)
    wait_for(
        lambda: life.server.asked_for("timestamp.json", since=seen) or None, what="a poll", timeout_s=POLL_TIMEOUT_S
    )
    life.host.wait_status(lambda status: status["poll"]["result"] == "ok", timeout_s=POLL_TIMEOUT_S)
    roots = life.host.text("ls /var/lib/twinhull/tuf/root_history").split()
    assert len(roots) > 1, "the host has followed no new root"


def test_a_server_that_sends_something_else_costs_nothing_of_the_other_slot(life: Life) -> None:
    (document,) = (life.repository.base / "targets/releases" / IMAGE / THIRD).glob("*.json")
    (stored,) = parse_release(document.read_bytes(), source=document.name).artifacts.root.objects
    path = life.repository.base / stored.path
    middle = stored.size_bytes // 2
    seen = len(life.server.requests)
    flip_bit(path, middle)
    try:
        life.repository.point(THIRD)
        failed = life.host.wait_status(
            lambda _: any(stored.path in line for line in history(life)), timeout_s=LIFE_TIMEOUT_S
        )
    finally:
        flip_bit(path, middle)
    assert life.server.asked_for(path.name, since=seen), "the host never fetched the object"
    # The way back is whole: bootable, and every byte of it.
    assert failed["inactive"] == {"slot": "a", "state": "blessed", "version": FIRST}
    assert f"{IMAGE}_{FIRST}.efi" in failed["entries"]
    root = parse_release((life.bench.build(FIRST) / "release.json").read_bytes(), source="first").artifacts.root
    assert life.host.text(f"head -c {root.size_bytes} /dev/vda3 | sha256sum").split()[0] == root.sha256


def test_the_next_update_goes_back_to_slot_a(life: Life) -> None:
    life.host.wait_reboot()
    status = settled_in(life, THIRD)
    assert status["slot"] == "a"
    assert status["inactive"]["version"] == SECOND
    assert status["entries"] == [f"{IMAGE}_{SECOND}.efi", f"{IMAGE}_{THIRD}+3-6.efi"]


def test_what_is_revoked_reaches_the_firmware(life: Life) -> None:
    keys = life.repository.workshop.access.keyring.folder
    reason = "a hole in the first version"
    twinhull("keys", "revoke-boot", life.repository.base, f"{IMAGE}/{FIRST}", "--reason", reason, "--keys", keys)
    life.host.wait_status(lambda _: any(reason in line for line in history(life)), timeout_s=POLL_TIMEOUT_S)
    assert f"appended: {IMAGE} {FIRST}: {reason}" in history(life)
    content = base64.b64decode(life.host.text(f"base64 -w0 {DBX}"))
    digest = authenticode_digest(life.bench.build(FIRST) / "uki.efi")
    assert digest in hashes_of(parse_lists(content[ATTRIBUTES_BYTES:]))


def test_a_version_that_is_not_healthy_gives_way_to_the_one_before(life: Life) -> None:
    life.repository.point(SICK)
    life.host.wait_reboot()
    # The shell comes up in the sick version too: this is the proof that it was booted.
    ran = life.host.run("cat /usr/share/twinhull-test/version")
    assert ran.output.strip() == SICK
    wanted = life.host.wait_status
    status = wanted(lambda status: status["version"] == THIRD and bool(status["bad"]), timeout_s=LIFE_TIMEOUT_S)
    assert status["slot"] == "a"
    (bad,) = status["bad"]
    assert bad["version"] == SICK
    assert SICK_REASON in bad["reason"]


def test_the_bad_version_is_not_tried_again(life: Life) -> None:
    boot = life.host.machine.shell.boot_id
    seen = len(life.server.requests)

    def polled() -> bool | None:
        return len(life.server.asked_for("timestamp.json", since=seen)) >= POLLS_UNTIL_SURE or None

    wait_for(polled, what="the daemon's next polls", timeout_s=POLL_TIMEOUT_S)
    assert life.server.asked_for("/objects/", since=seen) == []
    answer = life.host.run("updater check --json 2>/dev/null")
    assert answer.exit_code == 4
    assert read_json(answer.output)["why"] == "known-bad"
    assert life.host.run("updater update").exit_code == 1
    assert life.host.machine.shell.boot_id == boot
    assert life.host.status()["version"] == THIRD
