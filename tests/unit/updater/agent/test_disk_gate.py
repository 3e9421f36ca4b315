"""Who may open the host's disk for writing, and that a kernel that cannot say no changes nothing."""

from __future__ import annotations

import errno
import logging
import struct

import pytest

from tests.fakes.device_filters import MemoryFilters
from updater.agent.disk_gate import DeviceNumber, DiskGate, refusal

DISK, SLOT, OTHER = DeviceNumber(253, 0), DeviceNumber(253, 3), DeviceNumber(253, 7)
BLOCK, CHARACTER = 1, 2
MAKE_NODE, READ, WRITE = 1, 2, 4


def allows(program: bytes, device: DeviceNumber, kind: int, access: int) -> bool:
    """Run a program as the kernel does; instructions that it does not have are errors."""
    codes = list(struct.iter_unpack("<BBhi", program))
    registers = {1: 0}
    words = {0: access << 16 | kind, 4: device.major, 8: device.minor}
    at = 0
    while True:
        operation, pair, offset, value = codes[at]
        target, source = pair & 15, pair >> 4
        at += 1
        if operation == 0x95:
            return bool(registers[0])
        if operation == 0x61:
            registers[target] = words[offset]
        elif operation == 0xBF:
            registers[target] = registers[source]
        elif operation == 0x57:
            registers[target] &= value
        elif operation == 0x77:
            registers[target] >>= value
        elif operation == 0xB7:
            registers[target] = value
        elif operation in (0x15, 0x55):
            at += offset if (registers[target] == value) == (operation == 0x15) else 0
        else:
            raise AssertionError(f"unknown instruction {operation:#x}")


@pytest.mark.parametrize("devices", [(DISK,), (DISK, SLOT), (SLOT, DeviceNumber(259, 0), DISK)])
def test_only_writing_to_the_given_block_devices_is_refused(devices: tuple[DeviceNumber, ...]) -> None:
    program = refusal(devices)
    for device in (DISK, SLOT, OTHER, DeviceNumber(8, 0), DeviceNumber(259, 0), DeviceNumber(259, 3)):
        for access in range(8):
            refused = device in devices and bool(access & WRITE)
            assert allows(program, device, BLOCK, access) is not refused
            assert allows(program, device, CHARACTER, access)


def test_without_devices_everything_is_allowed() -> None:
    assert allows(refusal(()), DISK, BLOCK, READ | WRITE | MAKE_NODE)


def test_a_closed_gate_is_open_for_the_agent_and_closed_again_after_an_error() -> None:
    filters = MemoryFilters()
    gate = DiskGate(filters)
    gate.close([DISK])
    assert filters.attached == [refusal([DISK])]
    seen: list[list[bytes]] = []

    def fail() -> None:
        with gate.opened([DISK]):
            seen.append(list(filters.attached))
            raise ValueError("on purpose")

    with pytest.raises(ValueError, match="on purpose"):
        fail()
    assert seen == [[]]
    assert filters.attached == [refusal([DISK])]


def test_closing_twice_leaves_one_program() -> None:
    filters = MemoryFilters()
    gate = DiskGate(filters)
    gate.close([DISK])
    gate.close([DISK, SLOT])
    assert filters.attached == [refusal([DISK, SLOT])]


def test_an_opened_gate_stays_open_for_everybody() -> None:
    filters = MemoryFilters()
    gate = DiskGate(filters)
    gate.close([DISK])
    gate.open()
    with gate.opened([DISK]):
        pass
    assert filters.attached == []


def test_a_gate_that_was_never_closed_stays_open() -> None:
    filters = MemoryFilters()
    with DiskGate(filters).opened([DISK]):
        pass
    assert filters.attached == []


def test_a_kernel_that_refuses_stops_nobody_and_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    gate = DiskGate(MemoryFilters(error=OSError(errno.EPERM, "Operation not permitted")))
    with caplog.at_level(logging.WARNING):
        gate.close([DISK])
        with gate.opened([DISK]):
            pass
    assert "other processes can write to the disk of this host: Operation not permitted" in caplog.text


@pytest.mark.parametrize("text", ["", "253", "a:b", "253:"])
def test_what_is_no_device_number_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        DeviceNumber.from_text(text)
