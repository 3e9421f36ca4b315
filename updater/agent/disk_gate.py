"""Keeps other processes from opening the host's disk, or the partitions of its slots, for writing.

The partitions are read-only for the kernel, but whoever writes to the whole disk reaches the slots as well.  So a
program of a few instructions is attached to the root of the control groups, which every process is in, containers that
may use all devices too: it refuses to open these devices for writing.  Other disks and partitions are not touched.
The agent takes it away for the moment in which it opens the disk; what is open stays open.

It keeps errors and containers away, and is not a wall against root on the host, who can take it away like the agent.
Where the kernel cannot do it, the disk is as it was.
Source: bpf(2); Linux, `include/uapi/linux/bpf.h` (`bpf_cgroup_dev_ctx`).
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

_LOG = logging.getLogger(__name__)
_BLOCK, _WRITE = 1, 4
# Instructions: operation, registers, offset of a jump, value.
_INSTRUCTION = struct.Struct("<BBhi")
_LOAD_WORD, _COPY, _AND, _SHIFT_RIGHT, _SET = 0x61, 0xBF, 0x57, 0x77, 0xB7
_JUMP_IF_EQUAL, _JUMP_IF_DIFFERENT, _EXIT = 0x15, 0x55, 0x95


@dataclass(frozen=True)
class DeviceNumber:
    """How the kernel names a device."""

    major: int
    minor: int

    @classmethod
    def from_text(cls, text: str) -> DeviceNumber:
        """Read `MAJOR:MINOR`, as in sysfs.

        Raises:
            ValueError: It is something else.
        """
        major, _, minor = text.strip().partition(":")
        return cls(int(major), int(minor))


class DeviceFilters(Protocol):
    """The kernel's programs that decide which devices may be opened, at the root of the control groups."""

    def attach(self, program: bytes) -> None:
        """Add ours.

        Raises:
            OSError: The kernel does not take it.
        """

    def detach(self) -> bool:
        """Take ours away, all of them; whether there was one.

        Raises:
            OSError: The kernel does not let us.
        """


@dataclass(frozen=True)
class DiskGate:
    """The gate in front of the host's disk."""

    filters: DeviceFilters

    def close(self, devices: Sequence[DeviceNumber]) -> None:
        """Let nobody open these devices for writing from now on."""
        try:
            self.filters.detach()
            self.filters.attach(refusal(devices))
        except OSError as error:
            _LOG.warning("other processes can write to the disk of this host: %s", error.strerror or error)

    def open(self) -> None:
        """Let everybody open them again.

        Raises:
            OSError: The kernel does not let us.
        """
        self.filters.detach()

    @contextmanager
    def opened(self, devices: Sequence[DeviceNumber]) -> Iterator[None]:
        """Let this process open the devices within the block; a gate that was not closed stays so."""
        try:
            closed = self.filters.detach()
        except OSError as error:
            _LOG.warning("whether the disk may be opened is not known: %s", error.strerror or error)
            closed = False
        try:
            yield
        finally:
            if closed:
                self.close(devices)


def refusal(devices: Sequence[DeviceNumber]) -> bytes:
    """The instructions that refuse to open block devices for writing: 0 refuses, 1 allows.

    They are given what is done and to what kind of device, in one word, and its two numbers.
    """
    allowed, refused = [_code(_SET, 0, 0, 0, 1), _code(_EXIT)], [_code(_SET, 0, 0, 0, 0), _code(_EXIT)]
    checks = [
        _code(_LOAD_WORD, 2, 1, 0),
        _code(_LOAD_WORD, 3, 1, 4),
        _code(_LOAD_WORD, 4, 1, 8),
        _code(_COPY, 5, 2),
        _code(_AND, 5, 0, 0, 0xFFFF),
        # Jumps go past all comparisons, where it is allowed.
        _code(_JUMP_IF_DIFFERENT, 5, 0, 4 + 2 * len(devices), _BLOCK),
        _code(_COPY, 5, 2),
        _code(_SHIFT_RIGHT, 5, 0, 0, 16),
        _code(_AND, 5, 0, 0, _WRITE),
        _code(_JUMP_IF_EQUAL, 5, 0, 2 * len(devices), 0),
    ]
    for number, device in enumerate(devices):
        left = len(devices) - number - 1
        checks.append(_code(_JUMP_IF_DIFFERENT, 3, 0, 1, device.major))
        checks.append(_code(_JUMP_IF_EQUAL, 4, 0, 2 * left + len(allowed), device.minor))
    return b"".join((*checks, *allowed, *refused))


def _code(operation: int, target: int = 0, source: int = 0, offset: int = 0, value: int = 0) -> bytes:
    return _INSTRUCTION.pack(operation, source << 4 | target, offset, value)
