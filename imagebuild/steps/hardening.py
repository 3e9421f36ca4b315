"""Applies `hardening:` of the definition: files to add, and programs that lose their bits."""

from __future__ import annotations

from pathlib import Path

from imagebuild.definition.hardening import Hardening
from imagebuild.errors import BuildError
from imagebuild.paths import DATA
from imagebuild.steps.checkout import copy_files

_STRIPPED = "stripped"


def write_hardening(hardening: Hardening, tree: Path, data: Path = DATA) -> None:
    """Copy the files of each enabled part from `data` into the tree at `tree`."""
    for name, on in (("sysctl", hardening.sysctl), ("mounts", hardening.mounts)):
        if on:
            copy_files(data / "hardening" / name, tree)


def stripped_programs(output: Path) -> tuple[str, ...]:
    """The programs that lost their setuid or setgid bits or their file capabilities when mkosi filled `output`.

    Raises:
        BuildError: There is no record of them.
    """
    path = output / _STRIPPED
    if not path.is_file():
        raise BuildError("mkosi left no record of setuid programs")
    return tuple(line.partition(" ")[2] for line in path.read_text().splitlines())
