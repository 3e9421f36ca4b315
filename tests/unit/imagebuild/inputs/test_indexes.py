"""The source of a package: Debian, unless a source lists it; and the part of an index that apt sees."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagebuild.definition.sources import DEBIAN, LOCAL
from imagebuild.errors import BuildError, RefusedInputError
from imagebuild.inputs.indexes import names_in, owners, rows_of, shown_to_apt


def paragraph(name: str, version: str = "1", *more: str) -> str:
    lines = (f"Package: {name}", f"Version: {version}", "Architecture: amd64", f"Filename: pool/{name}.deb", "Size: 3")
    return "\n".join((*lines, f"SHA256: {'a' * 64}", *more)) + "\n"


def index(*paragraphs: str) -> bytes:
    return "\n".join(paragraphs).encode()


def test_debian_wins_whatever_versions_others_offer() -> None:
    found = owners([(DEBIAN, {"jq"}), ("tools", {"jq", "probe"})], listed={}, local=())
    assert found == {"jq": DEBIAN, "probe": "tools"}


def test_of_two_sources_the_first_wins() -> None:
    found = owners([(DEBIAN, set()), ("a", {"probe"}), ("b", {"probe"})], listed={}, local=())
    assert found == {"probe": "a"}


def test_a_listed_package_comes_from_its_source_alone() -> None:
    found = owners([(DEBIAN, {"jq"}), ("a", {"jq"}), ("b", {"jq"})], listed={"jq": "b"}, local=())
    assert found == {"jq": "b"}


def test_the_definitions_own_file_wins_over_all() -> None:
    found = owners([(DEBIAN, {"jq"}), ("a", {"jq"})], listed={"jq": "a"}, local=("jq",))
    assert found == {"jq": LOCAL}


def test_a_source_that_lacks_what_it_lists_is_an_error() -> None:
    with pytest.raises(BuildError, match=r"does not have what it lists: probe \(tools\)"):
        owners([(DEBIAN, {"probe"}), ("tools", {"jq"})], listed={"probe": "tools"}, local=())


def test_apt_sees_each_package_in_one_index_only() -> None:
    both = index(paragraph("jq"), paragraph("probe"), paragraph("probe", "2"))
    owner = {"jq": DEBIAN, "probe": "tools"}
    assert names_in(shown_to_apt(both, DEBIAN, owner)) == {"jq"}
    assert names_in(shown_to_apt(both, "tools", owner)) == {"probe"}
    assert [row.version for row in rows_of(shown_to_apt(both, "tools", owner), ("probe",))] == ["1", "2"]


@pytest.mark.parametrize("line", ["Essential: yes", "Important: yes", "Protected: yes"])
def test_nothing_of_a_source_is_installed_because_it_calls_itself_essential(line: str) -> None:
    text = index(paragraph("probe", "1", line, "Description: x"))
    shown = shown_to_apt(text, "tools", {"probe": "tools"})
    assert line.encode() not in shown
    assert b"Description: x" in shown
    assert line.encode() in shown_to_apt(text, DEBIAN, {"probe": DEBIAN})


def test_a_row_is_read_with_what_the_lock_needs_of_it() -> None:
    (row,) = rows_of(index(paragraph("jq"), paragraph("probe")), ("probe",))
    assert (row.name, row.path, row.size_bytes, row.sha256) == ("probe", "pool/probe.deb", 3, "a" * 64)


NAMES = st.sets(st.sampled_from(["a", "b", "c", "d"]))


@given(debian=NAMES, one=NAMES, two=NAMES)
def test_no_source_ever_replaces_a_package_of_debian_unasked(debian: set[str], one: set[str], two: set[str]) -> None:
    found = owners([(DEBIAN, debian), ("one", one), ("two", two)], listed={}, local=())
    assert {name for name, source in found.items() if source == DEBIAN} == debian
    assert found.keys() == debian | one | two


@pytest.mark.parametrize(
    ("old", "new"), [("Size: 3", "Size: three"), ("Architecture: amd64\n", ""), ("Filename", "File")]
)
def test_an_entry_with_a_field_that_cannot_be_or_without_one_is_refused_by_name(old: str, new: str) -> None:
    broken = paragraph("jq").replace(old, new)
    assert broken != paragraph("jq")
    with pytest.raises(RefusedInputError, match="Package: jq"):
        list(rows_of(index(broken), ["jq"]))


def test_a_name_that_no_package_has_is_passed_over() -> None:
    assert names_in(b"Package: j\xff\n\nPackage: jq\n") == {"jq"}
