"""A parser to try, and how one with a writer is tried."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bedrock import strict
from bedrock.errors import TwinhullError


@dataclass(frozen=True)
class FuzzTarget:
    """A parser: its name, what takes the bytes, what is damaged to make them, and the errors that are an answer."""

    name: str
    run: Callable[[bytes], object]
    seeds: tuple[bytes, ...]
    answers: tuple[type[Exception], ...] = (TwinhullError,)

    def __str__(self) -> str:
        return self.name


def whole(parse: Callable[..., Any], dump: Callable[[Any], bytes] = strict.dump_json) -> Callable[[bytes], object]:
    """A reader whose values are written and read again."""

    def run(data: bytes) -> None:
        value = parse(data, source="fuzzed")
        try:
            again = parse(dump(value), source="written")
        except TwinhullError as error:
            raise AssertionError(f"what was read and written is not read again: {error}") from error
        assert again == value

    return run
