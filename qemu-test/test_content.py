"""What a definition puts into an image, on a host: users, state, services and keys, before and after an update."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from hosts import Host, host_config, machine_folder, updater_credential
from update_server import UpdateServer, running
from workbench import CONTENT, CONTENT_NEXT, ScenarioRepository, Workbench

from imagebuild.content.accounts import derived_id
from imagebuild.inspection.record import read_contents
from imagebuild.vm.machine import VirtualMachine

KINDS = ("ed25519", "ecdsa", "rsa")


@dataclass(frozen=True)
class Life:
    """A host and the repository it follows."""

    bench: Workbench
    host: Host
    repository: ScenarioRepository


@pytest.fixture(scope="module")
def life(bench: Workbench) -> Iterator[Life]:
    repository = bench.repository("content", CONTENT, CONTENT_NEXT)
    with running(UpdateServer(repository.base)) as server:
        credential = updater_credential(server.guest_url, poll_interval="5s")
        config = host_config(bench, bench.disk(CONTENT), credential)
        folder = machine_folder("content")
        with VirtualMachine(config, tools=bench.tools, accelerator=bench.finding.accelerator, folder=folder) as machine:
            host = Host(machine)
            host.wait_boot()
            host.wait_settled()
            yield Life(bench, host, repository)


def host_keys(host: Host) -> str:
    return host.text("cat /var/lib/ssh/ssh_host_*_key.pub")


def test_services_of_packages_run_with_the_state_they_expect(life: Life) -> None:
    assert life.host.text("systemctl is-active ssh.service redis-server.service").split() == ["active", "active"]
    assert life.host.text("redis-cli ping") == "PONG"
    assert life.host.text("stat -c '%U:%G %a' /var/lib/redis") == "redis:redis 750"
    assert life.host.text("systemctl --failed --no-legend --plain") == ""


def test_host_keys_are_the_hosts_own(life: Life) -> None:
    assert [entry.path for entry in read_contents(life.bench.build(CONTENT)).entries if "ssh_host" in entry.path] == []
    assert len(host_keys(life.host).splitlines()) == len(KINDS)
    assert life.host.text("stat -c %a /var/lib/ssh/ssh_host_rsa_key") == "600"
    for kind in KINDS:
        offered = life.host.text(f"ssh-keyscan -q -t {kind} 127.0.0.1").split()[1:3]
        assert offered == life.host.text(f"cat /var/lib/ssh/ssh_host_{kind}_key.pub").split()[:2]


def test_users_and_their_files_are_there(life: Life) -> None:
    assert life.host.text("id -u app; id -g app; id -Gn app").split() == ["850", "850", "app", "video"]
    assert life.host.text("stat -c '%U %a' /var/lib/app") == "app 700"
    assert life.host.text("cat /var/lib/app/config; stat -c %a /var/lib/app/config").split("\n") == [
        f"of {CONTENT}",
        "640",
    ]
    assert life.host.text("id -u redis") == str(derived_id("redis"))


def test_the_host_is_set_up_as_the_definition_says(life: Life) -> None:
    assert life.host.text("cat /proc/sys/kernel/hostname") == "content-1"
    assert life.host.text("date +%Z") in ("CET", "CEST")
    assert life.host.text("cat /proc/sys/net/ipv4/ip_forward") == "1"
    assert "br_netfilter" in life.host.text("cat /proc/modules")


def test_a_host_that_edited_passwd_knows_the_users_of_the_next_version(life: Life) -> None:
    life.host.text("echo 'me:x:1000:1000::/home/me:/bin/sh' >>/etc/passwd && echo mine >/var/lib/app/config")
    # With an overlay the disk decides what runs; where the image has a list it does not (`test_etc.py`).
    layer = "/var/lib/twinhull/etc/upper/systemd/system"
    unit = r"[Service]\nType=oneshot\nExecStart=/usr/bin/touch /run/mine-ran\n"
    life.host.text(f"mkdir -p {layer}/multi-user.target.d && printf '{unit}' >{layer}/mine.service")
    life.host.text(rf"printf '[Unit]\nWants=mine.service\n' >{layer}/multi-user.target.d/mine.conf")
    keys = host_keys(life.host)
    assert life.host.run("id late").exit_code != 0
    life.repository.point(CONTENT_NEXT)
    life.host.wait_reboot()
    life.host.wait_status(lambda status: status["version"] == CONTENT_NEXT and status["blessed"], timeout_s=900)
    assert life.host.text("id -u late; id -u redis").split() == [str(derived_id("late")), str(derived_id("redis"))]
    # A whole copy of the file does not outlive a boot, in no mode of `etc:`.
    assert life.host.run("id me").exit_code != 0
    assert life.host.text("stat -c '%U %a' /var/lib/late") == "late 700"
    assert life.host.text("cat /var/lib/app/config") == "mine"
    assert host_keys(life.host) == keys
    assert life.host.run("test -e /run/mine-ran").exit_code == 0
    assert life.host.text("systemctl is-active ssh.service redis-server.service").split() == ["active", "active"]


def test_what_a_new_version_needs_once_is_done_once(life: Life) -> None:
    # The boot that brought the version did it; the next one of the same version has nothing to do.
    assert life.host.text("systemctl show -P ConditionResult systemd-sysusers.service") == "yes"
    life.host.run("systemctl reboot")
    life.host.wait_reboot()
    life.host.wait_settled()
    assert life.host.text("systemctl show -P ConditionResult systemd-sysusers.service") == "no"
