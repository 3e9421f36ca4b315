"""A download ends when a version that is staged already is due to reboot, and goes on later."""

from __future__ import annotations

from datetime import timedelta

import pytest

from bedrock.progress import Silent
from tests.fakes.clock import START, FakeClock
from updater.agent.put_off import Until
from updater.errors import PutOffError


class Heard(Silent):
    def __init__(self) -> None:
        self.steps: list[str] = []
        self.amount = 0

    def step(self, name: str, *, total: int | None = None) -> None:
        self.steps.append(name)

    def advance(self, amount: int) -> None:
        self.amount += amount


def test_progress_is_passed_on_and_ends_at_the_moment() -> None:
    clock, heard = FakeClock(), Heard()
    until = Until(heard, clock, START + timedelta(seconds=10))
    until.step("download root", total=100)
    until.advance(40)
    clock.sleep(9.0)
    until.advance(1)
    clock.sleep(1.0)
    # What has arrived is counted, and kept by whoever reports it.
    with pytest.raises(PutOffError):
        until.advance(2)
    assert (heard.steps, heard.amount) == (["download root"], 43)
