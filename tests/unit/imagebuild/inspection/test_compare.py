"""What differs between two builds."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from bedrock import strict
from imagebuild.definition.drivers import Drivers
from imagebuild.inspection.compare import compare
from imagebuild.inspection.costs import Cost
from imagebuild.inspection.drivers import DriverSet
from imagebuild.inspection.render import show_comparison, show_inspection
from imagebuild.inspection.report import Inspection, PackageCost, folder_of
from partitions.version import Version


def brought(name: str, version: str | None, size: int) -> PackageCost:
    return PackageCost(name, version, 1, Cost(size, size // 2), ("every Twinhull image", name))


OLD = Inspection(
    image="host",
    version=Version.from_text("1.0"),
    wire_bytes=100,
    uki_bytes=40,
    initrd_bytes=20,
    root_bytes=60,
    packages=2,
    artifacts={"uki.efi": Cost(40, 40), "root.erofs": Cost(90, 60)},
    brought=(brought("podman", "5", 60), brought("gone", "1", 8), brought("same", "1", 4)),
    trimmed=("perl-base",),
    folders={"/usr/bin": Cost(60, 30)},
    executables=tuple(f"/usr/bin/{number:02}" for number in range(20)),
    setuid=(),
    units=("a.service",),
    enabled=("a.service",),
    sockets={"b.socket": ("/run/b",)},
    drivers={},
    built_drivers=Drivers.CLOUD,
    modules={"fs/ext4": 7},
    kernel_arguments=("ro", "quiet"),
)
NEW = replace(
    OLD,
    version=Version.from_text("1.1"),
    wire_bytes=110,
    brought=(brought("podman", "6", 80), brought("new [odd]", "1", 6), brought("same", "1", 4)),
    setuid=("/usr/bin/su",),
    kernel_arguments=("ro",),
)


def test_packages_and_names_that_differ_are_told() -> None:
    found = compare(OLD, NEW)
    assert [(each.name, each.old_version, each.new_version, each.raw_bytes) for each in found.packages] == [
        ("gone", "1", None, -8),
        ("new [odd]", None, "1", 6),
        ("podman", "5", "6", 20),
    ]
    assert (found.wire_bytes, found.download_bytes) == (10, 110)
    assert found.names["setuid"].added == ("/usr/bin/su",)
    assert found.names["kernel_arguments"].removed == ("quiet",)
    assert found.names["units"].added == ()


def test_a_build_beside_itself_differs_in_nothing() -> None:
    found = compare(OLD, OLD)
    assert found.packages == ()
    assert not any(change.added or change.removed for change in found.names.values())


def test_both_are_shown_to_people(capsys: pytest.CaptureFixture[str]) -> None:
    show_inspection(OLD, everything=False)
    short = capsys.readouterr().out
    assert "podman 5" in short
    assert "every Twinhull image" in short
    assert "5 more (--all)" in short
    show_inspection(OLD, everything=True)
    assert "/usr/bin/19" in capsys.readouterr().out
    show_comparison(compare(OLD, NEW))
    told = capsys.readouterr().out
    assert "5 → 6" in told
    assert "new [odd]" in told
    assert "+ /usr/bin/su" in told


@pytest.mark.parametrize(
    ("path", "folder"), [("/usr/bin/a", "/usr/bin"), ("/usr/lib/x/y/z", "/usr/lib/x"), ("/init", "/")]
)
def test_files_are_counted_to_folders_of_bounded_depth(path: str, folder: str) -> None:
    assert folder_of(path) == folder


SETS = {name: DriverSet(number, Cost(number, number), ()) for number, name in enumerate(("cloud", "server", "all"), 1)}


@pytest.mark.parametrize(
    ("built", "marks"),
    [
        (Drivers.CLOUD, [True, False, False]),
        (Drivers.SERVER, [True, True, False]),
        (Drivers.ALL, [True, True, True]),
        (None, [False, False, False]),
    ],
)
def test_the_drivers_that_an_image_has_are_marked(
    built: Drivers | None, marks: list[bool], capsys: pytest.CaptureFixture[str]
) -> None:
    found = replace(OLD, drivers=SETS, built_drivers=built)
    show_inspection(found, everything=False)
    shown = [line for line in capsys.readouterr().out.splitlines() if re.search(r"[0-9] modules, ", line)]
    assert [line.endswith(", in this image") for line in shown] == marks
    assert [line.endswith(", not in this image") for line in shown] == [
        built is not None and not each for each in marks
    ]
    assert json.loads(strict.dump_json(found))["built_drivers"] == (built.value if built else None)
