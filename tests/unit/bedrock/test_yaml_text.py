"""YAML that is deep, endless, or comes to more than it holds."""

from __future__ import annotations

import pytest

from bedrock import yaml_text


def refused(text: str) -> str:
    with pytest.raises(ValueError, match="column") as caught:
        yaml_text.load(text)
    return str(caught.value)


@pytest.mark.parametrize("text", ["[" * 1000 + "]" * 1000, "- " * 1000 + "x", "{a: " * 1000 + "}" * 1000])
def test_a_thousand_lists_in_each_other_are_refused(text: str) -> None:
    assert "nested" in refused(text)


def test_what_people_nest_is_read() -> None:
    assert yaml_text.load("[" * 30 + "]" * 30) is not None


def test_aliases_are_read() -> None:
    assert yaml_text.load("a: &a {k: [1]}\nb: [*a, *a]\n") == {"a": {"k": [1]}, "b": [{"k": [1]}, {"k": [1]}]}


def bomb(first: str, link: str) -> str:
    return f"l0: &l0 {first}\n" + "".join(
        f"l{n}: &l{n} {link}\n".replace("%", ",".join([f"*l{n - 1}"] * 10)) for n in range(1, 13)
    )


@pytest.mark.parametrize(
    "text",
    [
        bomb("[x]", "[%]"),
        bomb("{k: v}", "{<<: [%]}"),
        "a: &a [" + "x," * 1000 + "]\nb: [" + "*a," * 1000 + "]\n",
    ],
    ids=["lists", "merged mappings", "wide"],
)
def test_aliases_that_stand_for_a_flood_are_refused(text: str) -> None:
    assert "aliases" in refused(text)


@pytest.mark.parametrize("text", ["&a [*a]", "&a {b: *a}", "&a\n<<: *a\n", "&a {? *a : b}"])
def test_what_holds_itself_is_refused(text: str) -> None:
    assert "what it is in" in refused(text)


@pytest.mark.parametrize(
    "value", ["!!int x", "!!int ''", "!!float x", "!!bool x", "0b_", "9" * 5000, "!x y", "!!python/name:os", "*no"]
)
def test_a_value_that_is_none_is_refused_with_its_place(value: str) -> None:
    assert refused(f"a: {value}").startswith("line 1, column 4")


def test_mappings_are_not_merged() -> None:
    assert "<<" in refused("a: &a {k: v}\nb: {<<: *a}\n")


def test_a_date_stays_text_in_either_way_of_writing() -> None:
    assert yaml_text.load("[2024-05-06, !!timestamp 2024-05-06]") == ["2024-05-06"] * 2
