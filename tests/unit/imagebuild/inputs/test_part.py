from __future__ import annotations

from pathlib import Path

import pytest

from imagebuild.errors import RefusedInputError
from imagebuild.inputs.archive import index_path
from imagebuild.inputs.part import Described, part_of, reachable, read_index
from tests.fakes.definitions import package, selection_of

INDEX = """\
Package: base-files
Pre-Depends: mawk | awk
Essential: yes

Package: gawk
Provides: awk

Package: systemd
Depends: libc6 (>= 2.38), libmount1 (= 2.41), dbus-bus | no-bus, perl:any
Recommends: podman

Package: libc6

Package: libmount1
Depends: libc6

Package: dbus-broker
Provides: dbus-bus (= 1)

Package: perl

Package: podman
Depends: crun

Package: crun

Package: coreutils
Essential: yes
"""


def part(*names: str) -> frozenset[str]:
    return reachable(read_index(INDEX.encode()), names)


def test_dependencies_are_followed_and_recommendations_are_not() -> None:
    assert part("systemd") == {"dbus-broker", "libc6", "libmount1", "perl", "systemd"}


def test_every_alternative_is_followed() -> None:
    assert part("base-files") == {"base-files", "gawk"}


def test_nothing_is_part_of_a_selection_because_debian_puts_it_everywhere() -> None:
    assert part() == frozenset()


def test_a_name_that_nothing_brings_is_passed_over() -> None:
    assert part("no-such-package", "crun") == {"crun"}


def test_circles_end() -> None:
    nothing: frozenset[str] = frozenset()
    index = {
        "a": Described(frozenset({"b"}), nothing),
        "b": Described(frozenset({"a"}), nothing),
    }
    assert reachable(index, ("a",)) == {"a", "b"}


@pytest.mark.parametrize(
    ("changed", "same"), [("crun", True), ("coreutils", True), ("libc6", False), ("dbus-broker", False)]
)
def test_a_part_changes_with_what_it_can_hold_and_with_nothing_else(
    tmp_path: Path, changed: str, *, same: bool
) -> None:
    path = index_path(tmp_path, "trixie")
    path.parent.mkdir(parents=True)
    path.write_text(INDEX)
    names = sorted(read_index(INDEX.encode()))
    before = selection_of(*(package(name) for name in names))
    after = selection_of(*(package(name, version="2" if name == changed else "1") for name in names))
    digests = {part_of(each, ("systemd",), archive=tmp_path).digest for each in (before, after)}
    assert (len(digests) == 1) == same


def test_an_entry_without_a_name_is_refused() -> None:
    with pytest.raises(RefusedInputError, match="cannot be read"):
        read_index(b"Depends: libc6\n")
