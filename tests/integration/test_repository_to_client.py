"""From keys to a client we did not write: ngclient reads what we serve and refuses what was tampered with."""

from __future__ import annotations

import hashlib
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
import zstandard
from tuf.api.exceptions import (
    BadVersionNumberError,
    ExpiredMetadataError,
    LengthOrHashMismatchError,
    UnsignedMetadataError,
)
from tuf.api.metadata import MetaFile
from tuf.ngclient import Updater
from tuf.ngclient.urllib3_fetcher import Urllib3Fetcher

from bedrock.progress import Silent
from keys.generate import init
from keys.keyring import Keyring
from keys.passphrase import NoPassphrase
from keys.roles import Profile, TufRole
from partitions.version import Version
from tests.fakes.builds import Publisher
from tests.fakes.forgery import own_keys, resign, resign_timestamp, strangers_key, swap_release
from tests.fakes.key_holders import with_folder, with_rotated
from tests.fakes.network import LocalNetwork
from updater.agent.client import Accepted, TrustedRepository
from updater.documents.channel import Channel, parse_channel
from updater.documents.release import Architecture, Compression, Release, parse_release, release_path
from updater.errors import RefusedError
from updater.repository.access import KeyAccess
from updater.repository.channels import ChannelChange, ReleaseChoice, set_channel
from updater.repository.layout import Layout
from updater.repository.lifetime import Lifetimes
from updater.repository.publish import init_repository
from updater.repository.upkeep.refresh import refresh
from updater.repository.upkeep.verify import Verification, verify
from updater.server.app import create_app
from updater.server.listen import bind, make_server

# With these every document of the usual lifetimes is past half of its life.
LONG = Lifetimes(offline=timedelta(days=3650), delegated=timedelta(days=3650))


@contextmanager
def served(base: Path) -> Iterator[str]:
    """The repository on a loopback port, for as long as the context lasts."""
    bound = bind("127.0.0.1", 0)
    answering = threading.Event()
    server = make_server(create_app(base), answering.set)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound.listener]})
    thread.start()
    try:
        assert answering.wait(timeout=10)
        yield bound.url
    finally:
        server.should_exit = True
        thread.join(timeout=20)
        bound.listener.close()
    assert not thread.is_alive()


@dataclass(frozen=True)
class Site:
    """A served repository with a host that remembers what it saw."""

    workshop: Publisher
    url: str
    host: Path

    def client(self) -> Updater:
        """The host, started anew on what it remembers."""
        for name in ("metadata", "targets"):
            (self.host / name).mkdir(parents=True, exist_ok=True)
        root = (self.workshop.base / "metadata" / "1.root.json").read_bytes()
        return Updater(
            str(self.host / "metadata"),
            f"{self.url}/metadata/",
            str(self.host / "targets"),
            f"{self.url}/targets/",
            fetcher=Urllib3Fetcher(),
            bootstrap=root,
        )

    def fetch(self, path: str) -> bytes:
        """A target, as a host gets it."""
        client = self.client()
        target = client.get_targetinfo(path)
        assert target is not None
        return Path(client.download_target(target)).read_bytes()

    def verify(self) -> Verification:
        """What `repo verify` says now."""
        return verify(self.workshop.base, now=datetime.now(UTC), progress=Silent())

    def point(self, version: str) -> None:
        """Set the channel `stable`."""
        change = ChannelChange(release=ReleaseChoice("host", Version(version)))
        access = self.workshop.access
        set_channel(self.workshop.base, "stable", change, access=access, lifetimes=Lifetimes(), now=datetime.now(UTC))


@pytest.fixture(scope="module")
def keyring(tmp_path_factory: pytest.TempPathFactory) -> Keyring:
    return init(tmp_path_factory.mktemp("keys") / "keys", Profile.PRODUCTION, NoPassphrase())


@pytest.fixture
def site(tmp_path: Path, keyring: Keyring) -> Iterator[Site]:
    now = datetime.now(UTC)
    workshop = Publisher(tmp_path, KeyAccess(keyring, NoPassphrase()))
    init_repository(workshop.base, workshop.access, lifetimes=Lifetimes(), now=now)
    workshop.publish("1.0.0", now=now)
    with served(workshop.base) as url:
        made = Site(workshop, url, tmp_path / "host")
        made.point("1.0.0")
        yield made


