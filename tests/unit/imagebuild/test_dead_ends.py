"""Units that make every dead end of a trial a reboot, and that never reboot a blessed slot."""

from __future__ import annotations

from configparser import RawConfigParser
from pathlib import Path

import pytest

import imagebuild

DATA = Path(str(imagebuild.__file__)).parent / "data"
UNITS = DATA / "tree/usr/lib/systemd/system"
INITRD = DATA / "initrd/usr/lib/systemd/system"


def unit(path: Path) -> RawConfigParser:
    parser = RawConfigParser(strict=False)
    parser.read_string(path.read_text())
    return parser


def test_a_deadline_that_fails_reboots_only_a_boot_the_loader_counted() -> None:
    assert unit(UNITS / "twinhull-trial-deadline.service")["Unit"]["OnFailure"] == "twinhull-trial-lost.service"
    lost = unit(UNITS / "twinhull-trial-lost.service")
    condition = lost["Unit"]["conditionpathexists"]
    assert condition.startswith("/sys/firmware/efi/efivars/LoaderBootCountPath-")
    assert "updater" not in lost["Service"]["ExecStart"]


def test_the_deadline_waits_for_no_other_unit() -> None:
    assert "After" not in unit(UNITS / "twinhull-trial-deadline.service")["Unit"]
    assert "After" not in unit(UNITS / "twinhull-trial-deadline.timer")["Unit"]


def test_a_hanging_initrd_reboots() -> None:
    assert unit(INITRD / "initrd.target.d/10-limit.conf")["Unit"]["JobTimeoutAction"] == "reboot-force"


@pytest.mark.parametrize("service", ["emergency", "rescue"])
def test_an_emergency_in_the_initrd_reboots(service: str) -> None:
    drop_in = unit(INITRD / f"{service}.service.d/10-reboot.conf")
    assert drop_in["Service"]["ExecStart"].endswith("systemctl --force reboot")


def test_a_start_job_that_never_ends_does_not_keep_a_blessed_slot_from_its_updates() -> None:
    assert unit(UNITS / "twinhull-health.service")["Unit"]["JobTimeoutSec"] == "3h"
    assert "After" in unit(UNITS / "twinhull-updater.service")["Unit"]
