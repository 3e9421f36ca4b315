"""Boot entry names, and the order in which the loader that other tests boot with takes them."""

from __future__ import annotations

import fnmatch
from dataclasses import replace
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from partitions.entries import BootEntry, first_choice, parse_entry, second_choice
from partitions.version import Version
from tests.fakes.loader import selected, sort_entries

IMAGES = st.from_regex(r"[a-z0-9][a-z0-9-]{0,12}", fullmatch=True)
VERSIONS = st.from_regex(r"[0-9A-Za-z][0-9A-Za-z.~^-]{0,10}", fullmatch=True).map(Version)
TRIES = st.integers(min_value=0, max_value=9)
ENTRIES = st.one_of(
    st.builds(BootEntry, IMAGES, VERSIONS),
    st.builds(BootEntry, IMAGES, VERSIONS, TRIES, st.integers(min_value=0, max_value=99)),
)


def entry(name: str) -> BootEntry:
    parsed = parse_entry(name)
    assert parsed is not None
    return parsed


@given(ENTRIES)
def test_name_tells_the_whole_entry(one: BootEntry) -> None:
    assert parse_entry(one.file_name) == one


@given(st.text(alphabet="abA1._+-~^/ 0fie\n", max_size=20).map(lambda text: text + ".efi"))
def test_a_name_that_is_read_is_the_name_that_is_written(name: str) -> None:
    found = parse_entry(name)
    assert found is None or found.file_name == name


def test_states() -> None:
    assert entry("host_1.0.0.efi").blessed
    assert entry("host_1.0.0+3-0.efi").trial
    assert entry("host_1.0.0+0-3.efi").exhausted
    assert not entry("host_1.0.0+0-3.efi").trial


def test_a_guarded_entry_is_blessed_and_stays_it_while_the_loader_counts() -> None:
    names = ("host_1.0.0+3-6.efi", "host_1.0.0+2-7.efi", "host_1.0.0+1-8.efi", "host_1.0.0+0-9.efi")
    for name in (*names, "host_1.0.0+0-10.efi"):
        one = entry(name)
        assert (one.guarded, one.blessed, one.trial) == (True, True, False)
    assert entry("host_1.0.0.efi").as_guarded().file_name == names[0]
    assert entry("host_1.0.0.efi").as_given_up().file_name == names[-1]
    assert not entry("host_1.0.0.efi").guarded


@given(st.integers(min_value=1, max_value=8), st.data())
def test_a_trial_never_looks_like_a_guarded_entry_while_it_has_tries(tries: int, data: st.DataObject) -> None:
    done = data.draw(st.integers(min_value=0, max_value=tries - 1))
    assert BootEntry("host", Version("1"), tries - done, done).trial


def test_the_second_choice_is_what_the_first_is_not() -> None:
    def choices(*names: str) -> tuple[str, str]:
        first, second = first_choice(map(entry, names)), second_choice(map(entry, names))
        assert first is not None
        assert second is not None
        return first.file_name, second.file_name

    assert choices("h_1.efi", "h_2+3-6.efi") == ("h_2+3-6.efi", "h_1.efi")
    assert choices("h_1.efi", "h_2+3-0.efi") == ("h_2+3-0.efi", "h_1.efi")
    assert choices("h_1.efi", "h_2+0-3.efi") == ("h_1.efi", "h_2+0-3.efi")
    assert choices("h_1.efi", "h_2+0-9.efi") == ("h_1.efi", "h_2+0-9.efi")
    assert choices("h_1.efi") == ("h_1.efi", "h_1.efi")
    assert second_choice(()) is None


@given(st.lists(ENTRIES, min_size=1, max_size=4, unique_by=lambda one: one.version))
def test_the_first_choice_is_the_loaders(entries: list[BootEntry]) -> None:
    same_image = [replace(one, image="host") for one in entries]
    assert first_choice(same_image) == selected(same_image)


def test_changes_of_state_change_only_the_counter() -> None:
    one = entry("host_1.0.0+1-2.efi")
    assert one.as_trial().file_name == "host_1.0.0+3-0.efi"
    assert one.as_blessed().file_name == "host_1.0.0.efi"


