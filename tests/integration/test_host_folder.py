"""The real program on a host that is a folder, with a server on loopback that is honest, slow, silent or gone."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from bedrock import process
from bedrock.process import Running
from partitions.layout import BUILT_ESP_UUID, BUILT_XBOOTLDR_UUID
from tests.fakes.forward_proxy import forward_proxy
from tests.fakes.host_folder import SETTINGS, HostFolder, large_parts
from tests.fakes.http_server import Site, Special, raw, serving, silent
from tests.fakes.tuf_site import SignedSite
from tests.fakes.twin_host import built
from updater.agent.ground.reset import CREDENTIAL, DONE, REQUEST
from updater.documents.release import Release

BUILT = (BUILT_ESP_UUID, BUILT_XBOOTLDR_UUID)

OLD, NEW, NEWER = built("1.0.0"), built("1.0.1", blocks=1000, noise=True), built("1.0.2", blocks=12)
# What a command takes that waits for nothing, on a busy machine.
AT_ONCE_S = 5.0
SILENT_S = 60
PATIENT = f"timeouts: {{connect: {SILENT_S}s, read: {SILENT_S}s, document: {SILENT_S}s}}\n"


class Fleet:
    """A host and the repository it trusts."""

    def __init__(self, site: Site, folder: Path) -> None:
        self.site = site
        self.signed = SignedSite(site)
        self.release = self.signed.put_build(NEW)
        self.signed.write()
        root = self.signed.root_bytes
        self.host = HostFolder.make(folder / "host", OLD, root_of_trust=root, url=site.url, parts=large_parts())
        self.host.know(NEW, NEWER)

    def path(self, which: str = "root", release: Release | None = None) -> str:
        artifact = getattr((release or self.release).artifacts, which)
        return f"/{artifact.objects[0].path}"

    @property
    def kept(self) -> Path:
        return self.host.spool / self.release.artifacts.root.objects[0].sha256

    def publish_newer(self) -> Release:
        release = self.signed.put_build(NEWER)
        self.signed.write()
        return release

    def update(self) -> None:
        """Update, boot and bless."""
        self.host.ok("update", "--no-reboot")
        assert self.host.booked() is not None
        self.host.ok("bless")


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with serving(Site()) as site:
        yield Fleet(site, tmp_path)


def test_a_host_updates_is_judged_goes_back_and_is_held_as_an_operator_types_it(fleet: Fleet) -> None:
    host = fleet.host
    assert host.json("check") == {"plan": "update", "version": "1.0.1", "slot": "b", "downgrade": False}
    done = host.run("update")
    assert "1.0.1 is staged in slot b" in done.stdout
    assert host.wants_reboot()
    assert host.entry_names() == ["host_1.0.0.efi", "host_1.0.1+3-0.efi"]
    # Nothing of it is kept once it is installed.
    assert list(host.spool.iterdir()) == []
    assert host.booked() == "1.0.1"
    assert host.json("status")["standing"] == "trial"
    assert host.run("update").returncode == 1
    assert host.ok("health", "--gate") == "ok   update server answers\n"
    host.ok("bless")
    assert host.entry_names() == ["host_1.0.0.efi", "host_1.0.1+3-6.efi"]
    assert host.run("update").returncode == 4
    assert host.json("rollback") == {"version": "1.0.0"}
    assert host.booked() == "1.0.0"
    host.ok("bless")
    assert host.run("update").returncode == 1
    fleet.publish_newer()
    host.ok("hold", "--reason", "audit")
    assert "audit" in host.run("update").stderr
    host.ok("release-hold")
    host.ok("pin", "1.0.2")
    fleet.update()
    kinds = [event["kind"] for event in host.json("history")]
    assert [kind for kind in kinds if kind in ("installed", "blessed", "demoted", "held")] == [
        *("installed", "blessed"),
        *("blessed", "demoted", "held"),
        *("installed", "blessed"),
    ]
    assert json.loads(host.run("settings", "--json").stdout)["problems"] == []


def stalling(site: Site, content: bytes, at: int) -> Special:
    """Sends the object, or the part that was asked for, up to this byte; then nothing comes any more."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        wanted = handler.headers.get("Range")
        start = int(wanted.removeprefix("bytes=").partition("-")[0]) if wanted else 0
        last = len(content) - 1
        first = f"HTTP/1.1 206 Partial\r\nContent-Range: bytes {start}-{last}/{len(content)}\r\n"
        head = (first if wanted else "HTTP/1.1 200 OK\r\n") + f"Content-Length: {len(content) - start}\r\n\r\n"
        handler.wfile.write(head.encode() + content[start:at])
        site.over.wait()

    return answer


