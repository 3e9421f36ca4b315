"""The signed metadata: what a host takes and what it refuses."""

from __future__ import annotations

import gc
import json
import re
import tempfile
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import SimpleNamespace

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Root, Targets
from tuf.ngclient._internal import trusted_metadata_set

from bedrock import strict
from partitions.version import Version
from tests.fakes.clock import START
from tests.fakes.documents import channel_at, document_sha256, reference_to, some_reference
from tests.fakes.http_server import Site, raw, serving
from tests.fakes.network import LocalNetwork
from tests.fakes.tuf_site import SignedSite, under_another_name
from tests.fakes.twin_host import built
from updater.agent.client import Accepted, TrustedRepository
from updater.documents.channel import Instant
from updater.documents.release import SIGNED_AT, Architecture, SignedRelease
from updater.errors import FetchError, PolicyError, RefusedError

RELEASE = built("1.0.1").release
CHANNEL = channel_at(reference_to(RELEASE), Instant(START))


@pytest.fixture
def signed() -> Iterator[SignedSite]:
    with serving(Site()) as site:
        made = SignedSite(site)
        made.put(RELEASE.target_path, RELEASE)
        made.put(CHANNEL.target_path, CHANNEL)
        made.write()
        yield made


def client(
    signed: SignedSite, folder: Path, *, image: str = "host", root: bytes | None = None, now: datetime | None = None
) -> TrustedRepository:
    return TrustedRepository(
        Accepted(image, Architecture.X86_64),
        metadata_dir=folder / "tuf",
        root=root or signed.root_bytes,
        network=LocalNetwork([signed.site.url]),
        now=now or datetime.now(tz=UTC),
    )


def refreshed(signed: SignedSite, folder: Path) -> TrustedRepository:
    made = client(signed, folder)
    made.refresh()
    return made


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


def test_expired_metadata_are_refused(signed: SignedSite, tmp_path: Path) -> None:
    signed.timestamp_expires = datetime.now(tz=UTC).replace(microsecond=0) - timedelta(days=1)
    signed.write()
    with pytest.raises(RefusedError, match="expired"):
        refreshed(signed, tmp_path)


def test_an_edge_that_is_behind_is_not_newer_and_no_attack(signed: SignedSite, tmp_path: Path) -> None:
    before = dict(signed.site.files)
    moved = replace(CHANNEL, release=some_reference("1.0.2"))
    signed.put(moved.target_path, moved)
    signed.write()
    refreshed(signed, tmp_path).channel("stable")
    behind = before["/metadata/timestamp.json"]
    signed.site.files["/metadata/timestamp.json"] = behind
    repository = refreshed(signed, tmp_path)
    assert not repository.has_news
    assert "older metadata" in "; ".join(repository.remarks)
    # What this host knew still counts; nothing goes back.
    assert repository.channel("stable") == moved


def test_a_snapshot_that_goes_back_is_refused(signed: SignedSite, tmp_path: Path) -> None:
    signed.write()
    refreshed(signed, tmp_path)
    # Whoever has the key of timestamps alone names the older, honestly signed snapshot again.
    signed.write(timestamp=lambda stamp: setattr(stamp.snapshot_meta, "version", 1))
    with pytest.raises(RefusedError):
        refreshed(signed, tmp_path)


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
def test_metadata_signed_by_the_wrong_key_are_refused(signed: SignedSite, tmp_path: Path, role: str) -> None:
    signed.signers[role] = CryptoSigner.generate_ed25519()
    signed.write()
    with pytest.raises(RefusedError):
        refreshed(signed, tmp_path)


def test_the_release_key_cannot_sign_a_channel(signed: SignedSite, tmp_path: Path) -> None:
    signed.signers["channels"] = signed.signers["releases"]
    signed.write()
    repository = refreshed(signed, tmp_path)
    with pytest.raises(RefusedError):
        repository.channel("stable")


