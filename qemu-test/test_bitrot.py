"""Four damaged disks come back by themselves, the newest UKI's among them; `make bitrot` boots many more."""

from __future__ import annotations

import pytest
from bitrot import planned, report, run_case
from two_slots import TwoSlots

CASES = planned(seed=1000, cases=4)


@pytest.mark.parametrize("number", range(len(CASES)), ids=[area.name for _, area, _ in CASES])
def test_a_damaged_disk_comes_back_by_itself(two: TwoSlots, number: int) -> None:
    case = run_case(two, *CASES[number])
    assert case.version, case
    assert report([case])["need_a_hand"] == 0
