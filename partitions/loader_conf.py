"""`loader.conf` of the two boot loaders of a disk.

The one on the ESP starts what names and counters say.  The second one, on the partition of the UKIs, is started by the
firmware when the first one or what it chose was not; it prefers another entry.  Its file is exactly one sector long, so
that it is replaced in one step.
Source: systemd, loader.conf(5).

Pure: no I/O.
"""

from __future__ import annotations

from partitions.entries import BootEntry

LOADER_CONF = "loader/loader.conf"
SECOND_CONF_BYTES = 512
# Where firmware looks for a loader on any disk; the same file on both partitions.
REMOVABLE_LOADER = "EFI/BOOT/BOOTX64.EFI"

_COMMON = "timeout 0\neditor no\nauto-firmware no\nauto-reboot no\nauto-poweroff no\n"


def first_conf() -> str:
    """The file of the loader on the ESP: no menu, no editor; names and counters alone decide which entry boots."""
    return _COMMON


def second_conf(entry: BootEntry) -> bytes:
    """The file of the second loader, which starts `entry` whatever its counter is; 512 bytes, for names are short."""
    return f"{_COMMON}default {entry.loader_pattern}\n".encode().ljust(SECOND_CONF_BYTES, b"\n")
