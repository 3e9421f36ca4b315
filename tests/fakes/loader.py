"""What systemd-boot makes of boot entries: their order, and which one it boots.

Sources: Boot Loader Specification, "Boot counting"; systemd-boot, `boot_entry_compare`.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cmp_to_key

from partitions.entries import BootEntry
from partitions.version import compare


def sort_entries(entries: Iterable[BootEntry]) -> list[BootEntry]:
    """The entries in systemd-boot's order, the one it boots first: exhausted ones last, then newest version first.

    The loader compares the image (the sort key in the UKI's os-release), the version by the UAPI order, the name
    without counter, and at last the counter: more tries left, then fewer done.
    """
    return sorted(entries, key=cmp_to_key(_compare_entries))


def selected(entries: Iterable[BootEntry]) -> BootEntry | None:
    """What the loader would boot on its own: the first of its order, even an exhausted one when there is no other."""
    return next(iter(sort_entries(entries)), None)


def _compare_entries(a: BootEntry, b: BootEntry) -> int:
    if a.exhausted != b.exhausted:
        return 1 if a.exhausted else -1
    if a.image != b.image:
        return -1 if a.image < b.image else 1
    # The loader folds the case of the name, which it compares after the version.
    ranked = compare(str(b.version), str(a.version)) or compare(_folded_name(b), _folded_name(a))
    if ranked or a.tries_left is None or b.tries_left is None:
        return ranked
    key_a, key_b = (-a.tries_left, a.tries_done or 0), (-b.tries_left, b.tries_done or 0)
    return (key_a > key_b) - (key_a < key_b)


def _folded_name(entry: BootEntry) -> str:
    return entry.as_blessed().file_name.lower()
