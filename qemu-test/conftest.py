"""Fixtures of the whole-machine tests.

One machine at a time runs, so the tests share two cores fairly; console logs are below `out/qemu-test/machines/`.
What a file of tests leaves behind is removed when all of them passed, so that the whole takes little more room than the
largest of them: disks, repositories, clones.  Builds stay for the next run.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator

import pytest
from everything import Everything, built_twice
from two_slots import TwoSlots, make_two_slots
from workbench import OUT, Workbench, make_workbench, remove_bulk


@pytest.fixture(scope="session")
def bench() -> Workbench:
    """Tools, keys and builds."""
    return make_workbench()


@pytest.fixture(scope="session")
def everything(bench: Workbench) -> Everything:
    """The image with something of everything, built twice."""
    return built_twice(bench)


@pytest.fixture(scope="module", autouse=True)
def _room_again(request: pytest.FixtureRequest) -> Iterator[None]:
    """Set up first and torn down last, after whatever still writes."""
    failed = request.session.testsfailed
    yield
    if request.session.testsfailed == failed:
        remove_bulk()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Name the consoles' logs under a failure."""
    report = yield
    if report.failed:
        logs = sorted(OUT.glob("machines/*/console.log"), key=lambda path: path.stat().st_mtime)
        report.sections += [("console log of the newest machine", str(logs[-1]))] if logs else []
    return report


@pytest.fixture(scope="session")
def two(bench: Workbench) -> Iterator[TwoSlots]:
    """A disk with two proven versions, to be copied and damaged."""
    made = make_two_slots(bench)
    yield made
    made.whole.unlink()