def wait_for(what: Callable[[], bool], running: Running | None = None) -> None:
    deadline = time.monotonic() + 30
    while not what():
        assert time.monotonic() < deadline
        assert running is None or running.poll() is None, "it ended by itself"
        time.sleep(0.01)


def test_a_download_that_was_killed_goes_on_with_the_bytes_that_are_missing(fleet: Fleet) -> None:
    host, path = fleet.host, fleet.path()
    content = fleet.site.files[path]
    host.add_settings(PATIENT)
    cuts = [1, len(content) // 3, len(content) // 3, len(content) - 1]
    for times, cut in enumerate(cuts, start=1):
        fleet.site.special[path] = stalling(fleet.site, content, cut)
        with ended(host.start("update", "--no-reboot"), signal.SIGKILL) as running:
            wait_for(partial(has_kept, fleet, times, cut), running)
    del fleet.site.special[path]
    host.ok("update", "--no-reboot")
    end = len(content) - 1
    assert [wanted for asked, wanted in fleet.site.requests if asked == path] == [
        None,
        *(f"bytes={start}-{end}" for start in cuts),
    ]
    # What was whole when it was killed is not asked for again.
    assert asked_for(fleet, fleet.path("uki")) == 1
    assert host.booked() == "1.0.1"


def has_kept(fleet: Fleet, times: int, size_bytes: int) -> bool:
    """Whether the root was asked for so often, and so much of it is kept."""
    return asked_for(fleet, fleet.path()) == times and fleet.kept.stat().st_size == size_bytes


def asked_for(fleet: Fleet, path: str) -> int:
    return [asked for asked, _ in fleet.site.requests].count(path)


@contextmanager
def ended(running: Running, how: signal.Signals) -> Iterator[Running]:
    """End a program after the block, and see that its network side ends with it."""
    try:
        yield running
        children = children_of(running.pid)
        running.send_signal(how)
        running.wait(30)
        wait_for(lambda: not any(Path(f"/proc/{pid}/cmdline").exists() and is_worker(pid) for pid in children))
    finally:
        running.kill()
        running.wait()


def children_of(pid: int) -> list[int]:
    return [int(word) for path in Path(f"/proc/{pid}/task").glob("*/children") for word in path.read_text().split()]


def is_worker(pid: int) -> bool:
    try:
        return b"updater.transfer.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def test_other_commands_answer_at_once_while_a_download_is_silent(fleet: Fleet) -> None:
    host = fleet.host
    fleet.update()
    release = fleet.publish_newer()
    fleet.site.special[fleet.path("root", release)] = silent(fleet.site)
    host.add_settings(PATIENT)
    running = host.start("update", "--no-reboot")
    try:
        wait_for(lambda: asked_for(fleet, fleet.path("root", release)) == 1, running)
        for words in (("status",), ("hold",), ("release-hold",), ("history",), ("bless",), ("boot",), ("rollback",)):
            began = time.monotonic()
            host.ok(*words)
            assert time.monotonic() - began < AT_ONCE_S, words
        began = time.monotonic()
        assert "another update is running" in host.run("update").stderr
        assert time.monotonic() - began < AT_ONCE_S
        assert running.poll() is None
    finally:
        running.kill()
        running.wait()
    assert host.booked() == "1.0.0"


def silence(fleet: Fleet, path: str, first: bytes) -> str:
    fleet.site.special[path] = silent(fleet.site, first)
    return path


def busy(fleet: Fleet, path: str) -> str:
    fleet.site.special[path] = raw(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nRetry-After: 120\r\n\r\n")
    return path


def streams(fleet: Fleet) -> str:
    """The host keeps nothing; the first bytes come, and then nothing while the slot is written."""
    fleet.host.spool.parent.mkdir(parents=True, exist_ok=True)
    fleet.host.spool.write_text("in the way")
    content = fleet.site.files[fleet.path()]

    def answer(handler: BaseHTTPRequestHandler) -> None:
        if wanted := handler.headers.get("Range"):
            stop = int(wanted.partition("-")[2]) + 1
            head = f"HTTP/1.1 206 Partial\r\nContent-Range: bytes 0-{stop - 1}/{len(content)}\r\n"
            handler.wfile.write(f"{head}Content-Length: {stop}\r\n\r\n".encode() + content[:stop])
            return
        handler.wfile.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(content)}\r\n\r\n".encode() + content[:1000])
        fleet.site.over.wait()

    fleet.site.special[fleet.path()] = answer
    return fleet.path()


STAGES: dict[str, Callable[[Fleet], str]] = {
    "metadata": lambda fleet: silence(fleet, "/metadata/timestamp.json", b""),
    "metadata, in the middle": lambda fleet: silence(
        fleet, "/metadata/timestamp.json", b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{"
    ),
    "object": lambda fleet: silence(fleet, fleet.path(), b""),
    "object, in the middle": lambda fleet: silence(
        fleet, fleet.path(), b"HTTP/1.1 200 OK\r\nContent-Length: 4128636\r\n\r\nxx"
    ),
    "object, between tries": lambda fleet: busy(fleet, fleet.path()),
    "object, streamed": streams,
}


@pytest.mark.parametrize("stage", list(STAGES))
def test_an_update_ends_within_two_seconds_when_it_is_asked_to_and_goes_on_later(fleet: Fleet, stage: str) -> None:
    host = fleet.host
    path = STAGES[stage](fleet)
    host.add_settings(PATIENT)
    times = 2 if stage == "object, streamed" else 1
    with ended(host.start("update", "--no-reboot"), signal.SIGTERM) as running:
        wait_for(lambda: asked_for(fleet, path) == times, running)
        time.sleep(0.2)
        began = time.monotonic()
        running.send_signal(signal.SIGTERM)
        running.wait(30)
        assert time.monotonic() - began < 2.0
    assert host.json("status")["version"] == "1.0.0"
    assert host.entry_names() == ["host_1.0.0.efi"]
    fleet.site.special.clear()
    host.ok("update", "--no-reboot")
    assert host.booked() == "1.0.1"


def test_a_host_without_room_for_an_update_streams_it(fleet: Fleet) -> None:
    streams(fleet)
    fleet.site.special.clear()
    done = fleet.host.run("update", "--no-reboot")
    assert "cannot keep the update (File exists): it is installed while it arrives" in done.stderr
    assert fleet.host.booked() == "1.0.1"


@contextmanager
def small_var(host: HostFolder, *, read_only: bool) -> Iterator[None]:
    """The host's state on a file system of its own, which is read-only, or full."""
    host.state.mkdir(parents=True, exist_ok=True)
    process.run(("mount", "-t", "tmpfs", "-o", "size=1M", "tmpfs", host.state), timeout_s=30)
    try:
        if read_only:
            process.run(("mount", "-o", "remount,ro", host.state), timeout_s=30)
        else:
            with pytest.raises(OSError, match="space"):
                (host.state / "journal").write_bytes(bytes(2 << 20))
        yield
    finally:
        process.run(("umount", host.state), timeout_s=30)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a file system needs root")
@pytest.mark.parametrize("read_only", [False, True])
def test_updates_go_on_while_var_takes_nothing(fleet: Fleet, *, read_only: bool) -> None:
    host = fleet.host
    why = "Read-only file system" if read_only else "No space left on device"
    with small_var(host, read_only=read_only):
        done = host.run("check")
        assert done.returncode == 0, done.stderr
        assert re.search(rf"var/lib/twinhull/tuf cannot be written \({why}\)", done.stderr)
        assert host.run("update", "--no-reboot").returncode == 0
        assert host.booked() == "1.0.1"
        assert host.ok("health", "--gate")
        host.ok("bless")
        # What was seen meanwhile still counts: an older repository is not followed.
        assert (host.root / "run/twinhull/tuf/timestamp.json").exists()
        assert host.json("status")["poll"]["result"] == "ok"
    host.ok("health")
    assert (host.state / "state.json").exists()
    assert not (host.root / "run/twinhull/state.json").exists()
    assert (host.state / "tuf/timestamp.json").exists()
    assert not (host.root / "run/twinhull/tuf").exists()


def test_a_proxy_of_the_environment_or_the_settings_is_used(fleet: Fleet) -> None:
    with forward_proxy() as proxy:
        url = proxy.url.replace("http://", "http://me:hunter2@")
        assert fleet.host.run("check", env={"http_proxy": url}).returncode == 0
        seen = len(proxy.asked)
        assert seen > 3
        assert all(proxy.secrets)
        assert fleet.host.run("check", env={"http_proxy": url, "NO_PROXY": "127.0.0.1"}).returncode == 0
        assert len(proxy.asked) == seen
        fleet.host.add_settings(f"proxy: {url}\n")
        for words in (("check", "-v"), ("status",), ("settings",)):
            done = fleet.host.run(*(reversed(words) if "-v" in words else words))
            assert done.returncode == 0, done.stderr
            assert "hunter2" not in done.stdout + done.stderr
        assert len(proxy.asked) > seen


def test_a_password_in_the_url_is_sent_and_never_printed_nor_kept(fleet: Fleet) -> None:
    host = fleet.host
    host.settings(SETTINGS.format(url=fleet.site.url.replace("http://", "http://me:hunter2@")))
    host.ok("update", "--no-reboot")
    assert all(headers.get("Authorization") for headers in fleet.site.seen_headers)
    fleet.site.status["/metadata/timestamp.json"] = [500] * 100
    told = [
        host.run(*words) for words in (("-v", "check"), ("status",), ("status", "--json"), ("history",), ("settings",))
    ]
    assert told[0].returncode == 1
    for done in told:
        assert "hunter2" not in done.stdout + done.stderr
    for path in (path for path in host.root.rglob("*") if path.is_file() and path.name != "updater.yaml"):
        assert b"hunter2" not in path.read_bytes(), path


def test_another_server_serves_what_the_first_does_not(fleet: Fleet) -> None:
    with serving(Site(files=dict(fleet.site.files))) as mirror:
        fleet.host.add_settings(f"mirrors: ['{mirror.url}']\n")
        del fleet.site.files[fleet.path()]
        fleet.host.ok("update", "--no-reboot")
        objects = [path for path, _ in mirror.requests if path.startswith("/objects/")]
        assert objects == [fleet.path(), fleet.path("verity")]
    assert fleet.host.booked() == "1.0.1"


def test_a_server_that_is_gone_is_reported_in_words_in_status_and_history(fleet: Fleet) -> None:
    host = fleet.host
    host.settings(SETTINGS.format(url="http://127.0.0.1:1"))
    assert host.run("check").returncode == 1
    assert re.search(r"last poll .* failed: http://127\.0\.0\.1:1/metadata/\S+: .*refused", host.ok("status"))
    assert "poll-failed" in host.ok("history")
    host.settings(SETTINGS.format(url=fleet.site.url))
    host.ok("check")
    assert "poll-recovered" in host.ok("history")


def test_a_reset_is_asked_for_and_waits_for_the_next_boot(fleet: Fleet) -> None:
    host = fleet.host
    host.ok("boot")
    assert host.run("reset", "--etc").returncode != 0
    assert not (host.state / REQUEST).exists()
    shown = host.json("reset", "--keep-identity", "--yes")
    assert shown == {"reset": {"scope": "all", "keep_identity": True, "mark": ""}}
    assert host.wants_reboot()
    assert (host.state / REQUEST).read_text() == "all keep-identity\n"
    assert host.json("status")["ground"]["reset"] == shown["reset"]
    assert "everything but the system is reset at the next boot" in host.ok("status")


def test_a_version_on_trial_is_not_reset(fleet: Fleet) -> None:
    host = fleet.host
    host.ok("update", "--no-reboot")
    assert host.booked() == "1.0.1"
    assert "not blessed" in host.run("reset", "--yes").stderr
    assert not (host.state / REQUEST).exists()


def test_a_credential_resets_a_host_once(fleet: Fleet, tmp_path: Path) -> None:
    host, folder = fleet.host, tmp_path / "credentials"
    folder.mkdir()
    (folder / CREDENTIAL).write_text("all new-identity audit-7\n")
    env = {"CREDENTIALS_DIRECTORY": str(folder)}
    assert host.run("boot", env=env).returncode == 0
    assert host.wants_reboot()
    assert (host.state / REQUEST).read_text() == "all new-identity audit-7\n"
    # What the initrd does at the next boot.
    (host.state / REQUEST).rename(host.state / DONE)
    (host.state / DONE).write_text("audit-7\n")
    host.boot()
    assert host.run("boot", env=env).returncode == 0
    assert not host.wants_reboot()


def test_the_first_boot_gives_the_disk_identities_of_its_own(tmp_path: Path) -> None:
    parts = [replace(part, uuid=uuid) for part, uuid in zip(large_parts(), BUILT, strict=False)]
    host = HostFolder.make(tmp_path / "host", built("1.0.0"), parts=[*parts, *large_parts()[len(parts) :]])
    host.ok("boot")
    found = host.map()
    assert not {found.esp.uuid, found.xbootldr.uuid} & set(BUILT)
    host.ok("boot")
    assert host.map() == found
    told = [event["text"] for event in host.json("history") if event["kind"] == "disk"]
    assert told == ["the disk has identities of its own now"]


def test_a_clone_is_named(tmp_path: Path) -> None:
    host = HostFolder.make(tmp_path / "host", built("1.0.0"))
    (host.root / "sys/devices/vdb").mkdir()
    (host.root / "sys/class/block/vdb").symlink_to(host.root / "sys/devices/vdb")
    (host.root / "dev/vdb").write_bytes(host.disk.read_bytes())
    (other,) = host.json("status")["ground"]["other_disks"]
    assert (other["name"], other["same"][0]) == ("vdb", "release")
    assert "the disk vdb has this host's release" in host.ok("status")
