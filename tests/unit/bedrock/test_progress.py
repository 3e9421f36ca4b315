from __future__ import annotations

from bedrock.progress import LineProgress, stamped
from tests.fakes.clock import FakeClock


def test_a_step_is_a_line_with_its_size() -> None:
    said: list[str] = []
    progress = LineProgress(said.append)
    progress.step("verify", total=2_500_000)
    progress.advance(2_500_000)
    progress.step("sign")
    progress.advance(1)
    assert said == ["verify (2.5 MB)", "sign"]


def test_how_far_a_step_is_comes_in_tenths_and_its_end_stays() -> None:
    said: list[str] = []
    far: list[str] = []
    progress = LineProgress(said.append, far=far.append)
    progress.step("fetch", total=100)
    for _ in range(50):
        progress.advance(3)
    assert far == [f"fetch: {percent} %" for percent in range(10, 100, 10)]
    assert said[-1] == "fetch: 100 %"


def test_lines_are_stamped_with_the_time_since_the_beginning() -> None:
    said: list[str] = []
    clock = FakeClock()
    say = stamped(said.append, clock)
    say("one")
    clock.sleep(12.25)
    say("two")
    assert said == ["    0.0 s  one", "   12.2 s  two"]
