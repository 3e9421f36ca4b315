from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagebuild.vm import console


def test_control_sequences_are_taken_out() -> None:
    raw = b"\x1b[2J\x1b[01;01H\x1b[=3hBdsDxe\r\n\x1b[0;32mOK\x1b[0m \x1b]0;title\x07done\x1b(B"
    assert console.clean(raw) == "BdsDxe\nOK done"


@given(raw=st.binary(max_size=200))
def test_any_bytes_can_be_cleaned(raw: bytes) -> None:
    assert "\r" not in console.clean(raw)


def test_a_marker_is_only_found_after_the_given_place() -> None:
    text = "login:\nlogin:\n"
    first = console.find(text, re.compile("login:"))
    assert first is not None
    second = console.find(text, re.compile("login:"), since=first.end)
    assert second is not None
    assert second.end > first.end
    assert console.find(text, re.compile("login:"), since=second.end) is None


@pytest.mark.parametrize(
    "line",
    [
        "[    2.1] Kernel panic - not syncing: VFS: Unable to mount root fs",
        "You are in emergency mode. After logging in, type",
        "systemd[1]: Freezing execution.",
        "BdsDxe: No bootable option or device was found.",
        "twinhull: the initrd cannot go on, rebooting",
    ],
)
def test_a_guest_that_is_stuck_is_noticed(line: str) -> None:
    assert console.fatal_line(f"before\n{line}\nafter\n") == line


def test_a_guest_that_starts_normally_is_not_called_stuck() -> None:
    assert console.fatal_line("Reached target Emergency Mode is not here\nsystemd[1]: Startup finished\n") is None


def test_a_panic_before_the_given_place_is_old_news() -> None:
    text = "Kernel panic - not syncing: x\nBooting again\n"
    assert console.fatal_line(text, since=text.index("Booting")) is None


def test_the_tail_holds_the_last_lines() -> None:
    assert console.tail("1\n2\n3\n", 2) == "2\n3"
