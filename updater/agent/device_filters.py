"""The kernel's side of `disk_gate`: BPF programs at the root of the control groups, by the system call bpf(2).

Programs of ours are told from those of systemd by their name.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

NAME = b"twinhull_disk"
# The number of the system call, by machine.
_SYSTEM_CALL = {"x86_64": 321, "aarch64": 280}
_PROG_LOAD, _PROG_ATTACH, _PROG_DETACH, _GET_FD_BY_ID, _GET_INFO, _PROG_QUERY = 5, 8, 9, 13, 15, 16
_TYPE_CGROUP_DEVICE, _ATTACH_CGROUP_DEVICE, _ALLOW_MULTI = 15, 6, 2
_MOST_PROGRAMS = 64
# Where the name is in what the kernel says of a program.
_INFO_BYTES, _NAME_AT, _NAME_BYTES = 256, 64, 16
_INSTRUCTION_BYTES = 8


@dataclass(frozen=True)
class KernelDeviceFilters:
    """The programs of the running kernel."""

    root: Path = Path("/sys/fs/cgroup")

    def attach(self, program: bytes) -> None:
        """Load the program and attach it."""
        code, licence = ctypes.create_string_buffer(program, len(program)), ctypes.create_string_buffer(b"MIT")
        words = struct.pack(
            "<IIQQIIQII16sII",
            _TYPE_CGROUP_DEVICE,
            len(program) // _INSTRUCTION_BYTES,
            ctypes.addressof(code),
            ctypes.addressof(licence),
            0,
            0,
            0,
            0,
            0,
            NAME,
            0,
            _ATTACH_CGROUP_DEVICE,
        )
        with _closing(_bpf(_PROG_LOAD, words)) as handle, self._group() as group:
            _bpf(_PROG_ATTACH, struct.pack("<IIII", group, handle, _ATTACH_CGROUP_DEVICE, _ALLOW_MULTI))

    def detach(self) -> bool:
        """Detach the programs that have our name."""
        found = False
        with self._group() as group:
            for number in _attached(group):
                with _closing(_bpf(_GET_FD_BY_ID, struct.pack("<III", number, 0, 0))) as handle:
                    if _name_of(handle) == NAME:
                        _bpf(_PROG_DETACH, struct.pack("<IIII", group, handle, _ATTACH_CGROUP_DEVICE, 0))
                        found = True
        return found

    @contextmanager
    def _group(self) -> Iterator[int]:
        with _closing(os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)) as handle:
            yield handle


def _attached(group: int) -> list[int]:
    numbers = (ctypes.c_uint32 * _MOST_PROGRAMS)()
    words = struct.pack("<IIIIQII", group, _ATTACH_CGROUP_DEVICE, 0, 0, ctypes.addressof(numbers), _MOST_PROGRAMS, 0)
    answer = ctypes.create_string_buffer(words, len(words))
    _bpf_in(_PROG_QUERY, answer)
    (count,) = struct.unpack_from("<I", answer, 24)
    return list(numbers[: min(count, _MOST_PROGRAMS)])


def _name_of(handle: int) -> bytes:
    info = ctypes.create_string_buffer(_INFO_BYTES)
    _bpf(_GET_INFO, struct.pack("<IIQ", handle, _INFO_BYTES, ctypes.addressof(info)))
    return info.raw[_NAME_AT : _NAME_AT + _NAME_BYTES].rstrip(b"\0")


def _bpf(command: int, words: bytes) -> int:
    return _bpf_in(command, ctypes.create_string_buffer(words, len(words)))


def _bpf_in(command: int, words: ctypes.Array[ctypes.c_char]) -> int:
    machine = platform.machine()
    if machine not in _SYSTEM_CALL:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    system_call = ctypes.CDLL(None, use_errno=True).syscall
    result = int(system_call(_SYSTEM_CALL[machine], command, words, len(words)))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


@contextmanager
def _closing(handle: int) -> Iterator[int]:
    try:
        yield handle
    finally:
        os.close(handle)
