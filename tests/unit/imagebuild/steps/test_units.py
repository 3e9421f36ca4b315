"""Units of every image that belong together."""

from __future__ import annotations

import re
from configparser import RawConfigParser
from pathlib import Path

import pytest

import imagebuild

UNITS = Path(str(imagebuild.__file__)).parent / "data/tree/usr/lib/systemd/system"
LATER = UNITS / "twinhull-coldplug.service"
FIRST = UNITS / "systemd-udev-trigger.service.d/10-later.conf"


def settings(path: Path) -> RawConfigParser:
    parser = RawConfigParser(strict=False)
    parser.read_string(path.read_text())
    return parser


def subsystems(path: Path, option: str) -> list[str]:
    """The values of an option of udevadm in the command that counts, which is the last."""
    return re.findall(rf"--{option}=([a-z_]+)", settings(path)["Service"]["ExecStart"])


def test_consoles_of_both_kinds_ask_nobody_in_where_there_is_no_login_program() -> None:
    one, other = (UNITS / f"{name}@.service.d/10-login.conf" for name in ("getty", "serial-getty"))
    assert one.read_text() == other.read_text()
    assert settings(one)["Unit"]["ConditionPathExists"] == "/usr/bin/login"


def test_every_device_is_told_to_udev_at_one_time_or_the_other() -> None:
    later = subsystems(LATER, "subsystem-match")
    assert later == subsystems(FIRST, "subsystem-nomatch")
    assert {"tty", "memory"} <= set(later)
    assert later == sorted(set(later))
    # Nothing else chooses among them.
    for path, option in ((LATER, "subsystem-match"), (FIRST, "subsystem-nomatch")):
        words = settings(path)["Service"]["ExecStart"].split()
        assert words[:2] == ["-udevadm", "trigger"]
        chosen = [word for word in words[2:] if not word.startswith((f"--{option}=", "--prioritized-subsystem="))]
        assert chosen == ["--type=all", "--action=add"]


def test_the_command_of_debians_own_unit_is_replaced_and_not_added_to() -> None:
    lines = [line for line in FIRST.read_text().splitlines() if line.startswith("ExecStart")]
    assert [line.partition("=")[2].split(" ")[0] for line in lines] == ["", "-udevadm"]


@pytest.mark.parametrize("subsystem", ["block", "net", "module"])
def test_what_a_boot_waits_for_is_never_told_late(subsystem: str) -> None:
    assert subsystem not in subsystems(LATER, "subsystem-match")


def test_the_later_events_hold_up_nothing() -> None:
    unit = settings(LATER)["Unit"]
    # Without this systemd would make it wait for sysinit.target, and basic.target for it.
    assert unit["DefaultDependencies"] == "no"
    assert unit["Before"] == "shutdown.target"
    assert settings(LATER)["Install"]["WantedBy"] == "multi-user.target"
