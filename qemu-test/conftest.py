"""Fixtures of the whole-machine tests.

One machine at a time runs, so the tests share two cores fairly; console logs are below `out/qemu-test/machines/`.
"""

from __future__ import annotations

from collections.abc import Generator

import pytest
from workbench import OUT, Workbench, make_workbench


@pytest.fixture(scope="session")
def bench() -> Workbench:
    """Tools, keys and builds."""
    return make_workbench()


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