def test_counted_names_have_one_length() -> None:
    assert {len(entry("host_1.0.0.efi").as_trial(tries).file_name) for tries in range(1, 9)} == {18}


def test_temporary_name_is_not_scanned() -> None:
    temporary = entry("host_1.0.0+3-0.efi").temporary_name
    assert not temporary.lower().endswith(".efi")
    assert parse_entry(temporary) is None


@pytest.mark.parametrize("tries", [-1, 0, 9])
def test_impossible_number_of_tries_is_refused(tries: int) -> None:
    with pytest.raises(ValueError, match="tries must be from 1 to 8"):
        entry("host_1.0.0.efi").as_trial(tries)


def test_half_a_counter_is_refused() -> None:
    with pytest.raises(ValueError, match="both"):
        BootEntry("host", Version("1"), 3, None)
    with pytest.raises(ValueError, match="3 left and 100 done"):
        BootEntry("host", Version("1"), 3, 100)
    with pytest.raises(ValueError, match="image name"):
        BootEntry("Host", Version("1"))


@pytest.mark.parametrize(
    "name",
    [
        *("", ".efi", "host.efi", "_1.efi", "host_.efi", "host_1", "host_1.EFI", "HOST_1.efi", "host_1_2.efi"),
        *("host_1+3.efi", "host_1+10-0.efi", "host_1+-1-0.efi", "host_1+3-0+3-0.efi", "host_1.efi.new"),
        *("../host_1.efi", "host_1/2.efi", "host_1.efi\n", "host_1+٣-0.efi"),
    ],
)
def test_foreign_names_are_not_ours(name: str) -> None:
    assert parse_entry(name) is None


ORDERED = (
    *("host_2.0.0+3-0.efi", "host_2.0.0+2-1.efi", "host_1.10.0.efi", "host_1.9.0+1-2.efi", "host_1.0.0~rc1.efi"),
    *("host_3.0.0+0-3.efi", "host_1.0.0+0-0.efi"),
)


def test_order_is_the_loaders_whatever_the_order_of_the_folder() -> None:
    for names in list(permutations(ORDERED))[::97]:
        assert [one.file_name for one in sort_entries(map(entry, names))] == list(ORDERED)


def test_newer_trial_wins_over_blessed() -> None:
    assert selected(map(entry, ["host_1.0.0.efi", "host_1.0.1+3-0.efi"])) == entry("host_1.0.1+3-0.efi")


def test_exhausted_trial_loses_to_the_older_blessed() -> None:
    assert selected(map(entry, ["host_1.0.1+0-3.efi", "host_1.0.0.efi"])) == entry("host_1.0.0.efi")


def test_exhausted_entry_boots_when_alone() -> None:
    assert selected([entry("host_1.0.1+0-3.efi")]) == entry("host_1.0.1+0-3.efi")


def test_nothing_boots_from_an_empty_folder() -> None:
    assert selected([]) is None


@given(st.lists(ENTRIES, max_size=6))
def test_an_entry_with_tries_never_loses_to_an_exhausted_one(entries: list[BootEntry]) -> None:
    chosen = selected(entries)
    assert chosen is None or not chosen.exhausted or all(one.exhausted for one in entries)


@pytest.mark.parametrize("name", ["host_1.0.0+3-0.efi", "host_1.0.0+0-3.efi", "host_1.0.0+0-10.efi", "host_1.0.0.efi"])
def test_the_loader_pattern_of_a_counted_entry_fits_its_id_with_and_without_counter(name: str) -> None:
    pattern = BootEntry("host", Version.from_text("1.0.0")).as_trial().loader_pattern
    assert fnmatch.fnmatchcase(name, pattern)


@pytest.mark.parametrize("version", ["1.0.01", "1.0.0.1", "1.0.0-1", "1.0.0~rc1", "1.0", "11.0.0"])
def test_the_loader_pattern_of_a_counted_entry_fits_no_other_version(version: str) -> None:
    pattern = BootEntry("host", Version.from_text("1.0.0")).as_trial().loader_pattern
    other = BootEntry("host", Version.from_text(version))
    assert not fnmatch.fnmatchcase(other.file_name, pattern)
    assert not fnmatch.fnmatchcase(other.as_trial().file_name, pattern)
