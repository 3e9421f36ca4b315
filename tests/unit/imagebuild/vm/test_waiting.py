from __future__ import annotations

import pytest

from imagebuild.errors import VmError
from imagebuild.vm.waiting import wait_for
from tests.fakes.clock import FakeClock


def test_what_is_there_is_returned_without_a_pause() -> None:
    clock = FakeClock()
    assert wait_for(lambda: "here", what="it", timeout_s=0, clock=clock) == "here"
    assert clock.steady() == 0


def test_what_never_comes_ends_the_waiting_in_time() -> None:
    clock = FakeClock()
    with pytest.raises(VmError, match="the marker did not come within 5 s"):
        wait_for(lambda: None, what="the marker", timeout_s=5, clock=clock)
    assert clock.steady() == pytest.approx(5, abs=0.2)


def test_an_error_while_looking_ends_the_waiting_at_once() -> None:
    clock = FakeClock()

    def look() -> None:
        raise VmError("gone")

    with pytest.raises(VmError, match="gone"):
        wait_for(look, what="it", timeout_s=5, clock=clock)
    assert clock.steady() == 0
