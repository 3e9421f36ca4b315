"""Which limits are exceeded, and what is said of the growth behind it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from imagebuild.definition.image import Budget
from imagebuild.inspection.contents import AGENT, FORMAT, Contents, EntryKind, ImageEntry, Package
from imagebuild.pipeline.budget import (
    BootSizes,
    Earlier,
    Excess,
    Measure,
    OverrunContext,
    exceeded,
    growth,
    overrun_message,
    owner_bytes,
    signed_size,
    size,
)
from partitions.version import Version

BOOT = BootSizes("6.12.2", 11_000_000, 9_000_000, 20_000_000)
OWNERS = st.dictionaries(st.sampled_from(["podman", "crun", "zlib1g", AGENT]), st.integers(0, 1 << 30))


def contents(held: dict[str, int], *, version: str = "1.0.1", package_version: str = "1") -> Contents:
    """An image in which each owner has one file of this size, and `perl-base` was trimmed away."""
    return Contents(
        format=FORMAT,
        image="host",
        version=Version(version),
        asked={},
        packages=tuple(
            Package(name, package_version, "amd64", name, package_version, "", (), ())
            for name in (*(owner for owner in held if not owner.startswith("(")), "perl-base")
        ),
        entries=(
            ImageEntry("/usr", EntryKind.FOLDER, 0o755, 0, "perl-base"),
            *(
                ImageEntry(f"/usr/{owner}", EntryKind.FILE, 0o644, held_bytes, owner)
                for owner, held_bytes in held.items()
            ),
        ),
    )


def around(new: dict[str, int], old: dict[str, int] | None, *, package_version: str = "1") -> OverrunContext:
    earlier = contents(old, version="1.0.0") if old is not None else None
    before = Earlier(earlier, BootSizes("6.12.1", None, 8_000_000, 19_000_000)) if earlier else None
    return OverrunContext(contents(new, package_version=package_version), BOOT, before, (), "out/host")


def told(*over: Measure, within: OverrunContext) -> list[str]:
    return overrun_message("host 1.0.1", [Excess(measure, 110, 100) for measure in over], (), within).splitlines()


def test_a_limit_is_exceeded_only_above_it() -> None:
    budget = Budget(root=100, packages=3)
    assert exceeded(budget, {Measure.ROOT: 100, Measure.PACKAGES: 3}) == ()
    assert exceeded(budget, {Measure.ROOT: 101, Measure.PACKAGES: 4}) == (
        Excess(Measure.PACKAGES, 4, 3),
        Excess(Measure.ROOT, 101, 100),
    )


def test_what_has_no_limit_or_no_measure_is_not_exceeded() -> None:
    assert exceeded(Budget(), dict.fromkeys(Measure, 1 << 40)) == ()
    assert exceeded(Budget(uki=1), {Measure.WIRE: 5}) == ()


def test_an_excess_names_value_limit_and_difference() -> None:
    told = str(Excess(Measure.UKI, 27_262_977 + (1 << 20), 27_262_976))
    assert told == "uki: 28311553 bytes, the limit is 27262976: 1048577 (1.0 MiB) too many"
    assert str(Excess(Measure.PACKAGES, 122, 120)) == "packages: 122, the limit is 120: 2 too many"


def test_growth_names_new_and_vanished_owners_the_dearest_first() -> None:
    old = contents({"crun": 10, "podman": 100, "gone": 70, AGENT: 5})
    new = contents({"crun": 10, "podman": 130, "fresh": 40, AGENT: 9})
    assert [(each.owner, each.delta_bytes) for each in growth(old, new)] == [
        ("fresh", 40),
        ("podman", 30),
        (AGENT, 4),
        ("gone", -70),
    ]


@given(OWNERS, OWNERS)
def test_growth_adds_up_and_names_nobody_who_stayed_the_same(old: dict[str, int], new: dict[str, int]) -> None:
    changes = growth(contents(old), contents(new))
    assert sum(each.delta_bytes for each in changes) == sum(new.values()) - sum(old.values())
    assert {each.owner for each in changes} == {
        owner for owner in old.keys() | new.keys() if old.get(owner) != new.get(owner)
    }
    deltas = [each.delta_bytes for each in changes]
    assert deltas == sorted(deltas, reverse=True)


def test_a_folder_alone_makes_no_owner() -> None:
    assert owner_bytes(contents({"crun": 10})) == {"crun": 10}


def test_a_root_that_outgrew_its_limit_is_explained_by_package() -> None:
    within = around({"podman": 5 << 20, "fresh": 4096}, {"podman": 2 << 20, "gone": 10}, package_version="2")
    assert told(Measure.ROOT, within=within) == [
        "host 1.0.1 is over its budget",
        "root: 110 bytes, the limit is 100: 10 too many",
        "the files of the root filesystem against 1.0.0, +3.0 MiB in raw bytes:",
        "   +3.0 MiB  podman  1 → 2",
        "   +4.0 KiB  fresh  new",
        "  -10 bytes  gone  gone",
    ]


def test_too_many_packages_are_named_even_when_they_weigh_nothing() -> None:
    lines = told(Measure.PACKAGES, within=around({"podman": 5, "fresh": 0}, {"podman": 5, "gone": 0}))
    assert "packages new against 1.0.0: fresh" in lines
    assert "packages gone against 1.0.0: gone" in lines


def test_an_initrd_is_not_explained_by_packages_of_the_root() -> None:
    text = "\n".join(told(Measure.INITRD, within=around({"podman": 500}, {"podman": 5})))
    assert "initrd, whose files are not counted by package: 9000000 bytes, +976.6 KiB" in text
    assert "1.0.0, the build compared with, has the kernel 6.12.1" in text
    assert "podman" not in text


def test_without_an_earlier_build_the_largest_are_told() -> None:
    held = {f"p{number:02}": number for number in range(20)}
    lines = told(Measure.WIRE, within=around(held, None))
    assert "no earlier build of it is in out/host to compare with" in lines
    assert "the largest in the root filesystem, in raw bytes:" in lines
    assert lines[-1].strip() == "and 8 more"
    assert lines[-2].strip() == "8 bytes  p08"


def test_when_nothing_grew_the_largest_are_told() -> None:
    lines = told(Measure.ROOT, within=around({"podman": 5}, {"podman": 5}))
    assert "no package has another size than in 1.0.0" in lines
    assert lines[-1].strip() == "5 bytes  podman"


def test_what_was_not_measured_or_not_read_is_told() -> None:
    within = OverrunContext(contents({}), None, None, ("not compared with out/host/0.9: it is damaged",), "out/host")
    text = overrun_message("host 1.0.1", [Excess(Measure.INITRD, 2, 1)], [Measure.UKI, Measure.WIRE], within)
    assert text.splitlines()[2:] == [
        "not measured, because the build ended here: uki, wire",
        "not compared with out/host/0.9: it is damaged",
        "no earlier build of it is in out/host to compare with",
    ]


def test_sizes_are_told_in_powers_of_1024() -> None:
    assert (size(0), size(1023), size(1024), size(3 << 20)) == ("0 bytes", "1023 bytes", "1.0 KiB", "3.0 MiB")
    assert (signed_size(-2048), signed_size(0), signed_size(5)) == ("-2.0 KiB", "unchanged", "+5 bytes")
