"""The error root: hints, exit codes and the lines a person reads."""

from __future__ import annotations

from bedrock.errors import DocumentError, Problem, ProcessError, TwinhullError


def test_hints_are_kept_in_order() -> None:
    error = TwinhullError("it failed").with_hint("first try this").with_hint("then that")
    assert error.hints == ("first try this", "then that")
    assert TwinhullError("bare").hints == ()


def test_a_document_error_lists_every_problem() -> None:
    error = DocumentError("f.yaml", (Problem("a.b", "is missing"), Problem("", "is odd")))
    assert str(error) == "f.yaml: a.b: is missing\nf.yaml: is odd"


def test_a_process_error_shows_the_tail_only_when_there_is_one() -> None:
    assert str(ProcessError("it failed", tail="why\n")) == "it failed\nwhy"
    assert str(ProcessError("it failed", tail=" \n")) == "it failed"
