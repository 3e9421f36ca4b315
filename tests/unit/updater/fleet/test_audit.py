from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.updater.fleet.fleets import NOW
from updater.documents.channel import Instant
from updater.fleet.audit import AuditEntry, append, first_flaw


def log(count: int) -> list[AuditEntry]:
    entries: list[AuditEntry] = []
    for number in range(count):
        last = entries[-1] if entries else None
        body = {"host": f"h{number}", "ünï": [1, None, True]}
        entries.append(append(last, at=Instant(NOW), actor="ann", action="halt", body=body))
    return entries


def test_what_nobody_touched_has_no_flaw() -> None:
    assert first_flaw([]) == ""
    assert first_flaw(log(5)) == ""


changes = st.sampled_from(
    [
        {"actor": "eve"},
        {"action": "resume"},
        {"at": "2020-01-01T00:00:00Z"},
        {"body": {}},
        {"number": 7},
        {"before": "1" * 64},
        {"hash": "2" * 64},
    ]
)


@given(st.integers(0, 4), changes)
def test_a_changed_entry_is_found(at: int, change: dict[str, Any]) -> None:
    entries = log(5)
    entries[at] = replace(entries[at], **change)
    assert first_flaw(entries)


@given(st.integers(0, 4), changes)
def test_a_changed_entry_is_found_though_its_hash_was_made_anew(at: int, change: dict[str, Any]) -> None:
    entries = log(6)
    forged = replace(entries[at], **{name: value for name, value in change.items() if name != "hash"})
    entries[at] = replace(forged, hash=forged.right_hash)
    # Only the last one could be rewritten unseen: somebody else has to know its hash.
    assert first_flaw(entries) or entries == log(6)


@given(st.permutations(range(4)))
def test_entries_in_another_order_or_left_out_are_found(order: list[int]) -> None:
    entries = log(4)
    assert (first_flaw([entries[each] for each in order]) == "") is (order == sorted(order))
    for left_out in range(3):
        assert first_flaw(entries[:left_out] + entries[left_out + 1 :])


@pytest.mark.parametrize("body", [{"x": float("nan")}, {"x": object()}, {"x": b""}])
def test_what_json_cannot_hold_is_refused(body: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"JSON"):
        append(None, at=Instant(NOW), actor="ann", action="halt", body=body)


def test_what_json_reads_back_differently_is_kept_as_it_is_read_back() -> None:
    entry = append(None, at=Instant(NOW), actor="ann", action="halt", body={"hosts": ("a", "b"), "1": 1})
    assert entry.body == {"hosts": ["a", "b"], "1": 1}
    assert first_flaw([entry]) == ""
