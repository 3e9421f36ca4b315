from __future__ import annotations

import time
from math import comb
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from updater.fleet.halt import HaltPolicy, chance_of, why_halt

POLICY = HaltPolicy()


@given(st.integers(0, 60), st.integers(0, 60), st.floats(0.001, 0.5))
def test_the_chance_is_that_of_the_binomial_distribution(failed: int, more: int, share: float) -> None:
    settled = failed + more
    exact = sum(comb(settled, k) * share**k * (1 - share) ** (settled - k) for k in range(failed, settled + 1))
    assert chance_of(failed, settled, share) == pytest.approx(exact, rel=1e-6, abs=1e-12)


@pytest.mark.parametrize(("failed", "settled", "share"), [(1, 0, 0.1), (-1, 5, 0.1), (1, 5, 0.0), (1, 5, 1.0)])
def test_what_cannot_be_counted_is_an_error(failed: int, settled: int, share: float) -> None:
    with pytest.raises(ValueError, match=f"{failed} of {settled}"):
        chance_of(failed, settled, share)


def test_a_million_hosts_are_no_trouble() -> None:
    assert not why_halt(POLICY, failed=20_000, settled=1_000_000)
    assert why_halt(POLICY, failed=21_000, settled=1_000_000)
    began = time.process_time()
    assert why_halt(POLICY, failed=300_000, settled=1_000_000)
    assert time.process_time() - began < 0.1


def test_the_cap_counts_without_any_share() -> None:
    policy = HaltPolicy(most_hosts=5)
    assert not why_halt(policy, failed=4, settled=100_000)
    assert "5 hosts failed, and 5 halt it" in why_halt(policy, failed=5, settled=100_000)


@pytest.mark.parametrize(("failed", "settled", "halts"), [(0, 0, False), (1, 1, False), (2, 2, True), (2, 50, False)])
def test_few_failures_say_little_while_few_have_settled(failed: int, settled: int, *, halts: bool) -> None:
    assert bool(why_halt(POLICY, failed=failed, settled=settled)) is halts


def halted_at(share: float, hosts: int, random: Random) -> int | None:
    """After how many hosts a rollout is halted in which each fails with that chance, looked at after every host."""
    failed = 0
    for settled in range(1, hosts + 1):
        if random.random() < share:
            failed += 1
            if why_halt(POLICY, failed=failed, settled=settled):
                return settled
    return None


def test_a_release_that_is_good_enough_is_seldom_halted_and_a_bad_one_early() -> None:
    random = Random(7)  # noqa: S311 - reproducible, not secret
    good = [halted_at(0.01, 2000, random) for _ in range(200)]
    assert sum(each is not None for each in good) <= 4
    bad = [halted_at(0.2, 2000, random) for _ in range(200)]
    assert None not in bad
    assert sorted(each or 0 for each in bad)[180] < 60