def test_a_tampered_document_is_refused(signed: SignedSite, tmp_path: Path) -> None:
    path = next(path for path in signed.site.files if path.endswith(".stable.json"))
    signed.site.files[path] = signed.site.files[path].replace(b'"halted": false', b'"halted": true ')
    with pytest.raises(RefusedError):
        refreshed(signed, tmp_path).channel("stable")


def test_an_endless_document_is_refused(signed: SignedSite, tmp_path: Path) -> None:
    signed.site.files["/metadata/timestamp.json"] += b" " * (1 << 20)
    with pytest.raises(RefusedError):
        refreshed(signed, tmp_path)


def test_another_root_of_trust_refuses_everything(signed: SignedSite, tmp_path: Path) -> None:
    other = SignedSite(Site()).root_bytes
    with pytest.raises(RefusedError):
        client(signed, tmp_path, root=other).refresh()


def test_a_broken_root_of_trust_is_refused(signed: SignedSite, tmp_path: Path) -> None:
    with pytest.raises(RefusedError):
        client(signed, tmp_path, root=b"{}")


def test_a_server_that_is_not_there_is_told(tmp_path: Path) -> None:
    gone = SignedSite(Site(url="http://127.0.0.1:1"))
    with pytest.raises(FetchError, match=r"http://127\.0\.0\.1:1/metadata/2\.root\.json: .*refused \(after 3 tries\)"):
        refreshed(gone, tmp_path)


def test_a_busy_server_is_asked_again(signed: SignedSite, tmp_path: Path) -> None:
    signed.site.status["/metadata/timestamp.json"] = [503, 503]
    refreshed(signed, tmp_path)


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


def test_kept_metadata_torn_by_a_power_cut_do_not_block_the_host(signed: SignedSite, tmp_path: Path) -> None:
    refreshed(signed, tmp_path).channel("stable")
    for path in (tmp_path / "tuf").rglob("*.json"):
        path.write_bytes(b"")
    assert refreshed(signed, tmp_path).channel("stable") == CHANNEL


def test_a_withdrawn_release_is_refused_with_the_reason(signed: SignedSite, tmp_path: Path) -> None:
    signed.withdraw(RELEASE.target_path, "loses the network")
    signed.write()
    for chosen in (CHANNEL.release.sha256, None):
        with pytest.raises(PolicyError, match=r"1\.0\.1 was withdrawn: loses the network"):
            refreshed(signed, tmp_path).release(RELEASE.version, sha256=chosen)


def roots_asked_for(signed: SignedSite) -> list[int]:
    """The versions of the roots that were asked for."""
    found = (re.fullmatch(r"/metadata/(\d+)\.root\.json", path) for path, _ in signed.site.requests)
    return [int(each[1]) for each in found if each]


def test_a_host_that_was_off_for_years_follows_four_hundred_roots_also_in_parts(
    signed: SignedSite, tmp_path: Path
) -> None:
    for _ in range(398):
        signed.rotate()
    signed.rotate("timestamp", "snapshot")
    signed.write()
    # The server goes away half-way, three times.
    for last in (100, 101, 300):
        path = f"/metadata/{last + 1}.root.json"
        signed.site.status[path] = [503] * 9
        with pytest.raises(FetchError, match=f"/metadata/{last + 1}.root.json"):
            refreshed(signed, tmp_path)
        del signed.site.status[path]
    assert roots_asked_for(signed)[-3:] == [301] * 3
    assert refreshed(signed, tmp_path).channel("stable") == CHANNEL
    # What was followed before is not asked for again.
    assert sorted(set(roots_asked_for(signed))) == list(range(2, 402))
    assert len(roots_asked_for(signed)) == 400 + 3 * 3
    signed.site.requests.clear()
    refreshed(signed, tmp_path)
    assert roots_asked_for(signed) == [401]


