"""Indexes of packages (`Packages`): which source brings a package, and which part of an index apt sees.

Pure: bytes in, values out.  Debian's own index has tens of thousands of paragraphs; only those that matter are parsed.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from debian.deb822 import Deb822

from imagebuild.definition.sources import DEBIAN, LOCAL
from imagebuild.errors import BuildError, RefusedInputError

_NAME = re.compile(rb"^Package: *([!-~]+)[ \t\r]*$", re.MULTILINE)
_BETWEEN = re.compile(rb"\n{2,}")
# apt installs packages with this mark without being asked.
_SELF_IMPORTANT = re.compile(rb"^(?:Essential|Important|Protected): .*\n?", re.MULTILINE)


@dataclass(frozen=True)
class Row:
    """An index's entry for one package."""

    name: str
    version: str
    architecture: str
    path: str
    size_bytes: int
    sha256: str | None


def names_in(index: bytes) -> frozenset[str]:
    """The packages that an index describes."""
    return frozenset(name.decode() for name in _NAME.findall(index))


def rows_of(index: bytes, names: Collection[str]) -> Iterator[Row]:
    """An index's entries for some packages, in all their versions.

    Raises:
        RefusedInputError: An entry lacks a field, or has one that cannot be.
    """
    for paragraph in _paragraphs(index, names):
        try:
            yield _row(Deb822(paragraph))
        except (KeyError, ValueError) as error:
            shown = paragraph.partition(b"\n")[0].decode(errors="replace")
            raise RefusedInputError(f"an index of packages cannot be read at {shown[:80]!r}: {error}") from error


def _row(fields: Mapping[str, str]) -> Row:
    return Row(
        name=fields["Package"],
        version=fields["Version"],
        architecture=fields["Architecture"],
        path=fields["Filename"],
        size_bytes=int(fields["Size"]),
        sha256=fields.get("SHA256"),
    )


def owners(
    offered: Iterable[tuple[str, Collection[str]]], *, listed: Mapping[str, str], local: Collection[str]
) -> dict[str, str]:
    """The one source that each package comes from.

    Args:
        offered: The names that each source has; Debian first, then in the definition's order.
        listed: The source of each package that a source lists.
        local: Names of the definition's own packages.

    Raises:
        BuildError: A source does not have what it lists.
    """
    there: dict[str, set[str]] = {}
    found: dict[str, str] = {}
    for source, names in offered:
        there.setdefault(source, set()).update(names)
        for name in names:
            found.setdefault(name, source)
    lacking = [f"{name} ({source})" for name, source in listed.items() if name not in there.get(source, ())]
    if lacking:
        raise BuildError(f"sources: a source does not have what it lists: {', '.join(sorted(lacking))}").with_hint(
            "look at its packages:, and at the suites and components it names"
        )
    return found | dict(listed) | dict.fromkeys(local, LOCAL)


def shown_to_apt(index: bytes, source: str, owner: Mapping[str, str]) -> bytes:
    """An index without the packages that come from another source; only Debian's may be essential."""
    kept = [
        paragraph
        for paragraph in _BETWEEN.split(index.strip(b"\n"))
        if (match := _NAME.search(paragraph)) and owner.get(match[1].decode()) == source
    ]
    if source != DEBIAN:
        kept = [_SELF_IMPORTANT.sub(b"", paragraph) for paragraph in kept]
    return b"".join(paragraph.rstrip(b"\n") + b"\n\n" for paragraph in kept)


def _paragraphs(index: bytes, names: Collection[str]) -> Iterator[bytes]:
    wanted = {name.encode() for name in names}
    for paragraph in _BETWEEN.split(index.strip(b"\n")):
        if (match := _NAME.search(paragraph)) and match[1] in wanted:
            yield paragraph
