"""The units of the agent: what they may do, and that exceptions come after what all of them have in common."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from imagebuild.paths import DATA

UNITS = DATA / "tree/usr/lib/systemd/system"
COMMON = UNITS / "twinhull-.service.d/10-confined.conf"


def settings(unit: str) -> list[str]:
    """The lines of a unit in the order in which systemd reads them."""
    own = UNITS / f"{unit}.d"
    drop_ins = sorted([COMMON, *(own.glob("*.conf") if own.is_dir() else ())], key=lambda path: path.name)
    return [line for path in (UNITS / unit, *drop_ins) for line in path.read_text().splitlines() if "=" in line]


def last(unit: str, key: str) -> str:
    """The value of a setting that does not add up."""
    return [line.partition("=")[2] for line in settings(unit) if line.startswith(f"{key}=")][-1]


@pytest.mark.parametrize("unit", sorted(path.name for path in UNITS.glob("twinhull-*.service")))
def test_a_unit_does_not_set_itself_what_the_common_settings_would_undo(unit: str) -> None:
    common = {line.partition("=")[0] for line in COMMON.read_text().splitlines() if "=" in line and line[0] != "#"}
    mine = {line.partition("=")[0] for line in (UNITS / unit).read_text().splitlines()}
    assert not common & mine


def test_only_the_network_side_has_a_network_and_it_has_nothing_else() -> None:
    for path in UNITS.glob("twinhull-*.service"):
        assert last(path.name, "PrivateNetwork") == ("no" if "transfer@" in path.name else "yes")
    unit = "twinhull-transfer@.service"
    assert last(unit, "CapabilityBoundingSet") == ""
    assert (last(unit, "PrivateDevices"), last(unit, "DynamicUser")) == ("yes", "yes")
    # Each worker is a user of its own: one that a server took over can signal no other.
    assert not any(line.startswith("User=") for line in settings(unit))
    assert any(line.startswith("RuntimeMaxSec=") for line in settings(unit))


def test_provisioning_may_set_the_name_of_the_host() -> None:
    unit = "twinhull-provision.service"
    filters = [line.partition("=")[2] for line in settings(unit) if line.startswith("SystemCallFilter=")]
    assert "sethostname" in filters[-1]
    assert last(unit, "ProtectHostname") == "no"


def test_provisioning_may_write_to_homes() -> None:
    unit = "twinhull-provision.service"
    assert last(unit, "ProtectHome") == "no"
    assert {"/etc", "/var"} <= set(last(unit, "ReadWritePaths").split())


@pytest.mark.parametrize("unit", ["twinhull-trial-deadline.service", "twinhull-trial-lost.service"])
def test_a_slot_that_was_blessed_is_left_by_no_guard_of_a_trial(unit: str) -> None:
    assert "ConditionPathExists=!/run/twinhull/blessed" in settings(unit)


def test_no_limit_that_was_hit_ends_the_network_side_for_good() -> None:
    text = Path(UNITS / "twinhull-transfer.socket").read_text()
    assert re.search(r"(?m)^TriggerLimitIntervalSec=0$", text)
    assert re.search(r"(?m)^SocketMode=0600$", text)


def test_no_other_unit_has_a_name_that_the_common_settings_hit() -> None:
    known = {path.name for path in UNITS.glob("twinhull-*.*")} | {"twinhull-.service.d"}
    named: set[str] = set()
    for path in (*DATA.parent.rglob("*.py"), *DATA.rglob("*")):
        if path.is_file() and path.suffix != ".pyc":
            text = path.read_text(errors="replace")
            named |= set(re.findall(r"twinhull-[a-z-]*@?\.(?:service|socket|timer|path)(?:\.d)?", text))
    assert named - known - {f"{name}.d" for name in known} == set()
