"""Units that make every dead end of a trial a reboot, and that never reboot a blessed slot."""

from __future__ import annotations

import math
import os
import re
import subprocess
from configparser import RawConfigParser
from dataclasses import dataclass
from pathlib import Path

import pytest

import imagebuild
from bedrock import strict
from imagebuild.definition.initrd import load_content
from updater.agent.alive import PIECE_S

DATA = Path(str(imagebuild.__file__)).parent / "data"
UNITS = DATA / "tree/usr/lib/systemd/system"
INIT = DATA / "initrd/init"


@dataclass(frozen=True)
class Limit:
    """A time as units write it."""

    time: strict.Seconds


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


@pytest.mark.parametrize(
    ("entry", "is_trial"),
    [
        ("host_1.0.1+2-1.efi", True),
        ("host_1.0.1+0-3.efi", True),
        ("host_1.0.1+3-5.efi", True),
        ("host_1.0.1+3-6.efi", False),
        ("host_1.0.1+2-7.efi", False),
        ("host_1.0.1+0-9.efi", False),
        # A name of no entry of ours: the loader counted it all the same.
        ("other.efi", True),
        (None, False),
    ],
)
def test_only_a_trial_is_a_boot_that_may_be_given_up_and_never_a_guarded_slot(
    tmp_path: Path, entry: str | None, *, is_trial: bool
) -> None:
    variable = tmp_path / "LoaderBootCountPath"
    if entry is not None:
        variable.write_bytes(b"\6\0\0\0" + f"\\EFI\\Linux\\{entry}\0".encode("utf-16-le"))
    script = DATA / "tree/usr/lib/twinhull/counted-trial"
    done = subprocess.run(["/bin/sh", script], check=False, env={**os.environ, "COUNTED": str(variable)}, timeout=60)
    assert (done.returncode == 0) == is_trial
    lost = unit(UNITS / "twinhull-trial-lost.service")
    assert lost["Service"]["ExecCondition"] == "/bin/sh /usr/lib/twinhull/counted-trial"


def test_the_deadline_waits_for_no_other_unit() -> None:
    assert "After" not in unit(UNITS / "twinhull-trial-deadline.service")["Unit"]
    assert "After" not in unit(UNITS / "twinhull-trial-deadline.timer")["Unit"]


def init_lines() -> list[str]:
    """The commands of `init` itself, in order: without comments and function bodies."""
    lines = INIT.read_text().splitlines()
    return [line for line in lines if line and not line.startswith(("#", " ", "}")) and not line.endswith("() {")]


def test_the_initrd_knows_its_dead_end_before_it_does_anything() -> None:
    lines = init_lines()
    assert lines[0] == "set -eu"
    assert lines[1] == "PATH=/usr/bin:/usr/sbin"
    settings = [line for line in lines[2 : lines.index("trap dead_end EXIT")] if not re.fullmatch(r"[A-Z_]+=\d+", line)]
    assert settings == []
    assert lines[lines.index("trap dead_end EXIT") + 1].startswith("mount -t devtmpfs")


def test_a_dead_end_of_the_initrd_runs_to_its_reboot_whatever_fails() -> None:
    body = INIT.read_text().partition("dead_end() {\n")[2].partition("\n}\n")[0].splitlines()
    assert [line.strip() for line in body[:2]] == ["trap - EXIT", "set +e"]
    assert body[-1].strip() == "reboot -f"


def test_a_hanging_initrd_is_ended_by_its_guard() -> None:
    lines = init_lines()
    assert lines.index("guard &") < lines.index("load_drivers") < lines.index("open_slot")


def test_a_start_job_that_never_ends_does_not_keep_a_blessed_slot_from_its_updates() -> None:
    assert unit(UNITS / "twinhull-health.service")["Unit"]["JobTimeoutSec"] == "3h"
    assert "After" in unit(UNITS / "twinhull-updater.service")["Unit"]


def seconds(text: str) -> float:
    return strict.read(Limit, {"time": text}, source="a unit").time if text != "infinity" else math.inf


def limits() -> dict[str, float]:
    """How long each unit of ours that runs to its end may take; without a limit systemd sets none for these."""
    found = {}
    for path in UNITS.glob("twinhull-*.service"):
        service = unit(path)["Service"]
        if service.get("Type") == "oneshot":
            found[path.name] = seconds(service.get("TimeoutStartSec", "infinity"))
    return found


def test_the_deadline_alone_judges_a_trial_however_slow_its_host_is() -> None:
    deadline_s = seconds(unit(UNITS / "twinhull-trial-deadline.timer")["Timer"]["OnStartupSec"])
    found = limits()
    assert {"twinhull-boot.service", "twinhull-bless.service", "twinhull-provision.service"} <= found.keys()
    judges = {"twinhull-trial-deadline.service"}
    assert {name for name, limit_s in found.items() if limit_s <= deadline_s} == judges
    assert all(found[name] >= deadline_s for name in judges)


def test_nothing_ends_the_last_way_out_of_a_trial() -> None:
    assert limits()["twinhull-trial-lost.service"] == math.inf


def test_a_program_that_hangs_keeps_no_blessed_slot_from_booting_or_from_its_updates() -> None:
    found = limits()
    assert all(found[f"twinhull-{name}.service"] < math.inf for name in ("boot", "bless", "provision"))


def test_a_rescue_that_nobody_attends_to_ends() -> None:
    for name in ("emergency", "rescue"):
        assert "twinhull-unattended.timer" in unit(UNITS / f"{name}.target.d/10-unattended.conf")["Unit"]["Wants"]
    assert unit(UNITS / "twinhull-unattended.timer")["Timer"]["OnActiveSec"] == "30min"
    assert "reboot" in unit(UNITS / "twinhull-unattended.service")["Service"]["ExecStart"]


def test_a_daemon_that_hangs_is_started_again() -> None:
    service = unit(UNITS / "twinhull-updater.service")["Service"]
    assert seconds(service["WatchdogSec"]) > 10 * PIECE_S
    assert service["Restart"] == "on-failure"


def test_each_watchdog_of_the_initrd_goes_on_counting_for_two_minutes() -> None:
    options = (DATA / "initrd/etc/modprobe.d/watchdog.conf").read_text()
    found = dict(re.findall(r"^options (\w+) \w+=(\d+)$", options, re.MULTILINE))
    assert set(found.values()) == {"120"}
    assert set(found) <= set(load_content().extras)
