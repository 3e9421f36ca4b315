"""The schema and the reader accept the same documents."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum
from typing import Annotated, Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedrock import strict
from bedrock.errors import DocumentError
from bedrock.schema import attributes, json_schema


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True)
class Tag:
    """Capital letters."""

    text: str

    @classmethod
    def from_text(cls, text: str) -> Tag:
        if not re.fullmatch("[A-Z]+", text):
            raise ValueError(f"{text!r} is not a tag")
        return cls(text)

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Hold:
    """Where cargo is.

    Attributes:
        size: How much there is
            room for.
        wait: How long a ship waits.
    """

    size: Annotated[int, strict.Size(), strict.Range(1, 1 << 20)]
    wait: strict.Seconds = 90.0


@dataclass(frozen=True)
class Hull:
    """A hull."""

    name: Annotated[str, strict.Pattern("[a-z]+", "a name"), strict.Pattern("(?!x).*", "not an x")]
    holds: tuple[Hold, ...] = ()
    colour: Colour = Colour.RED
    labels: dict[Annotated[str, strict.Pattern("[a-z]", "a letter")], str] = field(default_factory=dict)
    tag: Tag | None = None
    ratio: Annotated[float, strict.Range(0, 1)] = 0.5
    crewed: bool = False


SCHEMA = json_schema(Hull, title="Hull")
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 2_000_000)
    | st.sampled_from([0.5, 2.5, "a", "x", "A", "red", "1M", "2 KiB", "1h 30m", "5min", "10m", "5 minutes", ""]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["name", "holds", "colour", "labels", "tag", "ratio", "crewed", "size", "wait", "a"]), inner
        )
    ),
    max_leaves=8,
)


def takes(value: object) -> bool:
    return bool(jsonschema.Draft202012Validator(SCHEMA).is_valid(value))


def test_it_is_a_schema_of_its_dialect() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["required"] == ["name"]


@given(VALUES)
def test_whatever_the_reader_takes_the_schema_takes_too(value: object) -> None:
    document = value if isinstance(value, dict) else {"name": "a", "holds": [value], "tag": value, "colour": value}
    try:
        strict.read(Hull, document, source="x")
    except DocumentError:
        return
    assert takes(document)


@pytest.mark.parametrize(
    "more",
    [
        {"name": "A"},
        {"name": "x"},
        {"nmae": "a"},
        {"holds": [{}]},
        {"holds": [{"size": 0}]},
        {"holds": [{"size": "big"}]},
        {"holds": [{"size": 1, "wait": "5 minutes"}]},
        {"holds": {"size": 1}},
        {"colour": "green"},
        {"labels": {"ab": "x"}},
        {"labels": {"a": 1}},
        {"tag": 5},
        {"ratio": 2},
        {"crewed": "yes"},
        {"name": None},
    ],
)
def test_what_is_wrong_is_refused_by_both(more: dict[str, Any]) -> None:
    document = {"name": "a", **more}
    assert not takes(document)
    with pytest.raises(DocumentError):
        strict.read(Hull, document, source="x")


def test_defaults_and_descriptions_are_those_of_the_dataclass() -> None:
    properties = SCHEMA["properties"]
    assert properties["colour"]["default"] == "red"
    assert properties["holds"]["items"]["properties"]["size"]["description"] == "How much there is room for."
    assert properties["holds"]["items"]["description"] == "Where cargo is."
    assert properties["tag"]["anyOf"][0]["description"] == "Capital letters."


def test_a_class_without_an_attributes_section_describes_none() -> None:
    assert attributes(Tag) == {}


def test_what_the_reader_does_not_read_has_no_schema() -> None:
    @dataclass(frozen=True)
    class Odd:
        data: bytes

    with pytest.raises(TypeError, match="no schema"):
        json_schema(Odd, title="Odd")