def channel_of(site: Site) -> Channel:
    return parse_channel(site.fetch("channels/stable.json"), source="channel")


def release_of(site: Site) -> Release:
    channel = channel_of(site)
    path = release_path(channel.image, channel.version, channel.architecture)
    return parse_release(site.fetch(path), source=path)


def test_host_follows_the_channel_to_the_bytes_of_the_release(site: Site) -> None:
    release = release_of(site)
    assert release.version == Version("1.0.0")
    for artifact in (release.artifacts.uki, release.artifacts.root, release.artifacts.verity):
        (stored,) = artifact.objects
        packed = httpx.get(f"{site.url}/{stored.path}", trust_env=False).content
        raw = packed if stored.compression is Compression.NONE else zstandard.ZstdDecompressor().decompress(packed)
        assert (hashlib.sha256(raw).hexdigest(), len(raw)) == (artifact.sha256, artifact.size_bytes)
    assert site.verify().ok


def test_host_that_knows_the_old_state_sees_the_next_release(site: Site) -> None:
    assert release_of(site).version == Version("1.0.0")
    site.workshop.publish("1.0.1", seed=2, now=datetime.now(UTC))
    site.point("1.0.1")
    assert release_of(site).version == Version("1.0.1")


def test_host_accepts_a_refreshed_repository_with_a_new_root(site: Site) -> None:
    release_of(site)
    access = site.workshop.access
    now = datetime.now(UTC)
    done = refresh(site.workshop.base, access=access, lifetimes=LONG, now=now, within=timedelta(days=366))
    assert TufRole.ROOT in done.signed
    assert release_of(site).version == Version("1.0.0")
    assert site.verify().ok


@pytest.mark.parametrize("role", list(TufRole))
def test_hosts_follow_every_exchange_of_keys_from_the_first_root(site: Site, tmp_path: Path, role: TufRole) -> None:
    """One host that looks after each step, and one that was off all the time."""
    folder = tmp_path / "rotated"
    shutil.copytree(site.workshop.access.keyring.folder, folder)
    workshop = with_folder(site.workshop, folder)
    release_of(site)
    for number in (1, 2):
        workshop = with_rotated(workshop, role)
        refresh(workshop.base, access=workshop.access, lifetimes=Lifetimes(), now=datetime.now(UTC))
        workshop.publish(f"1.{number}.0", seed=number, now=datetime.now(UTC))
        replace(site, workshop=workshop).point(f"1.{number}.0")
        assert release_of(site).version == Version(f"1.{number}.0")
        with opened(site) as agent:
            assert agent.channel("stable").version == Version(f"1.{number}.0")
        assert httpx.get(f"{site.url}/healthz", trust_env=False).status_code == 200
    assert site.verify().ok
    late = replace(site, host=tmp_path / "late")
    assert release_of(late).version == Version("1.2.0")


def test_hosts_accept_the_repository_while_keys_are_being_exchanged(site: Site, tmp_path: Path) -> None:
    """The online signer has its new keys, and the root that names them is still being signed."""
    folder = tmp_path / "rotated"
    shutil.copytree(site.workshop.access.keyring.folder, folder)
    workshop = with_folder(site.workshop, folder)
    for role in (TufRole.SNAPSHOT, TufRole.TIMESTAMP):
        workshop = with_rotated(workshop, role)
    for path in folder.glob("root-*.pem"):
        path.rename(tmp_path / path.name)
    now = datetime.now(UTC)
    assert refresh(workshop.base, access=workshop.access, lifetimes=Lifetimes(), now=now).needed
    assert release_of(site).version == Version("1.0.0")
    for path in tmp_path.glob("root-*.pem"):
        path.rename(folder / path.name)
    assert refresh(workshop.base, access=workshop.access, lifetimes=Lifetimes(), now=now).changes
    assert release_of(site).version == Version("1.0.0")


def test_tampered_target_is_refused(site: Site) -> None:
    (path,) = (site.workshop.base / "targets" / "channels").iterdir()
    changed = path.read_bytes().replace(b"1.0.0", b"6.6.6")
    assert changed != path.read_bytes()
    path.write_bytes(changed)
    with pytest.raises(LengthOrHashMismatchError):
        site.fetch("channels/stable.json")
    assert not site.verify().ok


