"""Several places of one repository, and what the agent remembers and tells of a poll."""

from __future__ import annotations

from contextlib import suppress

import pytest

from bedrock.errors import TwinhullError
from tests.fakes.story import RELEASES, Story
from tests.fakes.twin_host import MemorySource
from updater.agent.plan import Update, UpdateOptions, Why
from updater.agent.state import PollResult
from updater.documents.channel import Instant
from updater.errors import (
    FetchError,
    NetworkSideError,
    RefusedError,
)


def polls(story: Story) -> list[tuple[str, str]]:
    return [(e.kind.value, e.text) for e in story.agent.hints().history if e.kind.value.startswith("poll")]


def test_a_poll_is_remembered_and_told_when_its_result_changes(story: Story) -> None:
    story.server.point_to("1.0.0")
    assert story.why() is Why.UP_TO_DATE
    assert polls(story) == []
    story.server.error = RefusedError("timestamp.json expired at 2026-01-01T00:00:00Z")
    began = story.machine.clock.now()
    for _ in range(3):
        with pytest.raises(RefusedError):
            story.update()
        story.machine.clock.sleep(1800.0)
    poll = story.agent.hints().poll
    assert poll is not None
    assert (poll.result, poll.since) == (PollResult.REFUSED, Instant.of(began))
    assert "refused since 2026-03-01T12:00:00Z: timestamp.json expired" in str(poll)
    story.server.error = FetchError("http://server: nobody answers")
    with pytest.raises(FetchError):
        story.agent.check(UpdateOptions())
    story.server.error = None
    assert story.why() is Why.UP_TO_DATE
    assert polls(story) == [
        ("poll-refused", "timestamp.json expired at 2026-01-01T00:00:00Z"),
        ("poll-failed", "http://server: nobody answers"),
        ("poll-recovered", "the update server answers"),
    ]


def test_what_a_person_should_know_of_a_good_poll_is_told_once(story: Story) -> None:
    story.server.point_to("1.0.0")
    story.server.remarks = ("the server shows older metadata",)
    for _ in range(3):
        story.why()
    assert polls(story) == [("poll-remark", "the server shows older metadata")]


def test_another_place_of_the_repository_is_asked_when_the_first_does_not_answer_or_is_refused(story: Story) -> None:
    for error in (FetchError("away"), RefusedError("expired")):
        story.server.turn, story.server.error = 0, error
        story.server.errors_of_others = (FetchError("away, too"), None)
        assert isinstance(story.agent.check(UpdateOptions()), Update)
        assert story.server.turn == 2


def test_a_place_that_shows_nothing_new_does_not_keep_news_from_a_host(story: Story) -> None:
    story.server.errors_of_others = (FetchError("away"), None, None)
    story.server.stale = frozenset({0})
    assert isinstance(story.agent.check(UpdateOptions()), Update)
    assert story.server.turn == 2


def test_where_nothing_is_new_the_first_place_that_answers_will_do(story: Story) -> None:
    story.server.errors_of_others = (None, FetchError("away"))
    story.server.stale = frozenset({0, 1})
    assert isinstance(story.agent.check(UpdateOptions()), Update)
    assert (story.server.turn, story.server.asked) == (0, ["refresh"] * 4)


def test_a_single_place_is_asked_once(story: Story) -> None:
    story.server.stale = frozenset({0})
    assert isinstance(story.agent.check(UpdateOptions()), Update)
    assert story.server.asked == ["refresh"]


def test_when_no_place_answers_the_first_ones_error_is_told(story: Story) -> None:
    story.server.error = RefusedError("expired")
    story.server.errors_of_others = (FetchError("away"),)
    with pytest.raises(RefusedError, match="expired"):
        story.update()
    assert story.server.closed == 1


DOCUMENTS = ("channel", "release", "boot_trust")


@pytest.mark.parametrize("document", DOCUMENTS)
@pytest.mark.parametrize("error", [FetchError("404"), RefusedError("garbage")])
def test_a_place_that_garbles_a_document_does_not_keep_it_from_a_host(
    story: Story, document: str, error: TwinhullError
) -> None:
    story.server.errors_of_others = (None,)
    story.server.garbled = {(0, document): error}
    assert isinstance(story.update().plan, Update)
    poll = story.agent.hints().poll
    assert poll is not None
    assert (poll.result, poll.reason) == (PollResult.OK, "")
    assert story.server.closed == 2


@pytest.mark.parametrize("document", DOCUMENTS)
def test_a_document_that_no_place_has_is_the_result_of_the_poll(story: Story, document: str) -> None:
    story.server.errors_of_others = (None, FetchError("away"))
    story.server.garbled = {(0, document): RefusedError("garbage"), (1, document): FetchError("404")}
    with suppress(RefusedError):
        assert isinstance(story.update().plan, Update)
        # What the firmware may start stops no update.
        assert document == "boot_trust"
    poll = story.agent.hints().poll
    assert poll is not None
    assert (poll.result, poll.reason) == (PollResult.REFUSED, "garbage")
    assert polls(story) == [("poll-refused", "garbage")]
    assert len(story.server.asked) <= 2 * story.server.places + 2


def test_a_document_that_a_failing_network_side_does_not_bring_is_a_poll_that_failed(story: Story) -> None:
    story.server.garbled = {(0, "channel"): NetworkSideError("no socket")}
    with pytest.raises(NetworkSideError):
        story.update()
    poll = story.agent.hints().poll
    assert poll is not None
    assert (poll.result, poll.reason) == (PollResult.FAILED, "no socket")


def test_what_goes_wrong_on_the_host_itself_does_not_make_a_poll_bad(story: Story) -> None:
    one = RELEASES["1.0.1"]
    story.server.transfer = MemorySource(one, break_at={one.release.artifacts.root.sha256: 0})
    with pytest.raises(FetchError):
        story.update()
    poll = story.agent.hints().poll
    assert poll is not None
    assert poll.result is PollResult.OK


def test_what_was_remarkable_about_a_place_that_failed_is_told_with_the_failure(story: Story) -> None:
    story.server.remarks = ("the server shows older metadata than this host has seen",)
    missing = "targets/channels/stable.json: the server answers 404"
    story.server.garbled = {(0, "channel"): FetchError(missing)}
    with pytest.raises(FetchError):
        story.agent.check(UpdateOptions())
    poll = story.agent.hints().poll
    assert poll is not None
    assert (poll.result, poll.reason) == (PollResult.FAILED, f"{missing}; {story.server.remarks[0]}")
