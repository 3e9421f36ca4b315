"""The configured servers: how they are reached, in which order, and what is said when something is missing."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from partitions.version import Version
from tests.fakes.certificates import loopback_tls
from tests.fakes.clock import FakeClock
from tests.fakes.http_server import Site, serving
from tests.fakes.tuf_site import SignedSite
from tests.fakes.twin_host import built
from updater.agent.asking import AnyPlace
from updater.agent.config import Config, Timeouts
from updater.agent.host_paths import HostPaths
from updater.agent.machine import RunningSystem
from updater.agent.server import ServerClient, access_of, restarting, server_client
from updater.agent.state import PollResult
from updater.documents.release import Architecture
from updater.errors import NetworkSideError, RefusedError, UpdaterError
from updater.transfer.connection import Connection, at_socket, started_here
from updater.transfer.messages import MAX_CA_BYTES

CONFIG = Config(url="http://me:pw@a/x", mirrors=("http://b",), channel="stable")
RUNNING = RunningSystem("host", Version("1.0.0"), "ab" * 32, Architecture.X86_64, "m", "boot")


def test_settings_say_how_servers_are_reached() -> None:
    config = replace(CONFIG, bandwidth=1 << 20, timeouts=Timeouts(connect=1.0, read=2.0, document=3.0))
    access = access_of(config, {})
    assert access.urls == ("http://me:pw@a/x", "http://b")
    assert (access.bytes_per_s, access.connect_s, access.read_s, access.document_s) == (1 << 20, 1.0, 2.0, 3.0)
    assert (access.proxies, access.no_proxy, access.ca) == ({}, "", "")
    # What is logged of it holds no password.
    assert "pw" not in repr(access)


@pytest.mark.parametrize(
    ("environment", "proxies"),
    [
        ({"http_proxy": "http://p"}, {"http": "http://p"}),
        ({"HTTPS_PROXY": "http://p"}, {"https": "http://p"}),
        ({"all_proxy": "http://p"}, {"http": "http://p", "https": "http://p"}),
        ({"http_proxy": "http://small", "HTTP_PROXY": "http://large"}, {"http": "http://small"}),
        ({"http_proxy": "", "ALL_PROXY": "http://p"}, {"http": "http://p", "https": "http://p"}),
        ({"ftp_proxy": "http://p"}, {}),
    ],
)
def test_proxies_of_the_environment_count(environment: dict[str, str], proxies: dict[str, str]) -> None:
    assert access_of(CONFIG, environment).proxies == proxies


def test_a_proxy_of_the_settings_comes_before_the_environments() -> None:
    config = replace(CONFIG, proxy="http://me:pw@p:3128")
    access = access_of(config, {"http_proxy": "http://other", "NO_PROXY": "a,b"})
    assert access.proxies == {"http": "http://me:pw@p:3128", "https": "http://me:pw@p:3128"}
    assert access.no_proxy == "a,b"


def test_additional_certificates_are_read_and_what_is_none_is_named(tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    with pytest.raises(UpdaterError, match=r"ca\.pem: No such file"):
        access_of(replace(CONFIG, ca=str(path)), {})
    for wrong in ("no certificate", "-----BEGIN CERTIFICATE-----" + "x" * MAX_CA_BYTES):
        path.write_text(wrong)
        with pytest.raises(UpdaterError, match=r"ca\.pem must hold certificates in PEM"):
            access_of(replace(CONFIG, ca=str(path)), {})
    path.write_text(loopback_tls(tmp_path).ca)
    assert access_of(replace(CONFIG, ca=str(path)), {}).ca == path.read_text()


@pytest.fixture
def signed() -> Iterator[SignedSite]:
    with serving(Site()) as site:
        made = SignedSite(site)
        made.put_build(built("1.0.1"))
        made.write()
        yield made


def client(folder: Path, *urls: str, root: bytes = b"") -> ServerClient:
    paths = HostPaths(folder)
    paths.root_of_trust.parent.mkdir(parents=True)
    if root:
        paths.root_of_trust.write_bytes(root)
    config = Config(url=urls[0], mirrors=urls[1:], channel="stable")
    return ServerClient(config, paths, FakeClock(), started_here(), {})


def asked_first(it: ServerClient) -> str:
    network = it.network()
    assert isinstance(network, Connection)
    return network.access.urls[0]


def test_each_server_is_asked_first_once(tmp_path: Path) -> None:
    it = client(tmp_path, "http://a", "http://b", "http://c")
    first = []
    for _ in range(it.places + 1):
        first.append(asked_first(it))
        it.next_server()
    assert first == ["http://a", "http://b", "http://c", "http://a"]


def test_one_network_side_serves_documents_and_objects_until_it_is_let_go(tmp_path: Path) -> None:
    it = client(tmp_path, "http://a")
    first = it.network()
    assert it.source().network is first
    it.close()
    it.close()
    assert it.network() is not first


def test_a_host_without_a_root_of_trust_says_which_file_is_missing(tmp_path: Path) -> None:
    it = client(tmp_path, "http://a")
    with pytest.raises(RefusedError, match=r"usr/lib/twinhull/root\.json: the root of trust cannot be read: No such"):
        it.repository(RUNNING)


def test_a_root_of_trust_that_is_broken_is_named(tmp_path: Path) -> None:
    it = client(tmp_path, "http://a", root=b"{half")
    with pytest.raises(RefusedError, match=r"usr/lib/twinhull/root\.json: the image's own root of trust"):
        it.repository(RUNNING)


def test_metadata_are_kept_below_the_hosts_own_folder(signed: SignedSite, tmp_path: Path) -> None:
    it = client(tmp_path, signed.site.url, root=signed.root_bytes)
    repository = it.repository(RUNNING)
    repository.refresh()
    assert str(repository.channel("stable").version) == "1.0.1"
    it.close()
    assert (tmp_path / "var/lib/twinhull/tuf/timestamp.json").exists()


@pytest.mark.parametrize("what", ["channel", "role", "away"])
def test_a_server_that_garbles_a_document_is_passed_over(signed: SignedSite, tmp_path: Path, what: str) -> None:
    files = dict(signed.site.files)
    target = next(path for path in files if path.startswith("/targets/channels/"))
    role = next(path for path in files if path.endswith(".channels.json"))
    if what == "away":
        del files[target]
    else:
        files[target if what == "channel" else role] = b"{}"
    with serving(Site(files=files)) as liar:
        it = client(tmp_path, liar.url, signed.site.url, root=signed.root_bytes)
        repository = AnyPlace(it, RUNNING)
        repository.refresh()
        assert str(repository.channel("stable").version) == "1.0.1"
        assert repository.outcome == (PollResult.OK, "")
        it.close()


def test_this_host_asks_the_network_side_of_systemd_and_a_folder_one_of_its_own(tmp_path: Path) -> None:
    here = server_client(CONFIG, HostPaths(), FakeClock())
    folder = server_client(CONFIG, HostPaths(tmp_path), FakeClock())
    assert "restarting" in here.connect.__qualname__
    assert "started_here" in folder.connect.__qualname__


def test_a_socket_that_is_gone_is_started_again_once(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    started: list[int] = []

    def start() -> None:
        started.append(1)
        listener.bind(str(path))
        listener.listen()

    connect = restarting(at_socket(path), start)
    with listener:
        for _ in range(2):
            with connect() as made:
                assert made.fileno() >= 0
    assert started == [1]
    with pytest.raises(NetworkSideError), restarting(at_socket(tmp_path / "none"), lambda: None)():
        pass
