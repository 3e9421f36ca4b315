"""What the strict reader accepts, refuses, and how it says so."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from typing import Annotated

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedrock import strict
from bedrock.errors import EXIT_USAGE, DocumentError


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True)
class Tag:
    text: str

    @classmethod
    def from_text(cls, text: str) -> Tag:
        if not text.isupper():
            raise ValueError(f"{text!r} is not upper case")
        return cls(text)

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Slots:
    root_size: strict.Bytes
    count: Annotated[int, strict.Range(1, 2)] = 2


@dataclass(frozen=True)
class Hull:
    name: Annotated[str, strict.Pattern(r"[a-z]+", "a name of a-z")]
    slots: Slots
    colour: Colour = Colour.RED
    wait: strict.Seconds = 30.0
    tags: tuple[Tag, ...] = ()
    labels: dict[str, str] = field(default_factory=dict)
    note: str | None = None
    crewed: bool = False

    def __post_init__(self) -> None:
        if self.name == "titanic":
            raise ValueError("this name brings bad luck")


GOOD = "name: ferry\nslots: {root_size: 2M}\n"


def problems(text: str) -> list[str]:
    with pytest.raises(DocumentError) as caught:
        strict.read_yaml(Hull, text, source="hull.yaml")
    return [str(problem) for problem in caught.value.problems]


def test_defaults_fill_what_is_not_given() -> None:
    assert strict.read_yaml(Hull, GOOD, source="hull.yaml") == Hull("ferry", Slots(2 << 20))


@dataclass(frozen=True)
class Ports:
    named: dict[Annotated[str, strict.Pattern(r"[a-z]+", "a port's name of a-z")], int]


def test_keys_of_a_mapping_obey_their_rule_too() -> None:
    assert strict.read_yaml(Ports, "named: {http: 80}", source="ports.yaml") == Ports({"http": 80})
    with pytest.raises(DocumentError) as caught:
        strict.read_yaml(Ports, "named: {HTTP: 80, x1: a}", source="ports.yaml")
    assert [str(problem) for problem in caught.value.problems] == [
        "named: 'HTTP' is not a port's name of a-z",
        "named: 'x1' is not a port's name of a-z",
        "named.x1: must be a whole number, not 'a'",
    ]


def test_every_kind_of_value_is_read() -> None:
    text = "{name: ferry, slots: {root_size: 5, count: 1}, colour: blue, wait: 2min, tags: [A, B]"
    text += ", labels: {x: y}, note: hi, crewed: true}"
    expected = Hull("ferry", Slots(5, 1), Colour.BLUE, 120.0, (Tag("A"), Tag("B")), {"x": "y"}, "hi", crewed=True)
    assert strict.read_yaml(Hull, text, source="hull.yaml") == expected


def test_null_is_nothing_only_where_nothing_is_allowed() -> None:
    assert strict.read_yaml(Hull, GOOD + "note: null\n", source="h").note is None
    assert problems("name: null\nslots: {root_size: 1}\n") == ["name: must be text, not None"]


def test_all_errors_are_reported_at_once_with_their_paths() -> None:
    text = "{name: 7, slots: {root_size: big, count: 3, sise: 1}, colour: green, tags: [A, b, 3], labels: [], extra: 1}"
    found = problems(text)
    assert [problem.partition(":")[0] for problem in found] == [
        "extra",
        "name",
        "slots.sise",
        "slots.root_size",
        "slots.count",
        "colour",
        "tags[1]",
        "tags[2]",
        "labels",
    ]


def test_an_error_names_the_file_on_every_line_and_means_wrong_usage() -> None:
    with pytest.raises(DocumentError) as caught:
        strict.read_yaml(Hull, "{colour: green}", source="hull.yaml")
    assert all(line.startswith("hull.yaml: ") for line in str(caught.value).splitlines())
    assert caught.value.exit_code == EXIT_USAGE


def test_missing_and_unknown_keys_are_errors() -> None:
    found = problems("{naem: ferry, slots: {}}")
    assert found[0].startswith("naem: unknown key (known: colour, crewed, ")
    assert found[1:] == ["name: is missing", "slots.root_size: is missing"]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("name: 'no spaces'", "name: 'no spaces' is not a name of a-z"),
        ("crewed: 1", "crewed: must be true or false, not 1"),
        ("crewed: 'yes'", "crewed: must be true or false, not 'yes'"),
        ("wait: -1", "wait: must be a number of seconds, not -1.0"),
        ("wait: .inf", "wait: must be a number of seconds, not inf"),
        ("wait: 5 minutes", "wait: must be a duration such as 30s, 10m or 1h 30m, not '5 minutes'"),
        ("slots: {root_size: -1}", "slots.root_size: must not be negative, not -1"),
        ("slots: {root_size: 1.5G}", "slots.root_size: must be a size such as 512M or 2G, not '1.5G'"),
        ("slots: {root_size: true}", "slots.root_size: must be a whole number, not True"),
        ("slots: {root_size: 1, count: '2'}", "slots.count: must be a whole number, not '2'"),
        ("slots: 3", "slots: must be a mapping, not 3"),
        ("tags: A", "tags: must be a list, not 'A'"),
        ("tags: [a]", "tags[0]: 'a' is not upper case"),
        ("labels: {1: a}", "labels.1: the key must be text, not 1"),
        ("colour: [red]", "colour: must be one of red, blue, not a list"),
    ],
)
def test_a_type_is_never_guessed(line: str, complaint: str) -> None:
    key = line.partition(":")[0]
    rest = "".join(f"{kept}\n" for kept in GOOD.splitlines() if not kept.startswith(f"{key}:"))
    assert problems(f"{line}\n{rest}") == [complaint]


def test_what_a_value_means_is_checked_after_its_shape() -> None:
    assert problems("name: titanic\nslots: {root_size: 1}\n") == ["this name brings bad luck"]


@pytest.mark.parametrize("text", ["a: 1\na: 2\n", "a: {b: 1, b: 2}\n", '{"a": 1, "a": 1}'])
def test_a_key_given_twice_is_refused(text: str) -> None:
    with pytest.raises(DocumentError, match="given twice"):
        strict.parse_yaml(text, source="x")


def test_a_key_given_twice_is_refused_in_json_too() -> None:
    with pytest.raises(DocumentError, match="given twice"):
        strict.parse_json('{"a": {"b": 1, "b": 1}}', source="x")


@pytest.mark.parametrize("text", ["{", "a: [", "!!python/object:os.system {}", "\x00", "- a\nb"])
def test_text_that_is_not_yaml_is_an_error_of_the_document(text: str) -> None:
    with pytest.raises(DocumentError, match=r"^x: not YAML"):
        strict.parse_yaml(text, source="x")


@pytest.mark.parametrize("text", ["{", "", b"\xff\xfe", "[" * 100_000])
def test_text_that_is_not_json_is_an_error_of_the_document(text: str | bytes) -> None:
    with pytest.raises(DocumentError, match=r"^x: not JSON"):
        strict.parse_json(text, source="x")


def test_an_empty_document_is_an_empty_mapping() -> None:
    assert strict.parse_yaml("", source="x") == {}


def test_a_date_stays_text() -> None:
    assert strict.parse_yaml("version: 2024-05-06", source="x") == {"version": "2024-05-06"}


@given(amount=st.integers(0, 10**6), unit=st.sampled_from(["", "K", "M", "G", "T"]))
def test_sizes_are_powers_of_1024(amount: int, unit: str) -> None:
    found = strict.read(Slots, {"root_size": f"{amount}{unit}"}, source="x")
    assert found.root_size == amount * 1024 ** ["", "K", "M", "G", "T"].index(unit)


@given(amount=st.integers(0, 10**4), unit=st.sampled_from([("s", 1), ("min", 60), ("h", 3600), ("d", 86400)]))
def test_durations_are_seconds(amount: int, unit: tuple[str, int]) -> None:
    value = {"name": "ferry", "slots": {"root_size": 1}, "wait": f"{amount}{unit[0]}"}
    assert strict.read(Hull, value, source="x").wait == amount * unit[1]


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)


@given(value=st.dictionaries(st.sampled_from(["name", "slots", "colour", "wait", "tags", "labels", "x"]), PLAIN))
def test_any_document_is_read_or_refused_and_nothing_else_happens(value: dict[str, object]) -> None:
    try:
        found = strict.read(Hull, value, source="x")
    except DocumentError as error:
        assert error.problems  # noqa: PT017 - both outcomes are legal
    else:
        assert isinstance(found, Hull)


def test_what_is_written_reads_back_equal() -> None:
    hull = Hull("ferry", Slots(5), Colour.BLUE, 1.5, (Tag("A"),), {"k": "v"}, None, crewed=True)
    assert strict.read_json(Hull, strict.dump_json(hull), source="x") == hull


def test_json_is_written_the_same_way_every_time() -> None:
    assert (
        strict.dump_json({"b": 1, "a": (Colour.RED, "é")})
        == '{\n  "a": [\n    "red",\n    "é"\n  ],\n  "b": 1\n}\n'.encode()
    )


def test_nothing_is_neither_a_size_nor_a_duration() -> None:
    assert problems("{name: ferry, slots: {root_size: }, wait: }") == [
        "slots.root_size: must be a whole number, not None",
        "wait: must be a number, not None",
    ]


@dataclass(frozen=True)
class Login:
    user: str
    word: Annotated[str, strict.Pattern(r"[a-z]+", "a word"), strict.Secret()]


@dataclass(frozen=True)
class Safe:
    login: Annotated[Login, strict.Secret()] | None = None
    size: strict.Bytes = 0
    wait: strict.Seconds = 0.0
    count: Annotated[int, strict.Range(0, 9)] = 0
    note: str = ""


@pytest.mark.parametrize(
    "text",
    ["login: h0rse", "login: {user: a, word: H0RSE}", "login: {user: a, word: [h0rse]}", "login: {word: 'h0rse'}"],
)
def test_a_secret_is_not_part_of_an_error(text: str) -> None:
    with pytest.raises(DocumentError, match="login") as caught:
        strict.read_yaml(Safe, text, source="x")
    assert "h0rse" not in str(caught.value).lower()


@pytest.mark.parametrize(
    "value", ["*h0rse", "!h0rse", "'h0rse", "[h0rse", "h0rse: x", "@h0rse", '"\\h0rse"', "h0rse\0"]
)
def test_text_that_is_not_yaml_is_not_quoted(value: str) -> None:
    with pytest.raises(DocumentError, match="not YAML") as caught:
        strict.parse_yaml(f"word: {value}\n", source="x")
    assert "h0rse" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "count: 0x" + "9" * 6000,
        "wait: 0x" + "9" * 6000,
        "wait: '" + "9" * 6000 + "s'",
        "size: '" + "9" * 6000 + "T'",
        "? 0x" + "9" * 6000 + "\n: 1",
        'note: "\\ud800"',
        '"\\ud800": 1',
    ],
)
def test_endless_numbers_and_half_characters_are_errors_of_the_document(text: str) -> None:
    with pytest.raises(DocumentError, match=r"^x: ") as caught:
        strict.read_yaml(Safe, text, source="x")
    str(caught.value).encode()


def test_what_json_escapes_is_read_as_strictly() -> None:
    with pytest.raises(DocumentError, match="labels"):
        strict.read_json(Hull, '{"name": "x", "slots": {"root_size": 1}, "labels": {"\\ud800": "a"}}', source="x")


@given(st.text() | st.binary())
def test_whatever_comes_is_read_or_is_an_error_of_the_document(data: str | bytes) -> None:
    with suppress(DocumentError):
        strict.parse_yaml(data, source="x")
    with pytest.raises(DocumentError):
        strict.read_yaml(Hull, data, source="x")
