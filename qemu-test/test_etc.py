"""A host whose disk somebody edited while it was off: only what the image lists and what was signed comes back.

One host through three boots: provisioned and then edited, the boot after that, and one of the next version, which keeps
nothing of `/etc` and has one more system user.  That an edit does run where the image lets it (`etc: overlay`) is shown
in `test_content.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hosts import Host, host_config, machine_folder, read_json, updater_credential
from update_server import UpdateServer, running
from workbench import ETC, ScenarioRepository, Workbench

from imagebuild.content.accounts import derived_id
from imagebuild.vm.config import Credential
from imagebuild.vm.machine import VirtualMachine
from tests.fakes.provisions import signed
from updater.provision.reading import CREDENTIAL

FIRST, SECOND = ETC
LAYER = "/var/lib/twinhull/etc/upper"
OFF_TIMEOUT_S = 120.0
LIFE_TIMEOUT_S = 900.0
APP = """[Service]
Type=oneshot
RemainAfterExit=yes
User=admin
RuntimeDirectory=app
ExecStart=/bin/cp /etc/app/settings /run/app/ran
[Install]
WantedBy=multi-user.target
"""
DOCUMENT = {
    "serial": 5,
    "hostname": "signed-1",
    "users": [{"name": "admin", "shell": "/usr/sbin/nologin"}],
    "files": [{"path": "/etc/app/settings", "content": "colour=blue\n"}],
    "units": [{"name": "app.service", "content": APP}],
}
# Each of these would leave a file in /run, were it read.
EVIL = {
    "ld.so.preload": "/var/lib/evil.so\n",
    "systemd/system/evil.service": "[Service]\nType=oneshot\nExecStart=/usr/bin/touch /run/evil-unit\n",
    "systemd/system/sysinit.target.d/evil.conf": "[Unit]\nWants=evil.service\n",
    "systemd/system/multi-user.target.d/evil.conf": "[Unit]\nWants=evil.service\n",
    "udev/rules.d/99-evil.rules": 'ACTION=="add", RUN+="/usr/bin/touch /run/evil-udev"\n',
    "tmpfiles.d/evil.conf": "f /run/evil-tmpfiles\n",
    "containers/systemd/evil.container": "[Container]\nImage=evil\n[Install]\nWantedBy=multi-user.target\n",
    "profile.d/evil.sh": "touch /run/evil-profile\n",
    "passwd": "root::0:0::/:/bin/sh\nevil::0:0::/:/bin/sh\n",
}


@dataclass
class Life:
    """A host that is switched off and on, its server, and what was seen of it before."""

    bench: Workbench
    folder: Path
    server: UpdateServer
    repository: ScenarioRepository
    seen: dict[str, str] = field(default_factory=dict)

    def power_on(self, *credentials: Credential) -> VirtualMachine:
        update = updater_credential(self.server.guest_url, poll_interval="5s")
        config = replace(host_config(self.bench, self.bench.disk(FIRST), update, *credentials))
        accelerator = self.bench.finding.accelerator
        return VirtualMachine(config, tools=self.bench.tools, accelerator=accelerator, folder=self.folder)


@pytest.fixture(scope="module")
def life(bench: Workbench) -> Iterator[Life]:
    repository = bench.repository("etc", FIRST, SECOND)
    with running(UpdateServer(repository.base)) as server:
        yield Life(bench, machine_folder("etc"), server, repository)


@pytest.fixture(scope="module")
def edited(life: Life) -> Life:
    """The host was provisioned, somebody wrote its disk, and the power went."""
    document = signed(yaml.safe_dump(DOCUMENT))
    with life.power_on(Credential(CREDENTIAL, document)) as machine:
        host = Host(machine)
        host.wait_boot()
        host.wait_settled()
        assert host.text("cat /run/app/ran") == "colour=blue"
        life.seen["admin"] = host.text("id -u admin")
        life.seen["machine-id"] = host.text("cat /etc/machine-id")
        host.text("mkdir /etc/kept && echo kept >/etc/kept/by-operator && chmod 640 /etc/kept/by-operator")
        host.text("echo lost >/etc/by-operator && rm /etc/issue.net 2>/dev/null; true")
        for path, text in EVIL.items():
            place = f"{LAYER}/{path}"
            host.text(f"mkdir -p $(dirname {place}) && printf '%s' '{text}' >{place}")
        host.text(f"ln -s /etc/ld.so.preload {LAYER}/kept/link && cp /usr/bin/true {LAYER}/kept/setuid")
        host.text(f"chmod 4755 {LAYER}/kept/setuid && mknod {LAYER}/nsswitch.conf c 0 0")
        host.run("sync; systemctl poweroff --force --no-block")
        machine.wait_exit(timeout_s=OFF_TIMEOUT_S)
    return life


@pytest.fixture(scope="module")
def again(edited: Life) -> Iterator[Host]:
    """The next boot; nothing but the disk brings the document."""
    with edited.power_on() as machine:
        host = Host(machine)
        host.wait_boot()
        host.wait_settled()
        yield host


def test_nothing_of_an_offline_edit_runs(again: Host) -> None:
    assert again.text("ls /run | grep evil; true") == ""
    for path in EVIL.keys() - {"passwd"}:
        assert again.run(f"test -e /etc/{path} -o -L /etc/{path}").exit_code != 0, path
    assert again.run("id evil").exit_code != 0
    assert again.run("systemctl cat evil.service").exit_code != 0
    # The image's own, which the edit had removed.
    assert "hosts:" in again.text("cat /etc/nsswitch.conf")
    assert again.text("systemctl --failed --no-legend --plain") == ""


def test_what_was_refused_is_set_aside_and_told(again: Host) -> None:
    found = read_json(again.text("updater etc-diff --json"))
    assert {"ld.so.preload", "systemd/system/evil.service", "by-operator", "kept/link"} <= set(found["refused"])
    assert "kept/by-operator" not in found["refused"]
    assert again.text("cat /var/lib/twinhull/etc/refused/ld.so.preload") == EVIL["ld.so.preload"].strip()
    assert "not all edits of /etc persist" in again.text("dmesg | grep twinhull:")
    assert "refused at this boot in /etc: " in again.text("journalctl -b -u twinhull-boot.service -o cat")


def test_a_listed_name_persists_as_a_plain_file(again: Host, edited: Life) -> None:
    assert again.text("cat /etc/kept/by-operator; stat -c %a /etc/kept/by-operator").split() == ["kept", "640"]
    assert again.run("test -e /etc/kept/link").exit_code != 0
    assert again.text(f"stat -c %a {LAYER}/kept/setuid") == "755"
    assert again.text("cat /etc/machine-id") == edited.seen["machine-id"]
    assert again.text("uname -n") == "signed-1"


def test_what_a_signed_document_brought_is_there_again(again: Host, edited: Life) -> None:
    assert again.text("cat /run/app/ran") == "colour=blue"
    assert again.text("stat -c %u /run/app/ran") == edited.seen["admin"]
    applied = again.status()["provision"]["applied"]
    assert (applied["serial"], applied["way"]) == (5, "firmware")
    assert again.status()["provision"]["troubles"] == []


@pytest.fixture(scope="module")
def next_version(again: Host, edited: Life) -> dict[str, Any]:
    """The status in the next version, after an edit of the accounts and of the stored document."""
    again.text("echo 'me:x:1000:1000::/home/me:/bin/sh' >>/etc/passwd")
    assert again.run("id late").exit_code != 0
    again.text('sed -i \'s/"payload": "/&AAAA/\' /var/lib/twinhull/provision-document')
    edited.repository.point(SECOND)
    again.wait_reboot()
    return again.wait_status(lambda now: now["version"] == SECOND and now["blessed"], timeout_s=LIFE_TIMEOUT_S)


def test_a_system_user_of_a_later_version_is_on_an_edited_host(again: Host, next_version: dict[str, Any]) -> None:
    assert again.text("id -u late") == str(derived_id("late"))
    assert again.run("id me").exit_code != 0


def test_volatile_keeps_nothing_but_who_the_host_is(again: Host, edited: Life, next_version: dict[str, Any]) -> None:
    assert again.run("test -e /etc/kept").exit_code != 0
    assert again.text("cat /etc/machine-id") == edited.seen["machine-id"]
    assert again.text("uname -n") != "signed-1"


def test_an_edited_copy_of_the_document_is_refused(again: Host, next_version: dict[str, Any]) -> None:
    (trouble,) = next_version["provision"]["troubles"]
    assert trouble["way"] == "kept"
    assert again.run("test -e /run/app/ran").exit_code != 0
    assert again.run("id admin").exit_code != 0
