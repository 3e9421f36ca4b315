"""What becomes of `/var` and of the host's state at a boot, damaged ones among them: the host boots in any case."""

from __future__ import annotations

import pytest

from imagebuild.definition.reset import ResetPolicy
from imagebuild.definition.storage import OnDamage, VarPolicy, baked_storage
from tests.fakes.played_initrd import STATE, VAR, PlayedInitrd

IN_MEMORY = "-t tmpfs -o nodev,nosuid,mode=0755 tmpfs /sysroot/var"
PLACE = "/sysroot/var/lib/twinhull"


def assert_handed_over(machine: PlayedInitrd) -> None:
    assert "switch_root" in machine.calls[-1]
    assert machine.calls_of("reboot") == []


def notes(machine: PlayedInitrd) -> list[str]:
    """What the host is told of this boot; each was also said loudly."""
    path = machine.root / "run/twinhull/storage"
    lines = path.read_text().splitlines() if path.exists() else []
    for line in lines:
        what, done, why = line.split(" ", 2)
        assert f"twinhull: {what}: {done}: {why}" in machine.said
    return lines


def e2fsck(machine: PlayedInitrd, number: int, *, preen: int, repair: int) -> None:
    """e2fsck ends with these codes on one partition."""
    device = machine.device(number)
    machine.plays["e2fsck"] = f'case "$*" in "-p {device}") exit {preen} ;; "-y {device}") exit {repair} ;; esac'


def of(number: int, machine: PlayedInitrd) -> tuple[str, str, str]:
    """A partition's device, what it is, and where it is mounted."""
    return machine.device(number), "state" if number == STATE else "var", PLACE if number == STATE else "/sysroot/var"


@pytest.mark.parametrize("number", [STATE, VAR])
@pytest.mark.parametrize("code", [0, 1])
def test_what_was_right_or_was_repaired_at_once_is_used(machine: PlayedInitrd, number: int, code: int) -> None:
    device, _, place = of(number, machine)
    e2fsck(machine, number, preen=code, repair=99)
    machine.boot()
    assert f"-t ext4 -o nodev,nosuid {device} {place}" in machine.calls_of("mount")
    assert notes(machine) == []
    assert_handed_over(machine)


@pytest.mark.parametrize("number", [STATE, VAR])
@pytest.mark.parametrize("code", [2, 4, 8, 12])
def test_what_e2fsck_gives_up_on_is_repaired_and_the_host_says_so(
    machine: PlayedInitrd, number: int, code: int
) -> None:
    device, what, place = of(number, machine)
    e2fsck(machine, number, preen=code, repair=1)
    machine.boot()
    assert f"-t ext4 -o nodev,nosuid {device} {place}" in machine.calls_of("mount")
    assert notes(machine) == [f"{what} repaired {device} had errors, which e2fsck -y corrected"]
    assert machine.calls_of("mkfs.ext4") == []
    assert_handed_over(machine)


def test_a_var_that_cannot_be_repaired_is_left_alone_and_replaced_by_memory(machine: PlayedInitrd) -> None:
    var = machine.device(VAR)
    e2fsck(machine, VAR, preen=8, repair=8)
    machine.boot()
    assert IN_MEMORY in machine.calls_of("mount")
    assert notes(machine) == [f"var volatile e2fsck of {var} ended with 8"]
    assert machine.calls_of("mkfs.ext4") == []
    assert not any(var in words for words in machine.calls_of("mount"))
    assert_handed_over(machine)


def test_a_state_that_cannot_be_repaired_is_made_anew(machine: PlayedInitrd) -> None:
    state = machine.device(STATE)
    e2fsck(machine, STATE, preen=8, repair=4)
    machine.boot()
    assert machine.calls_of("mkfs.ext4") == [f"-q -F -E nodiscard -L state -b 1024 -i 4096 {state}"]
    assert notes(machine) == [f"state reset e2fsck of {state} ended with 4"]
    assert_handed_over(machine)


def test_a_state_that_cannot_be_made_is_a_folder_on_var(machine: PlayedInitrd) -> None:
    e2fsck(machine, STATE, preen=8, repair=8)
    machine.plays["mkfs.ext4"] = "exit 1"
    machine.boot()
    assert notes(machine) == [f"state on-var e2fsck of {machine.device(STATE)} ended with 8"]
    assert not any(words.endswith(PLACE) for words in machine.calls_of("mount"))
    assert (machine.root / PLACE.lstrip("/") / "etc/upper").is_dir()
    assert_handed_over(machine)


