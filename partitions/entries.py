"""Boot entries: the names of UKIs in `/EFI/Linux`.

A name is `<image>_<version>.efi` (blessed: no counter) or `<image>_<version>+L-D.efi` with L tries left and D tries
done, one digit each, so that the loader's rename never changes the name's length.
Sources: Boot Loader Specification, "Type #2 EFI Unified Kernel Images" and "Boot counting"; systemd, "Automatic Boot
Assessment".

Pure: no I/O.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from partitions.version import Version

ENTRIES_FOLDER = "EFI/Linux"
SUFFIX = ".efi"
TEMPORARY_SUFFIX = ".new"
DEFAULT_TRIES = 3
MAX_TRIES = 9

_IMAGE = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_NAME = re.compile(r"(?P<image>[^_]+)_(?P<version>[^_+]+)(?:\+(?P<left>[0-9])-(?P<done>[0-9]))?\.efi")


@dataclass(frozen=True)
class BootEntry:
    """One UKI: which image and version it boots, and its boot counter when it has one.

    `tries_left` and `tries_done` are both None (blessed) or both from 0 to 9.
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
        for name, tries in (("tries_left", self.tries_left), ("tries_done", self.tries_done)):
            if tries is not None and not 0 <= tries <= MAX_TRIES:
                raise ValueError(f"{name} must be from 0 to {MAX_TRIES}, not {tries}")

    @property
    def file_name(self) -> str:
        """The name under which the loader finds the entry in this state."""
        counter = "" if self.tries_left is None else f"+{self.tries_left}-{self.tries_done}"
        return f"{self.image}_{self.version}{counter}{SUFFIX}"

    @property
    def loader_pattern(self) -> str:
        """The value of `LoaderEntryOneShot` that chooses this entry, a pattern for the loader to match with entry ids.

        The id of a counted entry is the whole file name in older loaders and lacks the counter in newer ones.  The
        loader on a disk may be older or newer than the running image, so the pattern matches both forms and no other
        version.
        Source: systemd, `boot_entry_parse_tries`, `efi_fnmatch` and pull request 38897.
        """
        if self.tries_left is None:
            return self.file_name
        return f"{self.image}_{self.version}[+.][0-9e][-f][0-9i]*"

    @property
    def temporary_name(self) -> str:
        """A name for the same UKI that the loader ignores: it only reads names that end in `.efi`."""
        return f"{self.file_name}{TEMPORARY_SUFFIX}"

    @property
    def blessed(self) -> bool:
        """Proven healthy: the loader no longer counts its boots."""
        return self.tries_left is None

    @property
    def trial(self) -> bool:
        """Counted, with tries left."""
        return self.tries_left is not None and self.tries_left > 0

    @property
    def exhausted(self) -> bool:
        """Counted, no tries left: the loader boots it only when there is nothing else."""
        return self.tries_left == 0

    def as_trial(self, tries: int = DEFAULT_TRIES) -> BootEntry:
        """The same UKI, not tried yet, with `tries` (1 to 9) boots left to become healthy.

        Raises:
            ValueError: `tries` is not from 1 to 9.
        """
        if not 1 <= tries <= MAX_TRIES:
            raise ValueError(f"tries must be from 1 to {MAX_TRIES}, not {tries}")
        return replace(self, tries_left=tries, tries_done=0)

    def as_blessed(self) -> BootEntry:
        """The same UKI without a counter."""
        return replace(self, tries_left=None, tries_done=None)


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
