from __future__ import annotations

import json
from pathlib import Path

from bench_build import PEER, BuildResult
from changed_package import next_version
from figures import Bar, MachineFacts, median_of, table, write_document

FACTS = MachineFacts(load_before=0.1, cores=2, memory_mib=4096, system="Linux")


def a_round(cold: float, peer: float) -> dict[str, dict[str, float]]:
    kinds = {"cold": cold, "file": 10.0, "package": 50.0, "library": 55.0}
    return {**{kind: {"disk": 1.0, "total": total} for kind, total in kinds.items()}, PEER: {"total": peer}}


def test_a_bar_is_met_up_to_its_limit_and_not_beyond() -> None:
    assert Bar("cold", 120.0, 120.0, "s").met
    assert not Bar("cold", 120.01, 120.0, "s").met


def test_a_bar_says_in_words_whether_it_is_met() -> None:
    assert "at most 20 s: met" in Bar("file", 19.0, 20.0, "s").line
    assert "at most 0.5: MISSED" in Bar("ratio", 0.6, 0.5).line


def test_the_median_is_taken_figure_by_figure() -> None:
    assert median_of([{"a": 1, "b": 9}, {"a": 3, "b": 1}, {"a": 2, "b": 5}]) == {"a": 2, "b": 5}


def test_a_figure_that_a_round_lacks_is_taken_from_the_others() -> None:
    assert median_of([{"a": 1.0}, {"a": 2.0, "b": 5.0}]) == {"a": 1.5, "b": 5.0}


def test_the_table_shows_a_dash_where_a_run_has_no_such_part() -> None:
    lines = table({"cold": {"initrd": 3.0, "total": 4.0}, "plain mkosi": {"total": 9.0}})
    assert lines[1].split() == ["initrd", "3.0", "-"]
    assert lines[2].split() == ["total", "4.0", "9.0"]


def test_a_busy_machine_is_told() -> None:
    assert "other work" in MachineFacts(load_before=0.31, cores=2, memory_mib=1, system="Linux").line
    assert "other work" not in FACTS.line


def test_the_ratio_is_the_median_of_the_rounds() -> None:
    rounds = (a_round(50, 100), a_round(90, 300), a_round(80, 100))
    assert BuildResult(FACTS, "tcg", "mkosi 25", rounds).ratio == 0.5


def test_one_missed_bar_is_enough_to_miss() -> None:
    assert BuildResult(FACTS, "tcg", "mkosi 25", (a_round(100, 300),)).met
    assert not BuildResult(FACTS, "tcg", "mkosi 25", (a_round(121, 300),)).met


def test_the_document_holds_rounds_medians_and_bars(tmp_path: Path) -> None:
    result = BuildResult(FACTS, "tcg", "mkosi 25", (a_round(100, 300),))
    write_document(tmp_path / "out" / "bench.json", result.values())
    document = json.loads((tmp_path / "out" / "bench.json").read_text())
    assert document["medians"]["cold"]["total"] == 100
    assert [bar["met"] for bar in document["bars"]] == [True] * 5
    assert document["facts"]["cores"] == 2
    assert document["mkosi"] == "mkosi 25"


def test_a_changed_package_has_a_later_version_and_nothing_else() -> None:
    control = "Package: crun\nVersion: 1.21-1\nDepends: libc6 (>= 2.38)\nDescription: x\n"
    text, version = next_version(control)
    assert version == "1.21-1+bench1"
    assert text == control.replace("1.21-1", version)
