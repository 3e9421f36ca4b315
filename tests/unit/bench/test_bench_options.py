from __future__ import annotations

import pytest
from bench_options import BenchOptions, bench_options


def read(*words: str) -> BenchOptions:
    return bench_options(words, prog="bench.py", description="Seconds.", rounds=3, counted="how often each is booted")


def test_rounds_have_a_default_of_the_benchmarks_own() -> None:
    assert read() == BenchOptions(3, as_json=False)
    assert read("--json", "--rounds", "5") == BenchOptions(5, as_json=True)


@pytest.mark.parametrize("rounds", ["0", "-1", "many"])
def test_a_number_of_rounds_that_measures_nothing_is_wrong_usage(
    rounds: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        read("--rounds", rounds)
    assert caught.value.code == 2
    assert "--rounds" in capsys.readouterr().err


def test_the_help_says_what_a_round_is(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        read("--help")
    assert "how often each is booted (3)" in capsys.readouterr().out
