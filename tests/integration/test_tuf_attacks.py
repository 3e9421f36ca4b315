"""The attacks of the TUF specification (1.5.2), each against the real program on a host that is a folder.

The host runs 1.0.1 and has 1.0.0 to go back to; 1.0.2 is published.  Each test shows that the attack took place, and
that what boots is, byte for byte, what it was.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
import zstandard
from securesystemslib.signer import CryptoSigner

from bedrock import strict
from bedrock.digest import bytes_sha256
from bedrock.errors import EXIT_FAILED, EXIT_NOTHING_TO_DO, EXIT_REFUSED
from bedrock.process import Finished
from tests.fakes.documents import channel_at, reference_to
from tests.fakes.host_folder import HostFolder
from tests.fakes.http_server import Site, Special, serving, trickled
from tests.fakes.tampering import flipped
from tests.fakes.tuf_site import LONG_AGO, SignedSite
from tests.fakes.twin_host import built
from updater.documents.release import Artifact, Release

FALLBACK, RUNNING, NEW = built("1.0.0"), built("1.0.1"), built("1.0.2")
EVIL = built("1.0.2", seed=666)
YESTERDAY = timedelta(days=1)


class Target:
    """The host under attack, and the repository that it trusts."""

    def __init__(self, site: Site, folder: Path) -> None:
        self.site = site
        self.signed = SignedSite(site)
        self.running = self.signed.put_build(RUNNING)
        self.signed.write()
        root = self.signed.root_bytes
        self.host = HostFolder.make(folder / "host", RUNNING, fallback=FALLBACK, root_of_trust=root, url=site.url)
        self.host.know(NEW, EVIL)
        self.before = dict(site.files)
        self.new = self.signed.put_build(NEW)
        self.signed.write()
        self.what_boots = self.host.what_boots()
        site.requests.clear()

    def path(self, ending: str) -> str:
        """The newest file of the site whose path ends like this."""
        return [path for path in self.site.files if path.endswith(ending)][-1]

    def object_path(self, which: str) -> str:
        artifact: Artifact = getattr(self.new.artifacts, which)
        return f"/{artifact.objects[0].path}"

    def update(self) -> Finished:
        return self.host.run("update", "--no-reboot")

    def asked_for(self, path: str) -> bool:
        return path in [asked for asked, _ in self.site.requests]

    def assert_nothing_changed(self) -> None:
        assert self.host.what_boots() == self.what_boots

    def assert_fails(self, code: int, why: str) -> None:
        """The update ends like this, and what boots is as it was."""
        done = self.update()
        assert (done.returncode, why in done.stderr) == (code, True), done.stderr
        self.assert_nothing_changed()


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Target]:
    with serving(Site()) as site:
        yield Target(site, tmp_path)


def test_what_boots_is_what_a_host_can_go_back_to(target: Target) -> None:
    assert target.host.json("rollback", "--no-reboot") == {"version": "1.0.0"}
    assert target.host.boot() == "1.0.0"


def test_without_an_attack_the_host_would_update(target: Target) -> None:
    assert target.update().returncode == 0
    assert target.host.boot() == "1.0.2"


# Arbitrary software installation: an attacker provides arbitrary files in response to download requests.


@pytest.mark.parametrize("which", ["uki", "root", "verity"])
def test_arbitrary_installation_by_other_objects(target: Target, which: str) -> None:
    content = target.site.files[target.object_path(which)]
    packed = zstandard.compress(EVIL.content(getattr(EVIL.release.artifacts, which)), 3)
    # As long as the signed one, and something that unpacks.
    forged = packed.ljust(len(content), b"\0")[: len(content)]
    assert forged != content
    target.site.files[target.object_path(which)] = forged
    target.assert_fails(EXIT_REFUSED, "not the signed one")
    assert target.asked_for(target.object_path(which))


@pytest.mark.parametrize("ending", [".stable.json", ".x86-64.json"])
def test_arbitrary_installation_by_other_documents(target: Target, ending: str) -> None:
    path = target.path(ending)
    target.site.files[path] = flipped(target.site.files[path], 10)
    target.assert_fails(EXIT_REFUSED, "")
    assert target.asked_for(path)


def test_arbitrary_installation_by_another_repository(target: Target) -> None:
    theirs = SignedSite(Site())
    theirs.version = target.signed.version
    theirs.put_build(EVIL)
    theirs.write()
    target.site.files.clear()
    target.site.files.update(theirs.site.files)
    target.assert_fails(EXIT_REFUSED, "timestamp was signed by 0/1 keys")
    assert target.asked_for("/metadata/timestamp.json")


# Endless data: an attacker responds with an endless stream.


def endless(sent: list[int]) -> Special:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n{")
        while True:
            handler.wfile.write(b" " * 65536)
            sent.append(65536)

    return answer


@pytest.mark.parametrize("what", ["2.root.json", "timestamp.json", "2.snapshot.json", ".stable.json", "object"])
def test_endless_data(target: Target, what: str) -> None:
    path = target.object_path("root") if what == "object" else f"/metadata/{what}"
    if what == ".stable.json":
        path = target.path(what)
    sent: list[int] = []
    target.site.special[path] = endless(sent)
    done = target.update()
    assert done.returncode in (EXIT_REFUSED, EXIT_FAILED)
    assert target.asked_for(path)
    assert 0 < sum(sent) < 16 << 20
    assert not [kept for kept in target.host.spool.glob("*") if kept.stat().st_size > 1 << 20]
    target.assert_nothing_changed()


# Extraneous dependencies: a client is made to install something else for what it wants.


def test_extraneous_dependencies(target: Target) -> None:
    # A floor is the one thing that a host installs on its way; only who signs channels can name one.
    evil = target.signed._carried(EVIL.release.artifacts.root, EVIL)
    floor = reference_to(replace(EVIL.release, artifacts=replace(EVIL.release.artifacts, root=evil)))
    path = target.path(".stable.json")
    channel = json.loads(target.site.files[path])
    channel["floor"] = {"version": str(floor.version), "sha256": floor.sha256}
    target.site.files[path] = json.dumps(channel).encode()
    target.assert_fails(EXIT_REFUSED, "")
    assert target.asked_for(path)


def test_extraneous_dependencies_that_a_release_names_are_not_fetched(target: Target) -> None:
    nowhere = Artifact("ab" * 32, 1 << 40)
    more = {**json.loads(strict.dump_json(target.new)), "requires": ["evil-1.0"]}
    more["attachments"] = {"evil": {"sha256": nowhere.sha256, "size_bytes": nowhere.size_bytes, "objects": []}}
    data = json.dumps(more).encode()
    target.signed.put(target.new.target_path, data)
    point_to(target.signed, target.new, data)
    target.signed.write()
    assert target.update().returncode == 0
    objects = {path for path, _ in target.site.requests if path.startswith("/objects/")}
    assert objects == {target.object_path(which) for which in ("uki", "root", "verity")}


def point_to(signed: SignedSite, release: Release, data: bytes) -> None:
    """Point the channel to a release by the bytes of its document."""
    channel = channel_at(replace(reference_to(release), sha256=bytes_sha256(data)), LONG_AGO)
    signed.put(channel.target_path, channel)


# Fast-forward: an attacker raises version numbers so far that clients refuse everything after the recovery.


def test_fast_forward(target: Target) -> None:
    far = 2**31 - 1

    def raise_version(stamp: Any) -> None:
        stamp.version = far

    target.signed.write(timestamp=raise_version)
    target.host.ok("check")
    kept = json.loads((target.host.state / "tuf/timestamp.json").read_text())
    assert kept["signed"]["version"] == far
    # Recovered: new keys, and versions as they were before.
    target.signed.rotate("timestamp", "snapshot")
    target.signed.write()
    target.host.ok("check")
    kept = json.loads((target.host.state / "tuf/timestamp.json").read_text())
    assert kept["signed"]["version"] < far
    target.assert_nothing_changed()


# Indefinite freeze: clients are shown the same, outdated metadata for ever.


def test_indefinite_freeze(target: Target) -> None:
    target.signed.timestamp_expires = datetime.now(tz=UTC).replace(microsecond=0) - YESTERDAY
    target.signed.write()
    target.assert_fails(EXIT_REFUSED, "expired")
    assert target.asked_for("/metadata/timestamp.json")
    # Loud on the host, too.
    assert "refused: metadata refused: timestamp.json is expired" in target.host.ok("status")
    assert "poll-refused" in target.host.ok("history")


# Malicious mirrors preventing updates.


def seen(target: Target) -> None:
    """Let the host see the repository as it was before 1.0.2."""
    newer, target.site.files = target.site.files, dict(target.before)
    assert target.host.run("check").returncode == EXIT_NOTHING_TO_DO
    target.site.files = newer


def frozen(mirror: Site, target: Target) -> None:
    expired = SignedSite(mirror, signers=target.signed.signers)
    expired.version = target.signed.version
    expired.timestamp_expires = datetime.now(tz=UTC).replace(microsecond=0) - YESTERDAY
    expired.write()


def stale(mirror: Site, target: Target) -> None:
    mirror.files = dict(target.before)


def without_objects(mirror: Site, target: Target) -> None:
    mirror.files = {path: data for path, data in target.site.files.items() if not path.startswith("/objects/")}


def with_other_objects(mirror: Site, target: Target) -> None:
    mirror.files = {
        path: flipped(data) if path.startswith("/objects/") else data for path, data in target.site.files.items()
    }


def with_nothing(mirror: Site, target: Target) -> None:
    del mirror, target


@pytest.mark.parametrize("how", [frozen, stale, without_objects, with_other_objects, with_nothing])
def test_malicious_mirrors_preventing_updates(target: Target, how: Callable[[Site, Target], None]) -> None:
    with serving(Site()) as mirror:
        how(mirror, target)
        if how is stale:
            seen(target)
        target.host.add_settings(f"url: {mirror.url}\nmirrors: ['{target.site.url}']\n")
        assert target.update().returncode == 0
        assert mirror.requests
    assert target.host.boot() == "1.0.2"


# Mix-and-match: metadata of different times are put together.


@pytest.mark.parametrize("role", ["snapshot", "targets", "releases", "channels"])
def test_mix_and_match(target: Target, role: str) -> None:
    old, new = f"/metadata/1.{role}.json", f"/metadata/2.{role}.json"
    assert target.site.files[old] != target.site.files[new]
    target.site.files[new] = target.site.files[old]
    target.assert_fails(EXIT_REFUSED, "")
    assert target.asked_for(new)


# Rollback: clients are shown what is older than what they have seen.


def test_rollback_of_the_repository(target: Target) -> None:
    target.host.ok("check")
    target.site.files = dict(target.before)
    # The older timestamp was signed once, so this is not newer; what the host has seen still counts.
    done = target.update()
    assert done.returncode in (EXIT_FAILED, EXIT_REFUSED), done.stderr
    assert target.asked_for("/metadata/timestamp.json")
    target.assert_nothing_changed()
    kept = json.loads((target.host.state / "tuf/timestamp.json").read_text())
    assert kept["signed"]["version"] == 2


def test_rollback_by_the_timestamp_key(target: Target) -> None:
    target.host.ok("check")
    target.signed.write(timestamp=lambda stamp: setattr(stamp.snapshot_meta, "version", 1))
    target.assert_fails(EXIT_REFUSED, "")


def test_rollback_by_a_channel_to_an_older_version(target: Target) -> None:
    older = target.signed.put_build(built("0.9.0"))
    target.signed.write()
    target.assert_fails(EXIT_FAILED, "0.9.0 is older than 1.0.1")
    assert older


# Slow retrieval: an attacker responds so slowly that clients never get the update.


@pytest.mark.parametrize("path", ["/metadata/timestamp.json", "/metadata/2.snapshot.json"])
def test_slow_retrieval(target: Target, path: str) -> None:
    target.site.special[path] = trickled(target.site, b"HTTP/1.1 200 OK\r\n\r\n{", b" ", 0.05)
    began = time.monotonic()
    target.assert_fails(EXIT_FAILED, "when its time was over")
    assert time.monotonic() - began < 20.0
    assert target.asked_for(path)


def test_slow_retrieval_of_an_object_keeps_nothing_else_from_working(target: Target) -> None:
    path = target.object_path("root")
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(target.site.files[path])}\r\n\r\n".encode()
    target.site.special[path] = trickled(target.site, head, b"x", 0.2)
    running = target.host.start("update", "--no-reboot")
    try:
        deadline = time.monotonic() + 30
        while not target.asked_for(path):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        target.assert_nothing_changed()
        assert running.poll() is None
    finally:
        running.terminate()
        running.wait()


# Vulnerability to key compromises: whoever has some of the keys.


@contextmanager
def strangers(signed: SignedSite, *roles: str) -> Iterator[None]:
    """What is written meanwhile is signed for these roles by keys that are not trusted."""
    honest = dict(signed.signers)
    for role in roles:
        signed.signers[role] = CryptoSigner.generate_ed25519()
    yield
    signed.signers = honest


@pytest.mark.parametrize("stolen", ["timestamp", "snapshot", "releases", "channels", "targets"])
def test_key_compromise_of_one_role_and_of_those_that_are_online(target: Target, stolen: str) -> None:
    held = {"timestamp", "snapshot", stolen}
    others = [role for role in ("targets", "releases", "channels") if role not in held]
    with strangers(target.signed, *others):
        # Everything that is not theirs is signed by a key that nobody trusts.
        target.signed.put_build(EVIL)
        target.signed.write()
    target.assert_fails(EXIT_REFUSED, "")
    assert target.asked_for("/metadata/3.targets.json" if stolen != "targets" else "/metadata/3.channels.json")


def test_key_compromise_of_releases_puts_no_other_bytes_under_a_promoted_name(target: Target) -> None:
    channel = target.signed.targets["channels"]["channels/stable.json"]
    target.signed.put_build(EVIL)
    # The channel stays as its owner signed it; everything else is signed with the right, stolen keys.
    target.signed.put("channels/stable.json", channel)
    target.signed.write()
    target.assert_fails(EXIT_REFUSED, "was chosen: it was changed after that")


def test_key_compromise_of_channels_promotes_nothing_that_the_pipeline_did_not_sign(target: Target) -> None:
    releases = dict(target.signed.targets["releases"])
    target.signed.put_build(EVIL)
    target.signed.targets["releases"] = releases
    target.signed.write()
    target.assert_fails(EXIT_REFUSED, "was chosen: it was changed after that")


# Wrong software installation: a client is given a trusted file that it did not ask for.


def test_wrong_software_of_another_image(target: Target) -> None:
    other = replace(target.new, image="other")
    channel = replace(channel_at(reference_to(other), LONG_AGO), image="other")
    target.signed.put(other.target_path, other)
    target.signed.put(channel.target_path, channel)
    target.signed.write()
    target.assert_fails(EXIT_REFUSED, "meant for image other")


def test_wrong_software_under_the_name_of_another_version(target: Target) -> None:
    data = strict.dump_json(target.running)
    target.signed.put(target.new.target_path, data)
    point_to(target.signed, target.new, data)
    target.signed.write()
    target.assert_fails(EXIT_REFUSED, "says it is version 1.0.1")


def test_wrong_software_by_the_objects_of_another_release(target: Target) -> None:
    files = target.site.files
    older: Artifact = target.running.artifacts.root
    files[target.object_path("root")] = files[f"/{older.objects[0].path}"]
    target.assert_fails(EXIT_REFUSED, "signed")
    assert target.asked_for(target.object_path("root"))