def test_a_root_that_the_one_before_did_not_sign_ends_the_chain(signed: SignedSite, tmp_path: Path) -> None:
    honest = signed.signers["root"]
    signed.rotate()
    signed.signers["root"] = signed.trusted["root"] = CryptoSigner.generate_ed25519()
    signed.rotate("root")
    signed.write()
    with pytest.raises(RefusedError, match="root was signed by 0/1 keys"):
        refreshed(signed, tmp_path)
    assert honest is not signed.signers["root"]
    assert roots_asked_for(signed) == [2, 3]


@pytest.mark.parametrize("length", [3 << 30, None])
def test_a_snapshot_that_is_named_very_long_or_does_not_end_costs_bounded_memory(
    signed: SignedSite, tmp_path: Path, length: int | None
) -> None:
    number = signed.version
    signed.write(timestamp=lambda stamp: setattr(stamp.snapshot_meta, "length", length))
    path = f"/metadata/{number}.snapshot.json"
    sent: list[int] = []

    def endless(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n{")
        while True:
            handler.wfile.write(b" " * (1 << 20))
            sent.append(1 << 20)

    signed.site.special[path] = endless
    tracemalloc.start()
    with pytest.raises(RefusedError, match="long"):
        refreshed(signed, tmp_path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 32 << 20
    assert sum(sent) < 16 << 20
    if length is not None:
        assert path not in [asked for asked, _ in signed.site.requests]


@pytest.fixture
def clock_says(monkeypatch: pytest.MonkeyPatch) -> Callable[[datetime], datetime]:
    """Sets this machine's clock, for the library too, which reads its own."""

    def set_to(when: datetime) -> datetime:
        class Stopped(datetime):
            @classmethod
            def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
                return when

        monkeypatch.setattr(trusted_metadata_set, "datetime", SimpleNamespace(datetime=Stopped, timezone=timezone))
        return when

    return set_to


NOW = datetime.now(tz=UTC).replace(microsecond=0)
ClockSays = Callable[[datetime], datetime]


@pytest.mark.parametrize("when", [datetime(1970, 1, 1, 0, 5, tzinfo=UTC), NOW - timedelta(days=3)])
def test_a_clock_that_is_behind_does_not_end_updates_and_is_named(
    signed: SignedSite, tmp_path: Path, clock_says: ClockSays, when: datetime
) -> None:
    signed.signed_at = NOW
    signed.write()
    repository = client(signed, tmp_path, now=clock_says(when))
    repository.refresh()
    assert repository.channel("stable") == CHANNEL
    assert repository.remarks == (f"this host's clock says {Instant.of(when)}, and it is after {Instant.of(NOW)}",)


def test_a_clock_that_is_a_little_behind_is_not_worth_a_word(
    signed: SignedSite, tmp_path: Path, clock_says: ClockSays
) -> None:
    signed.signed_at = NOW
    signed.write()
    repository = client(signed, tmp_path, now=clock_says(NOW - timedelta(minutes=59)))
    repository.refresh()
    assert repository.remarks == ()


def test_a_clock_that_is_behind_makes_no_expired_timestamp_good(tmp_path: Path, clock_says: ClockSays) -> None:
    with serving(Site()) as site:
        # The image was built yesterday, and its root of trust says so; what is shown expired before.
        frozen = SignedSite(site, signed_at=NOW - timedelta(days=1))
        frozen.signed_at = NOW - timedelta(days=20)
        frozen.timestamp_expires = NOW - timedelta(days=13)
        frozen.write()
        when = clock_says(datetime(1970, 1, 1, tzinfo=UTC))
        with pytest.raises(RefusedError, match=r"timestamp\.json expired at") as caught:
            client(frozen, tmp_path, now=when).refresh()
    assert f"it is after {Instant.of(NOW - timedelta(days=1))}" in str(caught.value)
    assert "this host's clock says 1970-01-01T00:00:00Z" in str(caught.value)
    assert "set the clock" in caught.value.hints[0]


def test_a_clock_that_is_behind_is_held_against_what_was_seen_before(
    signed: SignedSite, tmp_path: Path, clock_says: ClockSays
) -> None:
    before = dict(signed.site.files)
    signed.signed_at = NOW
    signed.timestamp_expires = NOW - timedelta(days=1)
    signed.write()
    clock_says(NOW - timedelta(days=2))
    with pytest.raises(RefusedError, match="expired"):
        client(signed, tmp_path, now=NOW - timedelta(days=2)).refresh()
    assert before


def test_a_clock_that_is_years_ahead_is_named(signed: SignedSite, tmp_path: Path, clock_says: ClockSays) -> None:
    when = clock_says(NOW + timedelta(days=5 * 365))
    with pytest.raises(RefusedError, match="expired") as caught:
        client(signed, tmp_path, now=when).refresh()
    assert f"this host's clock says {Instant.of(when)}" in str(caught.value)
    assert "if the clock is right" in caught.value.hints[0]


@pytest.mark.parametrize("moment", ["", "soon", "9999-99-99T00:00:00Z", 5, None, ["2026-01-01T00:00:00Z"]])
def test_a_moment_of_signing_that_makes_no_sense_is_passed_over(
    signed: SignedSite, tmp_path: Path, moment: object
) -> None:
    signed.write(timestamp=lambda stamp: stamp.unrecognized_fields.update({SIGNED_AT: moment}))
    assert refreshed(signed, tmp_path).remarks == ()


@pytest.mark.parametrize("path", ["metadata/2.root.json", "metadata/timestamp.json"])
@pytest.mark.parametrize(
    ("head", "body", "what"),
    [
        ("Content-Type: text/html", b"<html>log in</html>", "a web page"),
        ("X: y", b"  <!DOCTYPE html>", "a web page"),
        ("Content-Type: application/xml", b"<?xml?>", "a web page"),
        ("Content-Type: text/plain", b"moved", "text/plain"),
        ("X: y", b"", "something without a type"),
    ],
)
def test_a_web_page_instead_of_metadata_is_named_with_where_it_came_from(
    signed: SignedSite, path: str, head: str, body: bytes, what: str
) -> None:
    signed.site.special[f"/{path}"] = raw(
        f"HTTP/1.1 200 OK\r\n{head}\r\nContent-Length: {len(body)}\r\n\r\n".encode(), body
    )
    with tempfile.TemporaryDirectory() as folder, pytest.raises(FetchError) as caught:
        refreshed(signed, Path(folder))
    assert str(caught.value) == f"{signed.site.url}: {what} came instead of {path}"
    assert "does `url:` point to a repository" in caught.value.hints[0]


DAMAGE: dict[str, bytes] = {
    "empty": b"",
    "garbage": b"\0\xff" * 5000,
    "not an object": b"[]",
    "deep": b"[" * 100_000,
    "other": b'{"signed": {"version": "x"}, "signatures": []}',
    "endless number": b'{"signed": {"version": ' + b"9" * 5000 + b"}}",
    "half": b'{"signatures": [{"keyid": "ab"',
}


KEPT = ("timestamp", "snapshot", "targets", "channels", "root")


@pytest.fixture
def uncollected() -> Iterator[None]:
    """Nothing that other tests left is collected where the stack is used up, and what it ends by could not even run."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize(
    ("names", "damage"),
    [*((KEPT, damage) for damage in DAMAGE), *(((name,), damage) for name, damage in zip(KEPT, DAMAGE, strict=False))],
)
def test_kept_metadata_that_are_damaged_are_fetched_anew(
    signed: SignedSite, tmp_path: Path, names: tuple[str, ...], damage: str
) -> None:
    signed.rotate()
    signed.write()
    refreshed(signed, tmp_path).channel("stable")
    for name in names:
        kept = tmp_path / "tuf" / f"{name}.json"
        assert kept.exists()
        kept.write_bytes(DAMAGE[damage])
    assert refreshed(signed, tmp_path).channel("stable") == CHANNEL


@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize("damage", list(DAMAGE))
def test_a_damaged_root_of_trust_is_refused_as_the_images_own(signed: SignedSite, tmp_path: Path, damage: str) -> None:
    with pytest.raises(RefusedError, match="the image's own root of trust") as caught:
        client(signed, tmp_path, root=DAMAGE[damage] or b" ")
    # Nobody is sent to whoever runs the repository, who can do nothing about it.
    assert "repository" not in " ".join(caught.value.hints)
    assert not signed.site.requests


@pytest.mark.parametrize(
    ("make", "write"),
    [
        (CryptoSigner.generate_ed25519, str),
        (CryptoSigner.generate_ed25519, str.upper),
        (CryptoSigner.generate_ed25519, lambda public: f" {public[:10]} {public[10:]}"),
        (CryptoSigner.generate_ecdsa, lambda public: f"a word first\n{public}\n\n"),
    ],
)
def test_one_key_under_two_names_counts_once(
    signed: SignedSite, tmp_path: Path, make: Callable[[], CryptoSigner], write: Callable[[str], str]
) -> None:
    signed.signers["timestamp"] = signed.trusted["timestamp"] = make()
    twin = under_another_name(signed.signers["timestamp"], write)

    def twice(root: Root) -> None:
        root.add_key(twin.public_key, "timestamp")
        root.roles["timestamp"].threshold = 2

    signed.rotate(change=twice)
    signed.more_signers["timestamp"] = [twin]
    signed.write()
    with pytest.raises(RefusedError, match="names 2 keys, of which 1 are different"):
        refreshed(signed, tmp_path)


def test_one_key_under_two_names_counts_once_where_a_role_is_delegated_too(signed: SignedSite, tmp_path: Path) -> None:
    twin = under_another_name(signed.signers["releases"])

    def twice(targets: Targets) -> None:
        assert targets.delegations is not None
        assert targets.delegations.roles is not None
        targets.add_key(twin.public_key, "releases")
        targets.delegations.roles["releases"].threshold = 2

    signed.more_signers["releases"] = [twin]
    signed.write(targets=twice)
    with pytest.raises(RefusedError, match=r"targets\.json: the role releases has the threshold 2"):
        refreshed(signed, tmp_path)


def test_a_threshold_that_is_no_number_is_refused(signed: SignedSite, tmp_path: Path) -> None:
    signed.rotate(change=lambda root: setattr(root.roles["timestamp"], "threshold", True))
    signed.write()
    assert b'"threshold":true' in signed.site.files["/metadata/2.root.json"]
    with pytest.raises(RefusedError, match="has the threshold True"):
        refreshed(signed, tmp_path)


def test_two_different_keys_are_two(signed: SignedSite, tmp_path: Path) -> None:
    second = CryptoSigner.generate_ed25519()

    def both(root: Root) -> None:
        root.add_key(second.public_key, "timestamp")
        root.roles["timestamp"].threshold = 2

    signed.rotate(change=both)
    signed.more_signers["timestamp"] = [second]
    signed.write()
    refreshed(signed, tmp_path)


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


def test_an_older_edge_is_passed_over_until_what_is_known_expires(
    signed: SignedSite, tmp_path: Path, clock_says: ClockSays
) -> None:
    before = signed.site.files["/metadata/timestamp.json"]
    signed.timestamp_expires = NOW + timedelta(days=7)
    signed.write()
    refreshed(signed, tmp_path)
    signed.site.files["/metadata/timestamp.json"] = before
    assert refreshed(signed, tmp_path).remarks
    late = clock_says(NOW + timedelta(days=8))
    with pytest.raises(RefusedError, match="expired"):
        client(signed, tmp_path, now=late).refresh()


def test_an_older_timestamp_that_nobody_signed_is_refused(signed: SignedSite, tmp_path: Path) -> None:
    before = signed.site.files["/metadata/timestamp.json"]
    signed.write()
    refreshed(signed, tmp_path)
    forged = json.loads(before)
    forged["signatures"][0]["sig"] = "00" * 64
    signed.site.files["/metadata/timestamp.json"] = json.dumps(forged).encode()
    with pytest.raises(RefusedError, match="signed by 0/1 keys"):
        refreshed(signed, tmp_path)
