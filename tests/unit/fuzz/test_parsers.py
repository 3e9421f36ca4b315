"""Every parser of foreign bytes gives a value or its own error, within bounds; `make fuzz` tries for longer."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator

import pytest

from bedrock.errors import TwinhullError
from tests.fuzz.running import MOST_SECONDS, fuzz
from tests.fuzz.target import FuzzTarget
from tests.fuzz.targets import TARGETS

INPUTS = 1000


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """What a library logs about damaged fields is not a finding."""
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_any_bytes_are_read_or_refused(target: FuzzTarget) -> None:
    for data in target.seeds:
        # A document that is refused before it was damaged shows nothing.
        target.run(data)
    report = fuzz(target, seed=1, inputs=INPUTS)
    assert not report.findings, report.findings[0].trace
    assert report.inputs == INPUTS


def test_another_exception_is_a_finding() -> None:
    def wrong(data: bytes) -> None:
        if data[:1] != b"{":
            raise KeyError(data)
        raise TwinhullError("an answer")

    report = fuzz(FuzzTarget("wrong", wrong, (b'{"a": 1}',)), seed=1, inputs=INPUTS)
    assert [finding.error.partition(":")[0] for finding in report.findings] == ["KeyError"]


def test_a_parser_that_takes_too_long_is_a_finding_even_if_it_handles_every_exception() -> None:
    def endless(_: bytes) -> None:
        while True:
            try:
                time.process_time()
            except Exception:  # noqa: BLE001, S112 - as careless code does
                continue

    begun = time.process_time()
    report = fuzz(FuzzTarget("endless", endless, (b"x",)), seed=1, inputs=1)
    assert "processor time" in report.findings[0].error
    assert time.process_time() - begun < 3 * MOST_SECONDS


def test_a_parser_that_takes_too_much_memory_is_a_finding() -> None:
    report = fuzz(FuzzTarget("greedy", lambda _: bytearray(4 << 30), (b"x",)), seed=1, inputs=1)
    assert report.findings[0].error.startswith("MemoryError")


def test_the_same_seed_tries_the_same_inputs() -> None:
    tried: list[list[bytes]] = []
    for _ in range(2):
        tried.append([])
        fuzz(FuzzTarget("same", tried[-1].append, (b'{"a": [1, 2]}',)), seed=3, inputs=50)
    assert tried[0] == tried[1]
    assert len(set(tried[0])) > 40
