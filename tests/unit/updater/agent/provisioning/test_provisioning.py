"""Provisioning on a host: a folder plays `/`, and fake programs record their arguments."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import yaml

from bedrock import strict
from bedrock.errors import ProcessError, TwinhullError
from tests.fakes.provisions import CERTIFICATE, PUBLIC, SSH_KEY, STRANGER, WHOLE, signed
from updater.agent.provisioning.applying import BUNDLE_FILE, ProvisionedHost
from updater.agent.provisioning.host_files import HostFiles
from updater.agent.provisioning.provisioning import Provisioner, ProvisionOutcome, RecordStore, end_first_boot
from updater.agent.provisioning.ways import oem_credential
from updater.agent.report import provision_lines
from updater.documents.channel import Instant
from updater.etc_policy import EtcMode, EtcPolicy
from updater.provision.files import TargetFile
from updater.provision.policy import Policy, Unsigned
from updater.provision.reading import CREDENTIAL
from updater.provision.record import Way

NOW = Instant.from_text("2026-03-01T12:00:00Z")
ENCRYPTED = b"BYRp2vb1QySABUnaD46i+yAAAAABAAAADAAAABAAAAAr7gVtXkR5ncNk\n"


@dataclass
class FakeHost:
    """A host in a folder."""

    root: Path
    policy: Policy = field(default_factory=lambda: Policy(keys=(PUBLIC,)))
    etc: EtcPolicy = field(default_factory=lambda: EtcPolicy(EtcMode.OVERLAY))
    version: str = "1.0.0"
    name: str = ""
    calls: list[tuple[str, ...]] = field(default_factory=list)
    opens: dict[bytes, bytes] = field(default_factory=dict)
    broken: str = ""

    def __post_init__(self) -> None:
        me = f"{os.getuid()}:{os.getgid()}"
        self.put("etc/passwd", f"root:x:{me}:root:/root:/bin/bash\n")
        self.put("etc/group", f"root:x:{os.getgid()}:\nsystemd-journal:x:{os.getgid()}:\n")
        self.put("image/etc/ssl/certs/ca-certificates.crt", "the image's own\n")
        (self.root / "var").mkdir()
        (self.root / "root").symlink_to("var/roothome")
        (self.root / "home").symlink_to("var/home")

    def put(self, path: str, data: str | bytes) -> None:
        place = self.root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data.encode() if isinstance(data, str) else data)

    def text(self, path: str) -> str:
        return (self.root / path.lstrip("/")).read_text()

    def bring(self, data: str | bytes, way: Way = Way.FIRMWARE) -> None:
        folder = "run/credentials/@system" if way is Way.FIRMWARE else "run/twinhull/boot-credentials"
        self.put(f"{folder}/{CREDENTIAL}", data)

    def run(self, words: Sequence[str]) -> None:
        self.calls.append(tuple(words))
        if self.broken and words[0] == self.broken:
            raise ProcessError(f"{words[0]} failed")
        if words[0] == "systemd-sysusers":
            with (self.root / "etc/passwd").open("a") as table:
                table.write(f"admin:x:{os.getuid()}:{os.getgid()}:admin:/home/admin:/bin/bash\n")

    @contextmanager
    def image(self) -> Iterator[Path]:
        yield self.root / "image"

    def set_name(self, name: str) -> None:
        self.name = name

    def decrypt(self, name: str, data: bytes) -> bytes:
        if data not in self.opens:
            raise ProcessError("systemd-creds failed")
        return self.opens[data]

    @property
    def store(self) -> RecordStore:
        return RecordStore(self.root / "var/lib/twinhull")

    def boot(self) -> ProvisionOutcome:
        host = ProvisionedHost(HostFiles(self.root), self.run, self.image, self.set_name, self.version)
        return Provisioner(host, self.store, self.policy, self.etc, self.decrypt, lambda: NOW).run()

    def next_boot(self) -> None:
        """The files in memory are gone."""
        for path in sorted((self.root / "run").rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        end_first_boot(self.store, self.root)

    def tree(self) -> dict[str, bytes]:
        """Every file below `/etc` and `/var` but the record."""
        files = (path for name in ("etc", "var") for path in (self.root / name).rglob("*") if path.is_file())
        return {str(path): path.read_bytes() for path in files if path != self.store.path}


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    return FakeHost(tmp_path)


def unsigned_whole() -> str:
    document = yaml.safe_load(WHOLE)
    del document["users"][0]["uid"]
    return yaml.safe_dump(document)


def test_a_whole_document_is_applied_at_the_first_boot(host: FakeHost) -> None:
    host.bring(unsigned_whole())
    outcome = host.boot()
    assert outcome.applied
    assert outcome.units_changed
    assert outcome.record.troubles == ()
    assert outcome.record.first_boot_over
    assert host.name == "web-1"
    assert host.text("/etc/hostname") == "web-1\n"
    assert host.text("/var/home/admin/.ssh/authorized_keys") == f"{SSH_KEY}\n"
    assert (host.root / "var/home/admin").stat().st_mode & 0o777 == 0o700
    assert (host.root / "var/home/admin/.ssh").stat().st_mode & 0o777 == 0o700
    assert (host.root / "var/roothome").stat().st_mode & 0o777 == 0o700
    assert host.text(BUNDLE_FILE) == f"the image's own\n{CERTIFICATE}"
    assert host.calls == [
        ("systemd-sysusers", "/etc/sysusers.d/50-provision.conf"),
        ("systemctl", "--root=/", "reenable", "app.service"),
    ]
    lines = provision_lines(outcome.record)
    assert "by firmware" in lines[0]
    assert "not signed" in lines[0]


def test_the_same_document_again_changes_nothing(host: FakeHost) -> None:
    host.bring(unsigned_whole())
    host.boot()
    before, calls = host.tree(), len(host.calls)
    outcome = host.boot()
    assert not outcome.applied
    assert outcome.record.troubles == ()
    assert host.tree() == before
    assert len(host.calls) == calls


def test_a_bad_document_applies_nothing_and_leaves_the_first_boot_open(host: FakeHost) -> None:
    host.bring("hostname: good\nfiles: [{path: /usr/lib/x, content: x}]\n", Way.BOOT_PARTITION)
    before = host.tree()
    record = host.boot().record
    assert host.tree() == before
    assert host.name == ""
    assert not record.first_boot_over
    (trouble,) = record.troubles
    assert trouble.way is Way.BOOT_PARTITION
    assert "files[0].path" in trouble.reason
    end_first_boot(host.store, host.root)
    assert not host.store.load().first_boot_over
    host.bring("hostname: mended\n", Way.BOOT_PARTITION)
    assert host.boot().record.first_boot_over
    assert host.name == "mended"


def test_a_document_that_this_host_cannot_take_changes_nothing(host: FakeHost) -> None:
    text = "hostname: x\nfiles: [{path: /etc/a, content: x, owner: nobody-here}]\n"
    host.bring(text)
    before = host.tree()
    (trouble,) = host.boot().record.troubles
    assert "nobody-here" in trouble.reason
    assert host.tree() == before


def test_a_boot_without_a_document_ends_the_first_boot(host: FakeHost) -> None:
    (host.root / "run").mkdir()
    host.next_boot()
    assert host.store.load().first_boot_over
    host.bring("hostname: late\n")
    (trouble,) = host.boot().record.troubles
    assert "first boot is over" in trouble.reason
    assert host.name == ""


def test_an_interrupted_boot_has_not_ended_the_first_boot(host: FakeHost) -> None:
    host.bring(unsigned_whole())
    host.broken = "systemd-sysusers"
    record = host.boot().record
    assert not record.first_boot_over
    assert "systemd-sysusers failed" in record.troubles[0].reason
    host.broken = ""
    assert host.boot().applied


def test_a_signed_document_follows_and_takes_away_what_it_no_longer_names(host: FakeHost) -> None:
    host.bring("files: [{path: /etc/a, content: a}, {path: /etc/b, content: b}, {path: /etc/c, content: c}]\n")
    host.boot()
    host.put("etc/c", "edited by hand")
    host.bring(signed("serial: 2\nfiles: [{path: /etc/a, content: new}]\n"))
    record = host.boot().record
    assert host.text("/etc/a") == "new"
    assert not (host.root / "etc/b").exists()
    assert host.text("/etc/c") == "edited by hand"
    assert record.newest_serial == 2
    host.bring(signed("serial: 1\nhostname: older\n"))
    assert "older than 2" in host.boot().record.troubles[0].reason
    assert host.text("/etc/a") == "new"


def test_units_that_are_named_no_longer_are_disabled_before_they_go(host: FakeHost) -> None:
    host.bring(signed(yaml.safe_dump({"serial": 1, "units": yaml.safe_load(WHOLE)["units"]})))
    host.boot()
    host.bring(signed("serial: 2\n"))
    outcome = host.boot()
    assert host.calls[-1] == ("systemctl", "--root=/", "disable", "app.service")
    assert not (host.root / "etc/systemd/system/app.service").exists()
    assert outcome.units_changed


def test_a_stranger_s_signature_is_recorded_and_nothing_else(host: FakeHost) -> None:
    host.bring(signed("serial: 9\nhostname: x\n", STRANGER))
    assert "refused" in host.boot().record.troubles[0].reason
    assert host.name == ""


def test_a_link_that_leads_out_of_etc_is_not_followed(host: FakeHost) -> None:
    (host.root / "usr").mkdir()
    (host.root / "etc/out").symlink_to("../usr")
    host.bring("files: [{path: /etc/out/x, content: x}]\n")
    assert "not below /etc or /var" in host.boot().record.troubles[0].reason
    assert list((host.root / "usr").iterdir()) == []


def test_a_link_in_the_place_of_a_file_is_replaced(host: FakeHost) -> None:
    host.put("usr/os", "the image's\n")
    (host.root / "etc/os").symlink_to("../usr/os")
    host.bring("files: [{path: /etc/os, content: mine}]\n")
    assert host.boot().applied
    assert host.text("/usr/os") == "the image's\n"
    assert host.text("/etc/os") == "mine"


def test_a_user_cannot_have_keys_written_into_another_home(host: FakeHost) -> None:
    host.bring("users: [{name: admin}]\n")
    host.boot()
    (host.root / "var/home/victim").mkdir(parents=True)
    (host.root / "var/home/admin/.ssh").symlink_to("../victim")
    host.bring(signed(yaml.safe_dump({"serial": 1, "users": [{"name": "admin", "ssh_keys": [SSH_KEY]}]})))
    assert "leads out of the home" in host.boot().record.troubles[0].reason
    assert list((host.root / "var/home/victim").iterdir()) == []


def test_the_bundle_follows_the_image(host: FakeHost) -> None:
    host.bring(yaml.safe_dump({"ca_certificates": [CERTIFICATE]}))
    host.boot()
    host.version = "1.0.1"
    host.put("image/etc/ssl/certs/ca-certificates.crt", "the next image's own\n")
    assert host.boot().record.bundle_of == "1.0.1"
    assert host.text(BUNDLE_FILE) == f"the next image's own\n{CERTIFICATE}"


def test_an_encrypted_document_is_opened_by_the_host(host: FakeHost) -> None:
    host.bring(ENCRYPTED, Way.BOOT_PARTITION)
    assert "systemd-creds" in host.boot().record.troubles[0].reason
    host.opens[ENCRYPTED] = b"hostname: secret\n"
    assert host.boot().applied
    assert host.name == "secret"


def test_credentials_of_the_boot_partition_go_where_units_look_for_them(host: FakeHost) -> None:
    folder = "run/twinhull/boot-credentials"
    host.put(f"{folder}/plain", "text")
    host.put(f"{folder}/sealed", ENCRYPTED)
    host.put(f"{folder}/twinhull.updater", ENCRYPTED + b"x")
    (trouble,) = host.boot().record.troubles
    assert host.text("/run/credstore/plain") == "text"
    assert host.text("/run/credstore.encrypted/sealed").encode() == ENCRYPTED
    # One of ours that cannot be opened would keep the units from starting that guard a trial.
    assert not (host.root / "run/credstore.encrypted/twinhull.updater").exists()
    assert "twinhull.updater" in trouble.reason


def test_after_the_first_boot_they_are_dropped(host: FakeHost) -> None:
    host.bring("hostname: x\n")
    host.boot()
    host.put("run/twinhull/boot-credentials/plain", "text")
    assert "not signed" in host.boot().record.troubles[0].reason
    assert not (host.root / "run/credstore").exists()


def test_a_record_that_cannot_be_read_lets_nothing_unsigned_in(host: FakeHost) -> None:
    host.put("var/lib/twinhull/provision.json", "{ torn")
    host.bring("hostname: x\n")
    assert not host.boot().applied
    host.bring(signed("serial: 1\nhostname: y\n"))
    assert host.boot().applied


def test_always_means_always(host: FakeHost) -> None:
    host.policy = replace(host.policy, unsigned=Unsigned.ALWAYS)
    for name in ("one", "two"):
        host.bring(f"hostname: {name}\n")
        assert host.boot().applied
        assert host.name == name


def test_a_document_is_found_in_the_firmware_s_own_table() -> None:
    strings = [b"vendor", b"io.systemd.credential:twinhull.provision=hostname: x", b"io.systemd.credential:other=1"]
    table = bytes([11, 5, 0, 0, len(strings)]) + b"\0".join(strings) + b"\0\0"
    assert oem_credential(table, CREDENTIAL) == b"hostname: x"
    coded = b"io.systemd.credential.binary:twinhull.provision=" + base64.b64encode(b"hostname: y")
    assert oem_credential(bytes([11, 5, 0, 0, 1]) + coded + b"\0\0", CREDENTIAL) == b"hostname: y"
    assert oem_credential(b"", CREDENTIAL) is None


def test_a_signed_document_counts_where_systemd_imported_nothing(host: FakeHost) -> None:
    host.policy = replace(host.policy, unsigned=Unsigned.NEVER)
    text = base64.b64encode(signed("serial: 1\nhostname: table\n"))
    string = b"io.systemd.credential.binary:twinhull.provision=" + text
    host.put("sys/firmware/dmi/entries/11-0/raw", bytes([11, 5, 0, 0, 1]) + string + b"\0\0")
    assert host.boot().applied
    assert host.name == "table"


def test_the_record_is_written_so_that_the_initrd_finds_its_word(host: FakeHost) -> None:
    host.bring("hostname: x\n")
    host.boot()
    assert '"first_boot_over": true' in host.store.path.read_text()
    assert '"unsigned": "first-boot"' in strict.dump_json(Policy()).decode()


def test_a_file_is_replaced_in_one_step_and_left_alone_when_it_is_so_already(host: FakeHost) -> None:
    files, owner = HostFiles(host.root), (os.getuid(), os.getgid())
    target = TargetFile("/etc/x", b"one", 0o640)
    assert files.write(target, owner)
    assert (host.root / "etc/x").stat().st_mode & 0o7777 == 0o640
    assert not files.write(target, owner)
    (host.root / "etc/x").chmod(0o600)
    assert files.write(target, owner)
    assert not files.remove("/etc/x", hashlib.sha256(b"other").hexdigest())
    assert files.remove("/etc/x", hashlib.sha256(b"one").hexdigest())
    (host.root / "etc/folder").mkdir()
    with pytest.raises(TwinhullError, match="is a folder"):
        files.write(TargetFile("/etc/folder", b""), owner)


def test_a_unit_that_is_to_be_enabled_no_longer_is_disabled(host: FakeHost) -> None:
    unit = {"name": "app.service", "content": "[Service]\n[Install]\nWantedBy=multi-user.target\n"}
    host.bring(signed(yaml.safe_dump({"serial": 1, "units": [unit]})))
    host.boot()
    host.bring(signed(yaml.safe_dump({"serial": 2, "units": [unit | {"enabled": False}]})))
    assert host.boot().applied
    assert host.calls[-1] == ("systemctl", "--root=/", "disable", "app.service")
    assert (host.root / "etc/systemd/system/app.service").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("hostname: x\nusers: [{name: admin, uid: 4242}]\n", "neighbour"),
        ("hostname: x\nusers: [{name: neighbour, uid: 4243}]\n", "4242"),
        (f"hostname: x\nusers: [{{name: daemon, ssh_keys: ['{SSH_KEY}']}}]\n", "not below /etc or /var"),
        ("hostname: x\nusers: [{name: daemon}]\n", "not below /etc or /var"),
        (f"hostname: x\nusers: [{{name: moved, ssh_keys: ['{SSH_KEY}']}}]\n", "leads out of the home"),
        ("hostname: x\nfiles: [{path: /etc/motd/x, content: x}]\n", "is not a folder"),
    ],
)
def test_what_this_host_stands_against_is_found_before_anything_is_written(
    host: FakeHost, text: str, said: str
) -> None:
    with (host.root / "etc/passwd").open("a") as table:
        table.write("neighbour:x:4242:4242::/home/neighbour:/bin/sh\ndaemon:x:7:7::/usr/sbin:/bin/false\n")
        table.write("moved:x:4300:4300::/home/moved:/bin/sh\n")
    (host.root / "usr/sbin").mkdir(parents=True)
    (host.root / "var/home/moved").mkdir(parents=True)
    (host.root / "var/home/moved/.ssh").symlink_to("../neighbour")
    host.put("etc/motd", "hello")
    host.bring(text)
    before = host.tree()
    (trouble,) = host.boot().record.troubles
    assert said in trouble.reason
    assert host.tree() == before
    assert host.calls == []


def test_what_somebody_made_a_folder_of_is_left_to_them(host: FakeHost) -> None:
    host.bring("files: [{path: /etc/a, content: a}]\n")
    host.boot()
    (host.root / "etc/a").unlink()
    host.put("etc/a/theirs", "x")
    host.bring(signed("serial: 2\nhostname: next\n"))
    assert host.boot().applied
    assert host.text("/etc/a/theirs") == "x"


def test_two_ways_that_contradict_each_other_leave_one_and_say_so(host: FakeHost) -> None:
    host.bring("hostname: by-firmware\nfiles: [{path: /etc/a, content: firmware}]\n")
    host.bring("hostname: by-disk\nfiles: [{path: /etc/b, content: disk}]\n", Way.BOOT_PARTITION)
    record = host.boot().record
    assert host.name == "by-firmware"
    assert not (host.root / "etc/b").exists()
    assert record.applied is not None
    assert record.applied.way is Way.FIRMWARE
    (trouble,) = record.troubles
    assert trouble.way is Way.BOOT_PARTITION
    # It is the same at the next boot, not the other one's turn.
    host.boot()
    assert host.name == "by-firmware"


def test_a_bad_document_does_not_keep_a_good_one_out(host: FakeHost) -> None:
    host.bring("hostname: [\n")
    host.bring("hostname: by-disk\n", Way.BOOT_PARTITION)
    record = host.boot().record
    assert host.name == "by-disk"
    assert [trouble.way for trouble in record.troubles] == [Way.FIRMWARE]


@pytest.mark.parametrize(
    "data",
    [
        b"#" * (3 << 20),
        b"[" * 100_000,
        b"hostname: a\0b",
        b'files: [{path: /etc/a, content: "\\ud800"}]',
        b'"\\ud800": x',
        b"\xff\xfe\xfa",
        b"serial: 0x" + b"9" * 9000,
        b"a: &a [x]\nb: &b [*a, *a]\nnetwork: &c [*c]\n",
        b'{"payloadType": ' + b"[" * 100_000,
        ENCRYPTED,
    ],
    ids=["large", "deep", "zero", "half", "half a key", "not unicode", "digits", "itself", "envelope", "sealed"],
)
@pytest.mark.parametrize("way", [Way.FIRMWARE, Way.BOOT_PARTITION])
def test_whatever_comes_is_recorded_and_the_boot_goes_on(host: FakeHost, way: Way, data: bytes) -> None:
    host.bring(data, way)
    before = host.tree()
    host.boot()
    (trouble,) = host.store.load().troubles
    assert trouble.way is way
    assert host.tree() == before
    assert not host.store.load().first_boot_over


def test_what_is_recorded_and_shown_holds_no_secret(host: FakeHost, caplog: pytest.LogCaptureFixture) -> None:
    host.bring("registries: [{location: registry.example.com, login: h0rse}]\n")
    bad = host.boot()
    host.bring(
        "registries: [{location: registry.example.com, login: {username: a, password: h0rse}}]\n"
        "files: [{path: /var/lib/token, content: h0rse, mode: '0600'}]\n"
    )
    good = host.boot()
    assert good.applied
    shown = [caplog.text, *provision_lines(bad.record), *provision_lines(good.record), host.store.path.read_text()]
    assert "registries[0].login" in caplog.text
    assert not any("h0rse" in text for text in shown)


def test_a_credential_s_file_may_be_named_in_other_letters(host: FakeHost) -> None:
    folder = "run/twinhull/boot-credentials"
    host.put(f"{folder}/Twinhull.PROVISION", "hostname: loud\n")
    host.put(f"{folder}/TWINHULL.UPDATER", "channel: beta\n")
    host.put(f"{folder}/Other.Name", "x")
    host.boot()
    assert host.name == "loud"
    assert host.text("/run/credstore/twinhull.updater") == "channel: beta\n"
    assert host.text("/run/credstore/Other.Name") == "x"


def test_a_credential_that_systemd_would_not_take_is_not_handed_on(host: FakeHost) -> None:
    host.put("run/twinhull/boot-credentials/large", b"x" * ((1 << 20) + 1))
    (trouble,) = host.boot().record.troubles
    assert "the credential large" in trouble.reason
    assert not (host.root / "run/credstore/large").exists()


def test_a_document_is_found_in_fw_cfg_where_systemd_imported_nothing(host: FakeHost) -> None:
    host.policy = replace(host.policy, unsigned=Unsigned.NEVER)
    place = "sys/firmware/qemu_fw_cfg/by_name/opt/io.systemd.credentials/twinhull.provision/raw"
    host.put(place, signed("serial: 1\nhostname: file\n"))
    assert host.boot().applied
    assert host.name == "file"


def test_a_signed_document_may_be_encrypted_as_well(host: FakeHost) -> None:
    host.policy = replace(host.policy, unsigned=Unsigned.NEVER)
    host.opens[ENCRYPTED] = signed("serial: 1\nhostname: sealed\n")
    host.bring(ENCRYPTED)
    record = host.boot().record
    assert host.name == "sealed"
    assert record.applied is not None
    assert record.applied.signed_by == PUBLIC[:16]
