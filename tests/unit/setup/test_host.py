"""Which host packages are requested, and the message for the user."""

from __future__ import annotations

import pytest

from setup import host
from setup.errors import SetupError
from setup.host import HostPackage, Probe

TREE = HostPackage("mmdebstrap", Probe.PROGRAM, "mmdebstrap", rootless_only=False, why="makes the tools tree")
NAMESPACES = HostPackage("uidmap", Probe.PROGRAM, "newuidmap", rootless_only=True, why="builds without root")


def test_the_list_of_this_repository_can_be_read() -> None:
    packages = host.parse_list(host.LIST.read_text())
    assert {"mmdebstrap", "python3-venv"} <= {package.name for package in packages}
    assert all(package.why for package in packages)


def test_comments_and_empty_lines_are_skipped() -> None:
    text = "# words\n\nmmdebstrap program:mmdebstrap everyone makes the tools tree\n"
    assert host.parse_list(text) == (TREE,)


@pytest.mark.parametrize(
    "line",
    [
        "mmdebstrap",
        "mmdebstrap program: everyone why",
        "mmdebstrap wish:x everyone why",
        "mmdebstrap program:x somebody why",
        "mmdebstrap program:x everyone",
    ],
)
def test_a_line_that_is_not_understood_is_named_by_its_number(line: str) -> None:
    with pytest.raises(SetupError, match="host-packages:2"):
        host.parse_list(f"# first\n{line}\n")


def test_root_needs_no_packages_for_builds_without_root() -> None:
    nothing_there = lambda package: False  # noqa: E731 - reads as what it is
    assert host.missing((TREE, NAMESPACES), is_root=True, present=nothing_there) == (TREE,)
    assert host.missing((TREE, NAMESPACES), is_root=False, present=nothing_there) == (TREE, NAMESPACES)


def test_what_is_there_is_not_asked_for() -> None:
    assert host.missing((TREE, NAMESPACES), is_root=False, present=lambda package: package is TREE) == (NAMESPACES,)


def test_a_person_without_root_rights_gets_one_command() -> None:
    command = host.install_command((TREE, NAMESPACES))
    assert command.endswith("apt-get install -y --no-install-recommends mmdebstrap uidmap")
    assert "\n" not in command


def test_presence_is_seen_by_what_a_package_brings() -> None:
    assert host.is_present(HostPackage("x", Probe.MODULE, "json", rootless_only=False, why="x"))
    assert not host.is_present(HostPackage("x", Probe.MODULE, "no_such_module", rootless_only=False, why="x"))
    assert host.is_present(HostPackage("x", Probe.FILE, __file__, rootless_only=False, why="x"))
    assert not host.is_present(HostPackage("x", Probe.PROGRAM, "no-such-program", rootless_only=False, why="x"))
