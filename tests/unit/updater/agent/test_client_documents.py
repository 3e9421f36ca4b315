"""The signed documents: a channel and a release as a host takes them, and those it refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from bedrock import strict
from partitions.version import Version
from tests.fakes.documents import document_sha256, some_reference
from tests.fakes.metadata_client import CHANNEL, RELEASE, client, refreshed
from tests.fakes.tuf_site import SignedSite
from updater.documents.release import SignedRelease
from updater.errors import FetchError, PolicyError, RefusedError


def test_channel_and_release_are_handed_out_verified(signed: SignedSite, tmp_path: Path) -> None:
    repository = refreshed(signed, tmp_path)
    assert repository.channel("stable") == CHANNEL
    found = repository.release(RELEASE.version, sha256=CHANNEL.release.sha256)
    assert found == SignedRelease(RELEASE, document_sha256(RELEASE))
    assert repository.release(RELEASE.version, sha256=None) == found


def test_a_second_look_takes_a_newer_channel(signed: SignedSite, tmp_path: Path) -> None:
    assert refreshed(signed, tmp_path).has_news
    assert not refreshed(signed, tmp_path).has_news
    moved = replace(CHANNEL, release=some_reference("1.0.2"))
    signed.put(moved.target_path, moved)
    signed.write()
    repository = refreshed(signed, tmp_path)
    assert repository.channel("stable") == moved
    assert repository.has_news


def test_a_channel_that_is_not_there_is_told(signed: SignedSite, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match=r"has no channels/beta\.json"):
        refreshed(signed, tmp_path).channel("beta")


def test_documents_for_another_image_are_refused(signed: SignedSite, tmp_path: Path) -> None:
    repository = client(signed, tmp_path, image="other")
    repository.refresh()
    with pytest.raises(RefusedError, match="meant for image host"):
        repository.channel("stable")


def test_a_release_under_another_versions_path_is_refused(signed: SignedSite, tmp_path: Path) -> None:
    signed.put(RELEASE.target_path.replace("1.0.1", "1.0.9"), RELEASE)
    signed.write()
    with pytest.raises(RefusedError, match=r"says it is version 1\.0\.1"):
        refreshed(signed, tmp_path).release(Version.from_text("1.0.9"), sha256=None)


def test_a_signed_document_that_cannot_be_read_is_refused(signed: SignedSite, tmp_path: Path) -> None:
    signed.put(CHANNEL.target_path, b'{"format": 2}')
    signed.write()
    with pytest.raises(RefusedError, match="cannot read"):
        refreshed(signed, tmp_path).channel("stable")


def test_a_withdrawn_release_is_refused_with_the_reason(signed: SignedSite, tmp_path: Path) -> None:
    signed.withdraw(RELEASE.target_path, "loses the network")
    signed.write()
    for chosen in (CHANNEL.release.sha256, None):
        with pytest.raises(PolicyError, match=r"1\.0\.1 was withdrawn: loses the network"):
            refreshed(signed, tmp_path).release(RELEASE.version, sha256=chosen)


@pytest.mark.parametrize(
    ("start", "over_s"),
    [("9999-12-31T23:59:59Z", 172800.0), ("2026-03-01T12:00:00Z", 99999999 * 86400.0), ("0001-01-01T00:00:00Z", 0.0)],
)
def test_a_pace_that_no_calendar_has_is_refused_where_it_is_read(
    signed: SignedSite, tmp_path: Path, start: str, over_s: float
) -> None:
    document = json.loads(strict.dump_json(CHANNEL))
    document["pace"] = {"start": start, "over_s": over_s}
    signed.put(CHANNEL.target_path, json.dumps(document).encode())
    signed.write()
    with pytest.raises(RefusedError, match=r"channels/stable\.json is signed, but this agent cannot read it: .*pace"):
        refreshed(signed, tmp_path).channel("stable")


def test_documents_with_new_keys_are_read(signed: SignedSite, tmp_path: Path) -> None:
    for path, document in ((CHANNEL.target_path, CHANNEL), (RELEASE.target_path, RELEASE)):
        grown = {**json.loads(strict.dump_json(document)), "of-next-year": {"a": 1}}
        signed.put(path, json.dumps(grown).encode())
    signed.write()
    repository = refreshed(signed, tmp_path)
    assert repository.channel("stable") == CHANNEL
    assert repository.release(RELEASE.version, sha256=None).release == RELEASE
    signed.put(CHANNEL.target_path, json.dumps({**grown, "critical": ["of-next-year"]}).encode())
    signed.write()
    with pytest.raises(RefusedError, match="of-next-year"):
        refreshed(signed, tmp_path).channel("stable")
