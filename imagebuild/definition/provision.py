"""`provision:` of `image.yaml`: which configuration a host accepts, enforced by `updater.provision.policy`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated

from bedrock import strict
from keys.errors import BadKeyError
from keys.public import read_ed25519
from updater.provision.policy import Policy, Unsigned, UpdaterFrom

KeyFile = Annotated[str, strict.Pattern(r"[^/\s][^\s]*", "a file of the definition's folder")]


@dataclass(frozen=True)
class ProvisionPolicy:
    """Which documents and credentials the image accepts.

    Attributes:
        unsigned: When unsigned documents and credentials count.
        signed_by: Public Ed25519 keys (files in the definition's folder); documents they signed count at every boot.
        updater: Which documents may set where updates come from.
    """

    unsigned: Unsigned = Unsigned.FIRST_BOOT
    signed_by: tuple[KeyFile, ...] = ()
    updater: UpdaterFrom = UpdaterFrom.ANY

    def __post_init__(self) -> None:
        for name in self.signed_by:
            if ".." in PurePosixPath(name).parts:
                raise ValueError(f"signed_by {name!r} must be a file inside the definition's folder")

    def problems(self, folder: Path) -> Iterator[tuple[str, str]]:
        """What is wrong with the key files of a definition in `folder`: where, and what."""
        for index, name in enumerate(self.signed_by):
            try:
                read_ed25519(folder / name)
            except BadKeyError as error:
                yield f"signed_by[{index}]", str(error)
            except OSError as error:
                yield f"signed_by[{index}]", f"{folder / name}: {error.strerror}"

    def baked(self, folder: Path) -> bytes:
        """The policy as the image carries it.

        Raises:
            BadKeyError: A file holds no public Ed25519 key.
            OSError: A file cannot be read.
        """
        keys = tuple(read_ed25519(folder / name) for name in self.signed_by)
        return strict.dump_json(Policy(unsigned=self.unsigned, keys=keys, updater=self.updater))