@pytest.mark.parametrize("number", [STATE, VAR])
def test_a_foreign_file_system_is_not_repaired(machine: PlayedInitrd, number: int) -> None:
    device, what, _ = of(number, machine)
    e2fsck(machine, number, preen=8, repair=0)
    found = machine.finds_slot()
    machine.plays["blkid"] = f'case "$*" in "-p -o value "*) echo xfs; exit 0 ;; esac\n{found}'
    machine.boot()
    assert f"-y {device}" not in machine.calls_of("e2fsck")
    assert notes(machine) == [f"{what} {'reset' if what == 'state' else 'volatile'} {device} holds xfs"]
    assert_handed_over(machine)


@pytest.mark.parametrize("number", [STATE, VAR])
@pytest.mark.parametrize("play", ["missing", "kill $$", "exit 16"])
def test_a_broken_initrd_makes_nothing_anew(machine: PlayedInitrd, number: int, play: str) -> None:
    _, what, _ = of(number, machine)
    if play == "missing":
        machine.plays["e2fsck"] = play
    else:
        machine.plays["e2fsck"] = f'case "$*" in *" {machine.device(number)}") {play} ;; esac'
    machine.boot()
    assert machine.calls_of("mkfs.ext4") == []
    assert [line.split()[1] for line in notes(machine) if line.startswith(what)] == [
        "on-var" if what == "state" else "volatile"
    ]
    assert_handed_over(machine)


@pytest.mark.parametrize("policy", OnDamage)
def test_a_var_beyond_repair_is_treated_as_the_image_says(machine: PlayedInitrd, policy: OnDamage) -> None:
    var = machine.device(VAR)
    machine.storage = baked_storage(VarPolicy(policy), ResetPolicy()).decode()
    e2fsck(machine, VAR, preen=4, repair=12)
    machine.boot()
    repaired = f"-y {var}" in machine.calls_of("e2fsck")
    assert repaired == (policy is not OnDamage.VOLATILE)
    assert (IN_MEMORY in machine.calls_of("mount")) == (policy is not OnDamage.RESET)
    assert machine.calls_of("mkfs.ext4") == ([f"-q -F -E nodiscard -L var {var}"] if policy is OnDamage.RESET else [])
    done = "reset" if policy is OnDamage.RESET else "volatile"
    assert notes(machine) == [f"var {done} e2fsck of {var} ended with {12 if repaired else 4}"]
    assert_handed_over(machine)


def test_a_var_that_cannot_be_made_anew_is_replaced_by_memory(machine: PlayedInitrd) -> None:
    machine.storage = baked_storage(VarPolicy(OnDamage.RESET), ResetPolicy()).decode()
    e2fsck(machine, VAR, preen=8, repair=8)
    machine.plays["mkfs.ext4"] = "exit 1"
    machine.boot()
    assert IN_MEMORY in machine.calls_of("mount")
    assert [line.split()[1] for line in notes(machine)] == ["volatile"]
    assert_handed_over(machine)


@pytest.mark.parametrize("policy", OnDamage)
def test_the_state_is_repaired_whatever_the_image_says_of_var(machine: PlayedInitrd, policy: OnDamage) -> None:
    machine.storage = baked_storage(VarPolicy(policy), ResetPolicy()).decode()
    e2fsck(machine, STATE, preen=4, repair=1)
    machine.boot()
    assert [line.split()[:2] for line in notes(machine)] == [["state", "repaired"]]


def repart_brings(machine: PlayedInitrd, number: int, label: str) -> None:
    """systemd-repart makes a partition that was not there."""
    before = machine.finds_slot()
    machine.labels[number] = label
    machine.plays["blkid"] = f"if [ -e /made ]; then\n{machine.finds_slot()}\nfi\n{before}"
    machine.plays["systemd-repart"] = "touch /made"


def test_the_first_boot_makes_both(machine: PlayedInitrd) -> None:
    machine.labels = {}
    before = machine.finds_slot()
    machine.labels = {STATE: "state", VAR: "var"}
    machine.plays["blkid"] = f"if [ -e /made ]; then\n{machine.finds_slot()}\nfi\n{before}"
    machine.plays["systemd-repart"] = "touch /made"
    machine.boot()
    assert machine.calls_of("mkfs.ext4") == [f"-q -F -E nodiscard -L state -b 1024 -i 4096 {machine.device(STATE)}"]
    assert machine.calls_of("e2fsck") == [f"-p {machine.device(VAR)}", f"-p {machine.device(STATE)}"]
    assert notes(machine) == []
    assert_handed_over(machine)


def test_a_state_that_is_gone_is_made_again(machine: PlayedInitrd) -> None:
    del machine.labels[STATE]
    repart_brings(machine, STATE, "state")
    machine.boot()
    assert f"-t ext4 -o nodev,nosuid {machine.device(STATE)} {PLACE}" in machine.calls_of("mount")
    assert notes(machine) == ["state reset the disk had no partition for it"]
    assert_handed_over(machine)


