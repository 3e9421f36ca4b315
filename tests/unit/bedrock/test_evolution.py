"""Today's reader and the documents of tomorrow, and the other way round."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Annotated, Any

import pytest

from bedrock import evolution, strict
from bedrock.errors import DocumentError


class Way(Enum):
    SEA = "sea"
    ROAD = "road"


@dataclass(frozen=True)
class Route:
    way: Way
    miles: Annotated[int, strict.Range(1, 1000)]


@dataclass(frozen=True)
class Load:
    kilos: int


@dataclass(frozen=True)
class Today:
    name: str
    load: Load | None = None
    routes: Annotated[tuple[Route, ...], strict.Alternatives(("way",))] = ()
    ports: dict[str, Load] = field(default_factory=dict)


@dataclass(frozen=True)
class Crane:
    kilos: int
    lifts: int = 0


@dataclass(frozen=True)
class Tomorrow:
    name: str
    flag: str = "none"
    load: Crane | None = None


def read(document: object) -> Today:
    return evolution.read_json(Today, strict.dump_json(document), source="ship.json")


def problem(document: object) -> str:
    with pytest.raises(DocumentError) as caught:
        read(document)
    return str(caught.value)


def test_new_keys_are_ignored_at_every_depth() -> None:
    route = {"way": "sea", "miles": 3, "tide": "high"}
    told = {
        "name": "a",
        "flag": "x",
        "load": {"kilos": 1, "lifts": 2},
        "routes": [route],
        "ports": {"p": {"kilos": 4, "q": 1}},
    }
    assert read(told) == Today("a", Load(1), (Route(Way.SEA, 3),), {"p": Load(4)})


def test_tomorrows_reader_reads_todays_document() -> None:
    document = strict.dump_json(Today("a", Load(1)))
    assert evolution.read_json(Tomorrow, document, source="ship.json") == Tomorrow("a", "none", Crane(1))


@pytest.mark.parametrize("known", ["name", "load.kilos", "routes.way", "ports.kilos", "routes", "ports"])
def test_a_critical_key_that_is_known_is_read(known: str) -> None:
    # A mapping by name takes no part in a path; `ports.kilos` is that of every port.
    assert read({"name": "a", "critical": [known]}).name == "a"


@pytest.mark.parametrize("new", ["flag", "load.lifts", "routes.tide", "ports.q", "name.first", "", "load.kilos.net"])
def test_a_critical_key_that_is_new_is_refused_by_name(new: str) -> None:
    said = problem({"name": "a", "critical": ["name", new]})
    assert "ship.json: critical" in said
    assert repr(new) in said


def test_a_document_is_refused_for_its_critical_key_before_anything_else_in_it_is_judged() -> None:
    assert "name" not in problem({"name": 7, "critical": ["flag"]})


@pytest.mark.parametrize("wrong", ["flag", [1], {"flag": True}, None, ["name"] * 65])
def test_critical_must_be_a_short_list_of_text(wrong: Any) -> None:
    assert "critical: must be a list" in problem({"name": "a", "critical": wrong})


def test_an_alternative_of_a_new_kind_is_passed_over() -> None:
    told = [{"way": "air", "feet": 9}, {"way": "road", "miles": 5}]
    assert read({"name": "a", "routes": told}).routes == (Route(Way.ROAD, 5),)


@pytest.mark.parametrize(
    "wrong", [{"way": "road", "miles": 0}, {"way": "road"}, {"way": 7, "miles": 1}, {"miles": 1}, "road", None]
)
def test_an_alternative_of_a_known_kind_must_be_whole(wrong: object) -> None:
    assert "ship.json: routes[0]" in problem({"name": "a", "routes": [wrong]})


def test_a_wrong_value_of_a_known_key_is_an_error_as_ever() -> None:
    assert "load.kilos" in problem({"name": "a", "load": {"kilos": "heavy"}})
    assert "name: is missing" in problem({"flag": "x"})
    assert "must be a mapping" in problem(["name"])


def test_what_people_write_is_still_read_strictly() -> None:
    with pytest.raises(DocumentError, match="flag: unknown key"):
        strict.read(Today, {"name": "a", "flag": "x"}, source="ship.yaml")
    with pytest.raises(DocumentError, match="way: must be one of"):
        strict.read(Today, {"name": "a", "routes": [{"way": "air", "miles": 1}]}, source="ship.yaml")


@pytest.mark.parametrize("more", [{"flag": "x"}, {"routes": [{"way": "air"}]}, {"load": {"kilos": 1, "lifts": 2}}])
def test_whoever_writes_a_document_again_refuses_what_would_be_lost(more: dict[str, Any]) -> None:
    document = strict.dump_json({"name": "a"} | more)
    with pytest.raises(DocumentError):
        evolution.read_to_rewrite(Today, document, source="ship.json")
    whole = strict.dump_json({"name": "a", "critical": ["name"]})
    assert evolution.read_to_rewrite(Today, whole, source="ship.json") == Today("a")
