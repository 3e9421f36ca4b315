"""Setuid and setgid programs: those that remain, and those that lost the bits.

Pure.  Bits are removed while the package tree is made (`setuid.finalize`); a script of the definition can set some
afterwards, so the finished tree is checked as well.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from imagebuild.errors import BuildError
from imagebuild.inspection.contents import Contents, EntryKind

_SETUID = 0o6000


def setuid_programs(contents: Contents) -> tuple[str, ...]:
    """The files of the image with a setuid or setgid bit."""
    return tuple(entry.path for entry in contents.entries if entry.kind is EntryKind.FILE and entry.mode & _SETUID)


def require_expected(contents: Contents, kept: Collection[str]) -> None:
    """Make sure that only the programs `kept` have such bits.

    Raises:
        BuildError: Another one has.
    """
    if unexpected := [path for path in setuid_programs(contents) if path not in kept]:
        raise BuildError(f"a script of the definition left setuid programs: {', '.join(unexpected)}").with_hint(
            "name them in hardening.setuid of image.yaml if they need the bit"
        )


def stripped_notes(contents: Contents, stripped: Iterable[str]) -> Iterator[str]:
    """A line per package of the definition's own whose programs lost their bits, because its author may miss them."""
    owners = {entry.path: entry.owner for entry in contents.entries}
    losses: dict[str, list[str]] = {}
    for path in stripped:
        owner = owners.get(path, "")
        if contents.asked.get(owner) == "image.yaml: packages":
            losses.setdefault(owner, []).append(path)
    for owner, paths in losses.items():
        yield f"{owner}: not setuid here: {', '.join(paths)} (hardening.setuid in image.yaml keeps the bit)"
