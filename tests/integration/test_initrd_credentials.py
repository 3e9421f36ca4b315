"""Credentials of a boot: which the initrd keeps for the agent, and when systemd may take those of the firmware."""

from __future__ import annotations

import pytest

from bedrock import strict
from tests.fakes.played_initrd import PlayedInitrd
from updater.provision.policy import Policy, Unsigned
from updater.provision.reading import MAX_OFFERED_BYTES
from updater.provision.record import ProvisionRecord

# systemd itself takes what systemd-stub found only in an initrd of its own; here the agent judges it later.
KEPT = "run/twinhull/boot-credentials"


def with_credentials(machine: PlayedInitrd, **found: dict[str, str]) -> None:
    for folder, files in found.items():
        place = machine.root / ".extra" / folder
        place.mkdir(parents=True)
        for name, text in files.items():
            (place / name).write_text(text)


def test_credentials_from_beside_the_kernel_are_kept_where_nobody_else_can_read_them(machine: PlayedInitrd) -> None:
    with_credentials(machine, credentials={"one.cred": "1", "note.txt": "?"}, global_credentials={"two.cred": "2"})
    machine.boot()
    kept = machine.root / KEPT
    assert sorted(path.read_text() for path in kept.iterdir()) == ["1", "2"]
    assert kept.stat().st_mode & 0o777 == 0o700
    assert "switch_root" in machine.calls[-1]


def test_without_credentials_there_is_no_folder_for_them(machine: PlayedInitrd) -> None:
    machine.boot()
    assert [path.name for path in (machine.root / "run").iterdir()] == ["systemd"]


def test_what_systemd_keeps_at_run_time_is_open_to_all(machine: PlayedInitrd) -> None:
    machine.boot()
    assert (machine.root / "run/systemd").stat().st_mode & 0o777 == 0o755


def test_an_empty_folder_of_credentials_is_no_reason_to_stop(machine: PlayedInitrd) -> None:
    with_credentials(machine, credentials={}, global_credentials={"two.cred": "2"})
    machine.boot()
    assert "switch_root" in machine.calls[-1]


def test_credentials_go_by_their_name_without_the_ending(machine: PlayedInitrd) -> None:
    # systemd's import-creds.c, import_credentials_boot(): ".cred" is for the ESP, and not part of the name.
    with_credentials(machine, credentials={"twinhull.updater.cred": "1"})
    machine.boot()
    assert [path.name for path in (machine.root / KEPT).iterdir()] == ["twinhull.updater"]


def test_a_credential_of_this_kernel_goes_before_one_of_all_kernels(machine: PlayedInitrd) -> None:
    with_credentials(machine, credentials={"one.cred": "its own"}, global_credentials={"one.cred": "of all"})
    machine.boot()
    assert [path.read_text() for path in (machine.root / KEPT).iterdir()] == ["its own"]


def test_the_names_of_credentials_know_no_case_in_their_ending(machine: PlayedInitrd) -> None:
    with_credentials(machine, credentials={"Twinhull.Provision.CRED": "1", "two.Cred": "2"})
    machine.boot()
    assert sorted(path.name for path in (machine.root / KEPT).iterdir()) == ["Twinhull.Provision", "two"]


def test_of_a_large_credential_only_so_much_is_kept_that_it_is_refused(machine: PlayedInitrd) -> None:
    with_credentials(machine, credentials={"large.cred": "x" * (MAX_OFFERED_BYTES + 5), "two.cred": "2"})
    machine.boot()
    assert (machine.root / KEPT / "large").stat().st_size == MAX_OFFERED_BYTES + 1
    assert machine.text(f"{KEPT}/two") == "2"
    assert "switch_root" in machine.calls[-1]


def test_too_many_credentials_are_no_reason_to_stop(machine: PlayedInitrd) -> None:
    with_credentials(machine, credentials={f"{number:03}.cred": "x" for number in range(60)})
    machine.boot()
    assert len(list((machine.root / KEPT).iterdir())) == 50
    assert "twinhull: more than 50 credentials are on the boot partition" in machine.said
    assert "switch_root" in machine.calls[-1]


def test_a_credential_that_cannot_be_kept_is_no_reason_to_stop(machine: PlayedInitrd) -> None:
    with_credentials(machine, credentials={"one.cred": "1", "two.cred": "2"})
    # The first one cannot be written, as on a full file system.
    machine.plays["mount"] = f'case "$*" in *" /run") mkdir -p -m 0700 /{KEPT}; ln -s /nowhere/x /{KEPT}/one ;; esac'
    machine.boot()
    assert machine.text(f"{KEPT}/two") == "2"
    assert "twinhull: the credential one could not be kept" in machine.said
    assert "switch_root" in machine.calls[-1]


# With this variable set, systemd imports nothing from the firmware (import-creds.c, import_credentials()).
CLOSED = "/run/credentials/@system"
FIRST_BOOT = strict.dump_json(Policy(unsigned=Unsigned.FIRST_BOOT)).decode()
OVER = strict.dump_json(ProvisionRecord(first_boot_over=True)).decode()
NOT_OVER = strict.dump_json(ProvisionRecord(first_boot_over=False)).decode()


@pytest.mark.parametrize(
    ("policy", "record", "told"),
    [
        (strict.dump_json(Policy(unsigned=Unsigned.ALWAYS)).decode(), OVER, ""),
        (strict.dump_json(Policy(unsigned=Unsigned.NEVER)).decode(), None, CLOSED),
        (FIRST_BOOT, None, ""),
        (FIRST_BOOT, NOT_OVER, ""),
        (FIRST_BOOT, OVER, CLOSED),
        (FIRST_BOOT, "{ torn", CLOSED),
        (FIRST_BOOT, "", CLOSED),
        (None, None, CLOSED),
        ("{}", NOT_OVER, CLOSED),
    ],
)
def test_systemd_takes_credentials_of_the_firmware_only_by_the_image_s_policy(
    machine: PlayedInitrd, policy: str | None, record: str | None, told: str
) -> None:
    machine.policy, machine.record = policy, record
    machine.plays["switch_root"] = 'echo "$CREDENTIALS_DIRECTORY" >/told'
    machine.boot()
    assert machine.text("told").strip() == told
    assert (machine.root / "run/credentials/@system").is_dir() is bool(told)
