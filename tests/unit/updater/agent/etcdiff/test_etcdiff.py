"""`updater etc-diff`: the image at the edit, the image now, and the host."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bedrock import strict
from updater.agent.etcdiff import comparing, layers, origins
from updater.agent.etcdiff.comparing import DifferenceKind, EtcDifferences, ImageSince, Lasting, Wanted
from updater.agent.etcdiff.overview import HostEtc
from updater.agent.host_paths import HostPaths
from updater.documents.channel import Instant
from updater.etc_policy import EtcMode, EtcPolicy, KeptName
from updater.provision.record import Applied, ProvisionRecord, Way


@dataclass
class Host:
    """Folders that play a host."""

    root: Path
    policy: EtcPolicy = field(default_factory=lambda: EtcPolicy(keep=(KeptName("app/"),)))
    version: str = "1.0.0"
    record: ProvisionRecord = field(default_factory=ProvisionRecord)

    def __post_init__(self) -> None:
        for name in ("image/etc", "var/lib/twinhull/etc/upper", "run"):
            (self.root / name).mkdir(parents=True)

    def put(self, path: str, text: str = "x\n", *, mode: int = 0o644) -> Path:
        place = self.root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
        place.chmod(mode)
        return place

    def image(self, path: str, text: str = "x\n", *, mode: int = 0o644) -> Path:
        return self.put(f"image/etc/{path}", text, mode=mode)

    def edit(self, path: str, text: str = "y\n", *, mode: int = 0o644) -> Path:
        return self.put(f"var/lib/twinhull/etc/upper/{path}", text, mode=mode)

    @property
    def etc(self) -> HostEtc:
        return HostEtc(HostPaths(self.root), self.version, self.policy)

    def note(self) -> tuple[str, ...]:
        return self.etc.note(self.root / "image", self.record)

    def look(self, *, content: bool = False, private: bool = False) -> EtcDifferences:
        return self.etc.overview(self.root / "image", self.record, Wanted(content=content, private=private))

    def one(self, *, content: bool = False, private: bool = False) -> comparing.Difference:
        (found,) = self.look(content=content, private=private).differences
        return found


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path / "root")


def test_edits_are_told_and_copies_are_none(host: Host) -> None:
    host.image("same")
    host.edit("same", "x\n")
    host.image("app/settings", "old\n")
    host.edit("app/settings", "new\n")
    host.edit("app/own")
    (host.root / "var/lib/twinhull/etc/upper/localtime").symlink_to("/usr/share/zoneinfo/UTC")
    host.edit(".updated")
    found = host.look()
    assert [(one.path, one.change) for one in found.differences] == [
        ("app/own", DifferenceKind.ADDED),
        ("app/settings", DifferenceKind.CHANGED),
        ("localtime", DifferenceKind.ADDED),
    ]
    assert found.mode == "allowlist"
    assert all(one.content is None for one in found.differences)


def test_a_mode_or_an_owner_is_a_difference_too(host: Host) -> None:
    host.image("app/x")
    host.edit("app/x", "x\n", mode=0o640)
    assert host.one().change is DifferenceKind.CHANGED
    assert "owner, mode" in (host.one(content=True, private=True).content or "")


def test_what_the_image_changed_since_is_told_with_both_contents(host: Host) -> None:
    host.image("app/settings", "a\nb\nc\n")
    host.edit("app/settings", "a\nB\nc\n")
    host.note()
    host.version = "1.1.0"
    host.image("app/settings", "a\nb\nC\n")
    found = host.one(content=True)
    assert (found.image, found.edited_in) == (ImageSince.CHANGED, "1.0.0")
    assert found.content is not None
    assert "-b\n" in found.content
    assert "+B\n" in found.content
    assert found.image_content is not None
    assert "-c\n" in found.image_content
    assert "+C\n" in found.image_content
    text = "\n".join(comparing.lines(host.look(content=True)))
    assert "changed  /etc/app/settings  (the image changed it since 1.0.0)" in text
    assert "what the image did since 1.0.0" in text


def test_an_edit_that_follows_the_image_starts_anew(host: Host) -> None:
    host.image("app/settings", "one\n")
    host.edit("app/settings", "mine\n")
    host.note()
    host.version = "1.1.0"
    host.image("app/settings", "two\n")
    assert host.one().image is ImageSince.CHANGED
    host.edit("app/settings", "mine, with two\n")
    found = host.one()
    assert (found.image, found.edited_in) == (ImageSince.SAME, "1.1.0")


def test_what_the_image_added_or_removed_since_is_told(host: Host) -> None:
    host.edit("app/new")
    host.image("app/old")
    host.edit("app/old")
    host.note()
    host.image("app/new", "of the image\n")
    (host.root / "image/etc/app/old").unlink()
    new, old = host.look().differences
    assert (new.change, new.image) == (DifferenceKind.CHANGED, ImageSince.ADDED)
    assert (old.change, old.image) == (DifferenceKind.ADDED, ImageSince.REMOVED)


def test_an_edit_that_was_taken_back_is_forgotten(host: Host) -> None:
    host.image("app/x")
    place = host.edit("app/x")
    host.note()
    place.unlink()
    host.note()
    assert origins.load(host.etc.paths.state).files == {}


def test_only_a_new_edit_is_written(host: Host) -> None:
    host.edit("app/x")
    host.note()
    path = host.etc.paths.state / origins.FILE_NAME
    before = path.stat().st_mtime_ns, path.stat().st_ino
    host.note()
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == before
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("text", ["{ torn", "", "[]", '{"format": 9}'])
def test_a_spoiled_memory_is_forgotten(host: Host, text: str) -> None:
    host.put(f"var/lib/twinhull/{origins.FILE_NAME}", text)
    host.edit("app/x")
    assert host.one().image is ImageSince.SAME


def test_a_memory_that_cannot_be_written_keeps_nobody_from_looking(host: Host) -> None:
    (host.root / "var/lib/twinhull" / origins.FILE_NAME / "x").mkdir(parents=True)
    host.edit("app/x")
    assert host.one().path == "app/x"


def test_what_will_not_persist_is_told(host: Host) -> None:
    host.edit("app/kept")
    host.edit("motd")
    (host.root / "var/lib/twinhull/etc/upper/app/link").symlink_to("kept")
    host.edit("app/large", "x" * (256 << 10))
    host.edit("passwd")
    lasting = {one.path: one.lasting for one in host.look().differences}
    assert lasting == {
        "app/kept": Lasting.PERSISTS,
        "motd": Lasting.LOST,
        "app/link": Lasting.LOST,
        "app/large": Lasting.LOST,
        "passwd": Lasting.LOST,
    }
    host.policy = EtcPolicy(EtcMode.OVERLAY)
    lasting = {one.path: one.lasting for one in host.look().differences}
    assert {path for path, last in lasting.items() if last is Lasting.LOST} == {"passwd"}


def test_what_a_signed_document_brings_comes_again(host: Host) -> None:
    host.edit("systemd/system/app.service")
    wants = host.root / "var/lib/twinhull/etc/upper/systemd/system/multi-user.target.wants"
    wants.mkdir()
    (wants / "app.service").symlink_to("/etc/systemd/system/app.service")
    (wants / "other.service").symlink_to("/etc/systemd/system/other.service")
    applied = Applied(
        sha256="0" * 64,
        way=Way.FIRMWARE,
        at=Instant.from_text("2026-03-01T12:00:00Z"),
        signed_by="key",
        serial=1,
        files={"/etc/systemd/system/app.service": "0" * 64},
    )
    host.record = ProvisionRecord(applied=applied)
    lasting = {one.path: one.lasting for one in host.look().differences}
    assert lasting["systemd/system/app.service"] is Lasting.PROVISIONED
    assert lasting["systemd/system/multi-user.target.wants/app.service"] is Lasting.PROVISIONED
    assert lasting["systemd/system/multi-user.target.wants/other.service"] is Lasting.LOST


def test_what_was_refused_at_the_boot_is_told(host: Host) -> None:
    for path in ("ld.so.preload", "app/kept", "passwd", "group-", "came-again"):
        host.put(f"var/lib/twinhull/etc/refused/{path}", "evil\n")
    host.edit("app/kept", "evil\n")
    host.edit("came-again", "evil\n")
    (host.root / "var/lib/twinhull/etc/refused/app/link").symlink_to("/x")
    found = host.look()
    assert found.refused == ("app/link", "ld.so.preload")
    assert "refused  /etc/ld.so.preload" in comparing.lines(found)
    assert host.note() == found.refused


@pytest.mark.parametrize("where", ["host", "image"])
def test_contents_that_not_everybody_may_read_are_shown_only_on_request(host: Host, where: str) -> None:
    host.image("app/key", "image-secret\n", mode=0o600 if where == "image" else 0o644)
    host.edit("app/key", "host-secret\n", mode=0o600 if where == "host" else 0o644)
    shown = host.one(content=True).content or ""
    assert shown == "not shown: mode 0600 (--private shows it)\n"
    assert "+host-secret" in (host.one(content=True, private=True).content or "")
    remembered = (host.etc.paths.state / origins.FILE_NAME).read_text()
    assert "host-secret" not in remembered
    assert ("image-secret" in remembered) is (where == "host")


def test_contents_are_bounded_and_plain(host: Host) -> None:
    host.edit("app/long", "".join(f"{number}\n" for number in range(1000)))
    assert "and 803 more lines" in (host.one(content=True).content or "")
    host.edit("app/long", "x\n" * 3000)
    assert "more than 2000 lines" in (host.one(content=True).content or "")
    host.edit("app/long", "y" * (65 << 10))
    assert "too large, or not text" in (host.one(content=True).content or "")
    host.edit("app/long", "\x1b[2J\n")
    content = host.one(content=True).content or ""
    assert "\x1b" not in content
    assert "\\x1b[2J" in content


def test_names_that_no_terminal_should_see_are_written_in_another_way(host: Host) -> None:
    upper = host.root / "var/lib/twinhull/etc/upper"
    (upper / "two\nlines\x1b").write_text("x")
    Path(os.fsdecode(os.fsencode(upper) + b"/\xff")).write_text("x")
    found = host.look()
    assert {one.path for one in found.differences} == {"two\\nlines\\x1b", "\\xff"}
    assert json.loads(strict.dump_json(found))["differences"]


def test_very_many_files_end_somewhere(host: Host) -> None:
    for number in range(2500):
        host.edit(f"app/{number}", "")
    assert len(host.look().differences) == layers.MAX_PATHS


def test_a_layer_in_memory_is_the_one_that_counts(host: Host) -> None:
    host.edit("app/stored")
    host.put("run/twinhull/etc/upper/app/now")
    assert host.one().path == "app/now"


def test_a_removed_file_of_the_image_is_told(host: Host) -> None:
    host.image("motd")
    mark = host.root / "var/lib/twinhull/etc/upper/motd"
    try:
        os.mknod(mark, 0o20000, os.makedev(0, 0))
    except PermissionError:
        pytest.skip("making overlayfs's mark takes root or a newer kernel")
    found = host.one(content=True)
    assert (found.change, found.lasting) == (DifferenceKind.REMOVED, Lasting.LOST)
    assert "-x\n" in (found.content or "")
