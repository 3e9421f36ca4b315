"""Boot entries: the names of UKIs in `/EFI/Linux`.

A name is `<image>_<version>.efi` (blessed: no counter) or `<image>_<version>+L-D.efi` with L tries left and D tries
done, one digit each, so that the loader's rename does not change the name's length.

While tries are left, the loader's rename keeps the sum of the two, so it says what the counter is for: a trial's is at
most 8, and 9 marks a *guarded* entry.  That one is blessed, and counted nevertheless: each boot that becomes healthy
sets it back to `+3-6`, so that after three boots that did not the loader is on the other slot.  An entry without tries
that is started all the same, because there is nothing else, goes on counting those done.
Sources: Boot Loader Specification, "Type #2 EFI Unified Kernel Images" and "Boot counting"; systemd, "Automatic Boot
Assessment".

Pure: no I/O.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from partitions.version import Version

ENTRIES_FOLDER = "EFI/Linux"
SUFFIX = ".efi"
# What a UKI is called while it is written: as long as its name, so that the last rename needs no more room.
TEMPORARY_SUFFIX = ".new"
DEFAULT_TRIES = 3
MAX_TRIES = 8
GUARD_TRIES = 3
GUARD_TOTAL = 9
_LEFT_MAX, _DONE_MAX = 9, 99

_IMAGE = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_NAME = re.compile(r"(?P<image>[^_]+)_(?P<version>[^_+]+)(?:\+(?P<left>[0-9])-(?P<done>[0-9]|[1-9][0-9]))?\.efi")


@dataclass(frozen=True)
class BootEntry:
    """One UKI: which image and version it boots, and its boot counter when it has one.

    `tries_left` and `tries_done` are both None (blessed), or from 0 to 9 and from 0 to 99.
    """

    image: str
    version: Version
    tries_left: int | None = None
    tries_done: int | None = None

    def __post_init__(self) -> None:
        if not _IMAGE.fullmatch(self.image):
            raise ValueError(f"{self.image!r} is not an image name of a-z, 0-9 and -, at most 63 long")
        if (self.tries_left is None) != (self.tries_done is None):
            raise ValueError("a boot counter needs both tries left and tries done")
        if not 0 <= (self.tries_left or 0) <= _LEFT_MAX or not 0 <= (self.tries_done or 0) <= _DONE_MAX:
            raise ValueError(f"a boot counter of {self.tries_left} left and {self.tries_done} done is not possible")

    @property
    def file_name(self) -> str:
        """The name under which the loader finds the entry in this state."""
        counter = "" if self.tries_left is None else f"+{self.tries_left}-{self.tries_done}"
        return f"{self.image}_{self.version}{counter}{SUFFIX}"

    @property
    def loader_pattern(self) -> str:
        """A pattern that chooses this entry by its id, whatever its counter is, for the loader to match.

        It is for `LoaderEntryOneShot` and for `default` in loader.conf.  The id of a counted entry is the whole file
        name in older loaders and lacks the counter in newer ones.  The loader on a disk may be older or newer than the
        running image, and a counter may change before the pattern is used, so it matches all forms and no other
        version.
        Source: systemd, `boot_entry_parse_tries`, `efi_fnmatch` and pull request 38897.
        """
        return f"{self.image}_{self.version}[+.][0-9e][-f][0-9i]*"

    @property
    def temporary_name(self) -> str:
        """A name for the same UKI that the loader ignores: it only reads names that end in `.efi`."""
        return self.file_name.removesuffix(SUFFIX) + TEMPORARY_SUFFIX

    @property
    def guarded(self) -> bool:
        """Proven healthy, and counted as long as another proven entry exists."""
        if self.tries_left is None or self.tries_done is None:
            return False
        total = self.tries_left + self.tries_done
        return total == GUARD_TOTAL or (self.exhausted and total > GUARD_TOTAL)

    @property
    def blessed(self) -> bool:
        """Proven healthy: without a counter, or guarded."""
        return self.tries_left is None or self.guarded

    @property
    def trial(self) -> bool:
        """Not proven, with tries left."""
        return not self.blessed and not self.exhausted

    @property
    def exhausted(self) -> bool:
        """Counted, no tries left: the loader boots it only when there is nothing else."""
        return self.tries_left == 0

    def as_trial(self, tries: int = DEFAULT_TRIES) -> BootEntry:
        """The same UKI, not tried yet, with `tries` (1 to 8) boots left to become healthy.

        Raises:
            ValueError: `tries` is not from 1 to 8.
        """
        if not 1 <= tries <= MAX_TRIES:
            raise ValueError(f"tries must be from 1 to {MAX_TRIES}, not {tries}")
        return replace(self, tries_left=tries, tries_done=0)

    def as_blessed(self) -> BootEntry:
        """The same UKI without a counter."""
        return replace(self, tries_left=None, tries_done=None)

    def as_guarded(self) -> BootEntry:
        """The same UKI with all the tries of a guarded entry."""
        return replace(self, tries_left=GUARD_TRIES, tries_done=GUARD_TOTAL - GUARD_TRIES)

    def as_given_up(self) -> BootEntry:
        """The same UKI, proven, without tries left: the loader prefers every other entry."""
        return replace(self, tries_left=0, tries_done=GUARD_TOTAL)


def parse_entry(file_name: str) -> BootEntry | None:
    """Parse the name of a file in `/EFI/Linux`; None for a name that is not exactly one of ours.

    The `file_name` of the result always equals the argument.
    """
    match = _NAME.fullmatch(file_name)
    if match is None:
        return None
    left, done = match["left"], match["done"]
    try:
        return BootEntry(
            image=match["image"],
            version=Version.from_text(match["version"]),
            tries_left=None if left is None else int(left),
            tries_done=None if done is None else int(done),
        )
    except ValueError:
        return None


def first_choice(entries: Iterable[BootEntry]) -> BootEntry | None:
    """What the loader on the ESP starts: the newest version with tries left, else the newest without.

    All entries are of one image, and of each version there is one.
    Source: systemd-boot, `boot_entry_compare`.
    """
    return max(entries, key=lambda entry: (not entry.exhausted, entry.version), default=None)


def second_choice(entries: Iterable[BootEntry]) -> BootEntry | None:
    """What is to be started when the first choice is not: a proven version, else any other, else the same again."""
    known = tuple(entries)
    first = first_choice(known)
    if first is None:
        return None
    others = [entry for entry in known if entry.version != first.version]
    return max(others, key=lambda entry: (entry.blessed, not entry.exhausted, entry.version), default=first)


def spare_choice(entries: Iterable[BootEntry]) -> BootEntry | None:
    """The proven version that the ESP keeps as well, without a counter: one that is not guarded, the oldest of them.

    The loader takes a spare for an entry like any other, so it must never be what the names elsewhere speak against.
    """
    proven = [entry for entry in entries if entry.blessed and not entry.exhausted]
    best = min(proven, key=lambda entry: (entry.guarded, entry.version), default=None)
    return None if best is None else best.as_blessed()


def parse_temporary(file_name: str) -> BootEntry | None:
    """The entry that a file of this name was to become; None when it is not a temporary name of ours."""
    if not file_name.endswith(TEMPORARY_SUFFIX):
        return None
    return parse_entry(file_name.removesuffix(TEMPORARY_SUFFIX) + SUFFIX)
