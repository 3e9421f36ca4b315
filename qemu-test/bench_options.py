"""The words that every benchmark understands."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class BenchOptions:
    """How often is measured, and whether the document is printed instead of a table."""

    rounds: int
    as_json: bool


def bench_options(words: Sequence[str], *, prog: str, description: str, rounds: int, counted: str) -> BenchOptions:
    """Read the words of a command line; ends the program with exit code 2 where they are wrong.

    Args:
        words: What follows the program's name.
        prog: The program's name.
        description: What it measures.
        rounds: How many rounds there are unless the words say otherwise.
        counted: What is done in each round, for `--help`.
    """
    parser = argparse.ArgumentParser(prog=prog, description=description)
    parser.add_argument("--rounds", type=int, default=rounds, help=f"{counted} (%(default)s)")
    parser.add_argument("--json", action="store_true", help="print the JSON document instead of a table")
    arguments = parser.parse_args(words)
    if arguments.rounds < 1:
        parser.error("--rounds must be at least 1")
    return BenchOptions(arguments.rounds, arguments.json)