def test_expired_timestamp_is_refused(site: Site) -> None:
    past = datetime.now(UTC) - timedelta(days=8)
    refresh(site.workshop.base, access=site.workshop.access, lifetimes=Lifetimes(), now=past)
    assert httpx.get(f"{site.url}/healthz", trust_env=False).status_code == 503
    with pytest.raises(ExpiredMetadataError):
        site.client().refresh()
    assert "the timestamp metadata expired" in "\n".join(site.verify().problems)


@pytest.mark.parametrize("role", [TufRole.TIMESTAMP, TufRole.SNAPSHOT, TufRole.TARGETS, TufRole.CHANNELS])
def test_signature_of_a_wrong_key_is_refused(site: Site, role: TufRole) -> None:
    resign(site.workshop, role, [strangers_key()])
    with pytest.raises(UnsignedMetadataError):
        site.fetch("channels/stable.json")
    assert not site.verify().ok


def test_release_key_cannot_move_a_channel(site: Site) -> None:
    resign(site.workshop, TufRole.CHANNELS, own_keys(site.workshop, TufRole.RELEASES))
    with pytest.raises(UnsignedMetadataError):
        site.fetch("channels/stable.json")


def test_the_pipelines_keys_put_nothing_on_hosts_that_no_release_manager_promoted(site: Site) -> None:
    channel, honest = channel_of(site), release_of(site)
    with opened(site) as agent:
        assert agent.release(channel.version, sha256=channel.release.sha256).release == honest
    theirs = swap_release(site.workshop, "1.0.0", seed=7)
    # Every signature holds; the channel still names the bytes that were promoted.
    assert channel_of(site) == channel
    assert release_of(site) != honest
    with opened(site) as agent, pytest.raises(RefusedError, match=theirs):
        agent.release(channel.version, sha256=agent.channel("stable").release.sha256)
    # Nor can the pipeline move the channel to it.
    resign(site.workshop, TufRole.CHANNELS, own_keys(site.workshop, TufRole.RELEASES))
    with pytest.raises(UnsignedMetadataError):
        channel_of(site)
    assert "changed after publication" in "\n".join(site.verify().problems)


@contextmanager
def opened(site: Site) -> Iterator[TrustedRepository]:
    """The agent's own client, with metadata fetched just now."""
    agent = TrustedRepository(
        Accepted("host", Architecture.X86_64),
        metadata_dir=site.host / "agent",
        root=(site.workshop.base / "metadata" / "1.root.json").read_bytes(),
        network=LocalNetwork([site.url]),
        now=datetime.now(UTC),
    )
    agent.refresh()
    yield agent


def test_new_root_below_the_threshold_is_refused(site: Site) -> None:
    refresh(
        site.workshop.base,
        access=site.workshop.access,
        lifetimes=LONG,
        now=datetime.now(UTC),
        within=timedelta(days=366),
    )
    resign(site.workshop, TufRole.ROOT, own_keys(site.workshop, TufRole.ROOT)[:1])
    with pytest.raises(UnsignedMetadataError):
        site.client().refresh()
    assert not site.verify().ok


def test_repository_put_back_to_an_older_state_is_refused_by_a_host_that_saw_the_newer(site: Site) -> None:
    old = Layout(site.workshop.base).timestamp_file.read_bytes()
    site.workshop.publish("1.0.1", seed=2, now=datetime.now(UTC))
    site.point("1.0.1")
    assert release_of(site).version == Version("1.0.1")
    Layout(site.workshop.base).timestamp_file.write_bytes(old)
    with pytest.raises(BadVersionNumberError):
        site.client().refresh()
    assert "newer than the timestamp says" in "\n".join(site.verify().notes)


def test_snapshot_that_rolls_a_role_back_is_refused(site: Site) -> None:
    layout = Layout(site.workshop.base)
    old = layout.role_file(TufRole.SNAPSHOT, 2).read_bytes()
    site.client().refresh()
    # Somebody with the timestamp key alone names the older, honestly signed snapshot again.
    resign_timestamp(site.workshop, MetaFile.from_data(2, old, ["sha256"]))
    with pytest.raises(BadVersionNumberError):
        site.client().refresh()


def test_version_with_every_allowed_character_is_fetched(site: Site) -> None:
    version = "2.0~rc1^git-A"
    site.workshop.publish(version, seed=3, now=datetime.now(UTC))
    site.point(version)
    assert release_of(site).version == Version(version)
