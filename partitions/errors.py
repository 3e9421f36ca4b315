"""Errors of the disk.

PartitionsError              1
├── BlockIOError             1  a device or an image file could not be opened, read, written or synced
├── FatError                 1  a FAT file system is damaged, or cannot do what was asked of it
├── GptError                 1  the partition table is missing, damaged or not laid out as expected
├── UkiError                 1  a file is not a UKI of a Twinhull image, or the copy that a slot keeps is damaged
└── VerityError              3  data or tree do not match the root hash
"""

from __future__ import annotations

from bedrock.errors import EXIT_REFUSED, TwinhullError


class PartitionsError(TwinhullError):
    """The root of this package's errors."""


class BlockIOError(PartitionsError):
    """A device or an image file could not be opened, read, written or synced."""


class FatError(PartitionsError):
    """A FAT file system is damaged, or cannot do what was asked of it."""


class GptError(PartitionsError):
    """The partition table is missing, damaged or not laid out as expected."""


class UkiError(PartitionsError):
    """A file is not a UKI of a Twinhull image, or the copy of one that a slot keeps is missing or damaged."""


class VerityError(PartitionsError):
    """Data or tree do not match the root hash; nothing may boot them.

    Attributes:
        block: Index of the first block that does not match, counted in 4096-byte blocks of the device named in the
            message; None when the superblock itself is wrong.
    """

    exit_code = EXIT_REFUSED

    def __init__(self, message: str, *, block: int | None = None) -> None:
        self.block = block
        super().__init__(message)
