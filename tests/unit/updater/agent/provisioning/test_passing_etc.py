"""Documents on a host whose /etc is the image's again at each boot, but for a few names."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from tests.fakes.provisions import CERTIFICATE, PUBLIC, STRANGER, signed
from tests.unit.updater.agent.provisioning.test_provisioning import ENCRYPTED, FakeHost
from updater.agent.provisioning.provisioning import ProvisionOutcome
from updater.etc_policy import EtcMode, EtcPolicy, KeptName
from updater.provision.policy import Policy, Unsigned
from updater.provision.record import Way

UNIT = {"name": "app.service", "content": "[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n"}
WHOLE = yaml.safe_dump({"serial": 3, "hostname": "web-1", "units": [UNIT], "users": [{"name": "admin"}]})
UNIT_FILE = "etc/systemd/system/app.service"


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    return FakeHost(tmp_path, etc=EtcPolicy(keep=(KeptName("app/"),)))


def restart(host: FakeHost) -> ProvisionOutcome:
    """The next boot, as the initrd prepares it."""
    keep = {path: path.read_bytes() for path in (host.root / "etc").rglob("*") if path.is_file()}
    shutil.rmtree(host.root / "etc")
    accounts = {"passwd", "group"}
    for path, data in keep.items():
        name = str(path.relative_to(host.root / "etc"))
        if host.etc.persists(name):
            host.put(f"etc/{name}", data)
        elif name in accounts:
            host.put(f"etc/{name}", b"".join(line for line in data.splitlines(keepends=True) if b"admin" not in line))
    shutil.rmtree(host.root / "run", ignore_errors=True)
    host.calls.clear()
    host.name = ""
    return host.boot()


def test_a_signed_document_is_applied_at_each_boot_from_the_stored_copy(host: FakeHost) -> None:
    host.bring(signed(WHOLE))
    before = host.boot().record
    outcome = restart(host)
    assert outcome.applied
    assert outcome.units_changed
    assert outcome.record.troubles == ()
    assert outcome.record.applied == before.applied
    assert host.text(UNIT_FILE) == UNIT["content"]
    assert host.name == "web-1"
    assert ("systemctl", "--root=/", "reenable", "app.service") in host.calls
    assert ("systemd-sysusers", "/etc/sysusers.d/50-provision.conf") in host.calls


def test_a_document_that_comes_again_is_not_stored_again(host: FakeHost) -> None:
    host.bring(signed(WHOLE))
    host.boot()
    before = host.store.document_path.stat().st_ino
    host.boot()
    assert host.store.document_path.stat().st_ino == before


def test_the_stored_copy_is_for_root_alone(host: FakeHost) -> None:
    host.bring(signed(WHOLE))
    host.boot()
    assert host.store.document_path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("stored", "reason"),
    [
        (signed(WHOLE).replace(b'"payload": "', b'"payload": "AAAA'), ""),
        (signed(WHOLE, STRANGER), "refused"),
        (WHOLE.encode(), "is not signed"),
        (signed("serial: 2\nhostname: old\n"), "older than the document"),
        (b"", "is not signed"),
        (b"\xff\xfe" * 100, ""),
        (b"x" * (3 << 20), "is the most"),
    ],
    ids=["changed", "a stranger's", "unsigned", "older", "empty", "not text", "large"],
)
def test_a_stored_copy_that_somebody_changed_is_refused(host: FakeHost, stored: bytes, reason: str) -> None:
    host.bring(signed(WHOLE))
    host.boot()
    host.store.document_path.write_bytes(stored)
    outcome = restart(host)
    assert not outcome.applied
    (trouble,) = outcome.record.troubles
    assert trouble.way is Way.KEPT
    assert reason in trouble.reason
    assert not (host.root / UNIT_FILE).exists()
    assert host.calls == []
    assert outcome.record.first_boot_over


def test_a_stored_copy_outlives_a_lost_record(host: FakeHost) -> None:
    host.bring(signed(WHOLE))
    host.boot()
    host.store.path.unlink()
    record = restart(host).record
    assert record.applied is not None
    assert record.applied.way is Way.KEPT
    assert record.newest_serial == 3


def test_a_newer_document_takes_the_place_of_the_stored_one(host: FakeHost) -> None:
    host.bring(signed(WHOLE))
    host.boot()
    shutil.rmtree(host.root / "run")
    host.bring(signed("serial: 4\nhostname: next\n"))
    host.boot()
    assert restart(host).record.newest_serial == 4
    assert host.name == "next"
    assert not (host.root / UNIT_FILE).exists()


def test_a_document_that_comes_at_each_boot_is_applied_at_each(host: FakeHost) -> None:
    host.bring(signed(WHOLE))
    host.boot()
    host.store.document_path.unlink()
    shutil.rmtree(host.root / "etc/systemd")
    outcome = host.boot()
    assert outcome.applied
    assert outcome.record.troubles == ()
    assert host.text(UNIT_FILE) == UNIT["content"]
    assert host.store.document_path.exists()


def test_an_encrypted_document_is_stored_encrypted(host: FakeHost) -> None:
    host.opens[ENCRYPTED] = signed(WHOLE)
    host.bring(ENCRYPTED)
    host.boot()
    assert host.store.document_path.read_bytes() == ENCRYPTED
    assert restart(host).applied


def test_an_unsigned_document_that_a_reboot_would_undo_is_refused_whole(host: FakeHost) -> None:
    host.bring(yaml.safe_dump({"hostname": "web-1", "units": [UNIT], "ca_certificates": [CERTIFICATE]}))
    before = host.tree()
    record = host.boot().record
    (trouble,) = record.troubles
    assert "/etc/systemd/system/app.service" in trouble.reason
    assert "/etc/ssl/certs/provision.pem" in trouble.reason
    assert "twinhull provision sign" in trouble.reason
    assert "etc: overlay" in trouble.reason
    assert host.tree() == before
    assert host.name == ""
    # A corrected one may come.
    assert not record.first_boot_over


def test_an_unsigned_document_of_names_that_persist_is_applied(host: FakeHost) -> None:
    document = {
        "hostname": "web-1",
        "network": [{"name": "lan", "card": "en*", "dhcp": True}],
        "updater": {"channel": "beta"},
        "files": [{"path": "/etc/app/x", "content": "x"}, {"path": "/var/lib/app/y", "content": "y"}],
    }
    host.bring(yaml.safe_dump(document))
    assert host.boot().record.troubles == ()
    assert not host.store.document_path.exists()
    outcome = restart(host)
    assert not outcome.applied
    assert outcome.record.troubles == ()
    assert host.text("etc/hostname") == "web-1\n"
    assert host.text("etc/app/x") == "x"
    assert any(path.suffix == ".network" for path in (host.root / "etc/systemd/network").iterdir())


def test_where_unsigned_documents_always_count_they_may_bring_anything_at_each_boot(host: FakeHost) -> None:
    host.policy = replace(host.policy, unsigned=Unsigned.ALWAYS)
    text = yaml.safe_dump({"units": [UNIT]})
    host.bring(text)
    assert host.boot().applied
    shutil.rmtree(host.root / "etc/systemd")
    assert host.boot().applied
    assert (host.root / UNIT_FILE).exists()


def test_a_record_that_somebody_wrote_lets_no_unsigned_document_in(host: FakeHost) -> None:
    host.bring(yaml.safe_dump({"hostname": "web-1"}))
    host.boot()
    evil = yaml.safe_dump({"files": [{"path": "/etc/app/evil", "content": "x"}]})
    usual, host.policy = host.policy, Policy(unsigned=Unsigned.ALWAYS)
    host.bring(evil)
    assert host.boot().applied
    (host.root / "etc/app/evil").unlink()
    # The record names it as the document in force, and it comes again.
    host.policy = usual
    outcome = host.boot()
    assert not outcome.applied
    assert not (host.root / "etc/app/evil").exists()


def test_with_an_overlay_nothing_is_applied_twice(host: FakeHost) -> None:
    host.etc = EtcPolicy(EtcMode.OVERLAY)
    host.bring(signed(WHOLE))
    assert host.boot().applied
    # It is stored all the same: a later version of the image may have an allowlist.
    assert host.store.document_path.exists()
    shutil.rmtree(host.root / "run")
    assert not host.boot().applied
    host.etc = EtcPolicy()
    assert host.boot().applied


def test_volatile_is_no_different(host: FakeHost) -> None:
    host.etc = EtcPolicy(EtcMode.VOLATILE)
    host.bring(signed(WHOLE))
    host.boot()
    assert restart(host).applied
    assert host.policy.keys == (PUBLIC,)