def test_a_state_without_room_for_a_partition_is_a_folder_on_var(machine: PlayedInitrd) -> None:
    del machine.labels[STATE]
    machine.boot()
    assert notes(machine) == ["state on-var the disk has no partition for it"]
    assert_handed_over(machine)


@pytest.mark.parametrize("policy", OnDamage)
def test_nothing_is_made_over_a_var_that_is_gone_unless_the_image_says_so(
    machine: PlayedInitrd, policy: OnDamage
) -> None:
    machine.storage = baked_storage(VarPolicy(policy), ResetPolicy()).decode()
    del machine.labels[VAR]
    repart_brings(machine, VAR, "var")
    machine.boot()
    if policy is OnDamage.RESET:
        assert f"-t ext4 -o nodev,nosuid {machine.device(VAR)} /sysroot/var" in machine.calls_of("mount")
        assert notes(machine) == ["var reset the disk had no partition for it"]
    else:
        assert machine.calls_of("systemd-repart") == []
        assert notes(machine) == ["var volatile the disk has no partition for it"]
    assert_handed_over(machine)


def test_a_disk_that_takes_no_partition_is_booted_from_all_the_same(machine: PlayedInitrd) -> None:
    machine.labels = {}
    machine.plays["systemd-repart"] = "exit 1"
    machine.boot()
    assert "twinhull: the partitions of /dev/vda could not be made or grown" in machine.said
    assert IN_MEMORY in machine.calls_of("mount")
    assert [line.split()[:2] for line in notes(machine)] == [["var", "volatile"], ["state", "on-var"]]
    assert_handed_over(machine)


@pytest.mark.parametrize("number", [STATE, VAR])
def test_what_is_whole_and_cannot_be_mounted_is_not_made_anew(machine: PlayedInitrd, number: int) -> None:
    device, what, _ = of(number, machine)
    machine.plays["mount"] = f'case "$*" in *" {device} "*) exit 32 ;; esac'
    machine.boot()
    assert machine.calls_of("mkfs.ext4") == []
    assert notes(machine) == [f"{what} {'on-var' if what == 'state' else 'volatile'} {device} cannot be mounted"]
    assert_handed_over(machine)


def test_a_var_that_takes_no_folder_is_replaced(machine: PlayedInitrd) -> None:
    machine.plays["mount"] = f'case "$*" in *"{machine.device(VAR)} /sysroot/var") echo >/sysroot/var/lib ;; esac'
    machine.plays["mount"] += "\ncase \"$*\" in *'tmpfs /sysroot/var') rm /sysroot/var/lib ;; esac"
    machine.boot()
    assert notes(machine) == ["var volatile it takes no folder"]
    assert_handed_over(machine)


@pytest.mark.parametrize("name", ["lib", "lib/twinhull"])
def test_a_link_on_var_leads_the_state_nowhere_else(machine: PlayedInitrd, name: str) -> None:
    target = machine.root / "sysroot/usr/lib/systemd"
    link = machine.root / "sysroot/var" / name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to("/sysroot/usr/lib/systemd")
    machine.record = None
    machine.boot()
    assert not link.is_symlink()
    assert not (target / "etc").exists()
    assert not (target / "twinhull").exists()
    assert f"-t ext4 -o nodev,nosuid {machine.device(STATE)} {PLACE}" in machine.calls_of("mount")
    assert_handed_over(machine)


def test_a_var_that_cannot_grow_is_told_and_used(machine: PlayedInitrd) -> None:
    machine.plays["systemd-growfs"] = "exit 1"
    machine.boot()
    assert "twinhull: /var could not be grown" in machine.said
    assert_handed_over(machine)


@pytest.mark.parametrize("number", [STATE, VAR])
def test_a_check_that_never_ends_is_ended(machine: PlayedInitrd, number: int) -> None:
    device, what, _ = of(number, machine)
    machine.limits["CHECK_LIMIT_S"] = 1
    machine.plays["e2fsck"] = f'case "$*" in "-p {device}") exec sleep 60 ;; esac'
    machine.boot()
    done = "on-var" if what == "state" else "volatile"
    assert notes(machine) == [f"{what} {done} e2fsck of {device} ended with 143"]
    assert f"-y {device}" not in machine.calls_of("e2fsck")
    assert_handed_over(machine)


def test_a_repair_may_take_longer_than_a_boot(machine: PlayedInitrd) -> None:
    machine.limits["LIMIT_S"] = 2
    machine.plays["e2fsck"] = "sleep 4"
    machine.boot()
    assert_handed_over(machine)
