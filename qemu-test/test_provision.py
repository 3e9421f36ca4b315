"""Hosts that get their own configuration before their first boot: by firmware, by boot partition, signed or not.

The image is the reference image with its usual policy: unsigned documents count at the first boot only.  The tests'
shell is therefore provisioned like anything else, and where a test gets an answer after the first boot, that works.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from hosts import Host, host_config, machine_folder
from update_server import HOST_SEEN_BY_GUEST, UpdateServer, running
from workbench import CHANNEL, PROVISIONED, Repository, Workbench

from imagebuild.provision.disks import open_disk
from imagebuild.provision.placing import Placing
from imagebuild.rehearsal.registry import Guard, Registry, run_registry
from imagebuild.vm.config import Credential
from imagebuild.vm.guest import provisioned_shell
from imagebuild.vm.machine import Machine
from tests.fakes.provisions import SSH_KEY, SSH_PRIVATE, signed
from updater.provision.reading import CREDENTIAL

pytestmark = pytest.mark.unproven

FIRST, SECOND = PROVISIONED
GUARD = Guard("deploy", "test-pass", "deploy:$2b$05$abcdefghijklmnopqrstuuM4ZN2JOZh0ZE3I3ZYZ0Q37kLl/ryOPG")
ADDRESS = "10.0.2.77"
LIFE_TIMEOUT_S = 900
WEB = """[Container]
Image={image}
ContainerName=web
Exec=sleep 1000000
[Install]
WantedBy=multi-user.target
"""


def document(**more: Any) -> dict[str, Any]:
    """A document that brings the shell, and more."""
    shell: dict[str, Any] = dict(provisioned_shell())
    return {**shell, **{key: [*shell[key], *value] if key in shell else value for key, value in more.items()}}


def place(disk: Path, bench: Workbench, name: str, data: bytes) -> None:
    """Write a file into the boot partition's folder of credentials."""
    scratch = disk.parent / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    Placing(open_disk(disk, bench.tools, scratch), bench.tools, scratch).put(name, data)


@dataclass(frozen=True)
class Life:
    """A host that was provisioned by its boot partition, the registry it pulls from, and its updates."""

    bench: Workbench
    host: Host
    registry: Registry
    repository: Repository


@pytest.fixture(scope="module")
def life(bench: Workbench) -> Iterator[Life]:
    repository = bench.repository("provisioned", FIRST)
    folder = machine_folder("provisioned")
    disk = bench.disk_copy(FIRST, folder)
    with (
        running(UpdateServer(repository.base)) as server,
        run_registry(bench.tools, folder / "registry", GUARD) as registry,
    ):
        place(disk, bench, CREDENTIAL, yaml.safe_dump(whole(server, registry)).encode())
        # A plain credential of our own, as a person would put it there.
        health = {"health": {"patience": "5s", "retry_interval": "1s"}}
        place(disk, bench, "twinhull.updater", yaml.safe_dump(health).encode())
        config = host_config(bench, disk)
        accelerator = bench.finding.accelerator
        with Machine(config, tools=bench.tools, accelerator=accelerator, folder=folder) as machine:
            yield Life(bench, Host(machine), registry, repository)


def whole(server: UpdateServer, registry: Registry) -> dict[str, Any]:
    """All that a host may want of its own."""
    at = f"{HOST_SEEN_BY_GUEST}:{registry.port}"
    return document(
        hostname="web-1",
        network=[
            {"name": "lan", "card": "e*", "addresses": [f"{ADDRESS}/24"], "gateways": ["10.0.2.2"], "dns": ["10.0.2.3"]}
        ],
        users=[{"name": "admin", "groups": ["systemd-journal"], "ssh_keys": [SSH_KEY]}],
        files=[{"path": "/etc/app/settings", "content": "colour=blue\n", "mode": "0640"}],
        units=[{"name": "web.container", "content": WEB.format(image=registry.reference(HOST_SEEN_BY_GUEST))}],
        registries=[
            {"location": at, "insecure": True, "login": {"username": GUARD.username, "password": GUARD.password}}
        ],
        updater={"url": server.guest_url, "channel": CHANNEL, "poll_interval": "5s"},
    )


def assert_as_provisioned(host: Host) -> None:
    assert host.text("uname -n") == "web-1"
    addresses = host.text("ip -4 -o addr show scope global")
    assert ADDRESS in addresses
    assert "10.0.2.15" not in addresses
    assert host.text("stat -c '%a %U %G' /etc/app/settings") == "640 root root"
    # The private half goes to the host for a moment: it plays the operator's machine, too.
    script = f"umask 077; printf '%s' '{SSH_PRIVATE}' >/run/key; "
    script += "ssh -i /run/key -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"
    assert host.text(f"{script} admin@{ADDRESS} 'id -un; id -Gn; rm -f /nothing' 2>/dev/null").split()[0] == "admin"
    host.run("until [ \"$(podman inspect -f '{{.State.Running}}' web)\" = true ]; do sleep 1; done", timeout_s=300)
    assert host.text("podman inspect -f '{{.State.Running}}' web") == "true"
    assert host.text("systemctl is-active web.service") == "active"


def test_a_host_is_what_its_boot_partition_says(life: Life) -> None:
    life.host.wait_boot()
    life.host.wait_settled()
    assert_as_provisioned(life.host)
    status = life.host.status()["provision"]
    assert status["first_boot_over"] is True
    assert status["applied"]["way"] == "boot-partition"
    assert status["troubles"] == []
    assert life.host.text("systemctl --failed --no-legend --plain") == ""


def test_the_registry_refuses_whoever_has_no_login(life: Life) -> None:
    image = life.registry.reference(HOST_SEEN_BY_GUEST)
    assert life.host.run(f"podman pull --authfile /nothing.json {image}").exit_code != 0


def test_it_is_the_same_after_an_update(life: Life) -> None:
    life.repository.workshop.publish_folders(life.bench.build(SECOND), now=datetime.now(UTC))
    life.repository.point(SECOND)
    life.host.wait_reboot()
    wanted = life.host.wait_status
    wanted(lambda status: status["version"] == SECOND and status["blessed"], timeout_s=LIFE_TIMEOUT_S)
    assert_as_provisioned(life.host)
    # Only the provisioned shell answers by now: systemd was not allowed to import the other one.
    assert life.host.run("test -e /run/credentials/@system/twinhull.guest-shell").exit_code != 0
    assert life.host.text("systemctl is-active guest-shell.service") == "active"
    # The plain credential is still on the boot partition, but it is unsigned and the first boot is over.
    (trouble,) = life.host.status()["provision"]["troubles"]
    assert trouble["reason"] == "the credential twinhull.updater: it is not signed"


@dataclass(frozen=True)
class Restarts:
    """A machine whose firmware is given other strings from one power on to the next."""

    bench: Workbench
    folder: Path

    def boot(self, *credentials: Credential) -> Machine:
        config = host_config(self.bench, self.bench.disk(FIRST), *credentials)
        return Machine(config, tools=self.bench.tools, accelerator=self.bench.finding.accelerator, folder=self.folder)


def settled(machine: Machine) -> Host:
    host = Host(machine)
    host.wait_boot()
    host.wait_settled()
    return host


def test_the_firmware_may_provision_once_and_whoever_signs_always(bench: Workbench) -> None:
    restarts = Restarts(bench, machine_folder("provisioned-by-firmware"))
    bad = "hostname: '?'\nunits: [{name: twinhull-boot.service, content: x}]\n"
    good = yaml.safe_dump(document(hostname="by-firmware"))
    # A bad document stops nothing and settles nothing.
    with restarts.boot(Credential(CREDENTIAL, bad.encode())) as machine:
        host = settled(machine)
        record = host.status()["provision"]
        assert record["applied"] is None
        assert record["first_boot_over"] is False
        assert "twinhull-boot.service" in record["troubles"][0]["reason"]
        assert "hostname" in record["troubles"][0]["reason"]
        assert host.text("systemctl --failed --no-legend --plain").split()[0] == "twinhull-provision.service"
        host.run("sync; systemctl poweroff --no-block")
        machine.wait_exit(timeout_s=120)
    with restarts.boot(Credential(CREDENTIAL, good.encode())) as machine:
        host = settled(machine)
        assert host.text("uname -n") == "by-firmware"
        record = host.status()["provision"]
        assert record["applied"]["way"] == "firmware"
        assert record["first_boot_over"] is True
        host.run("sync; systemctl poweroff --no-block")
        machine.wait_exit(timeout_s=120)
    # From here on only documents signed by a key of the image count; systemd's own credentials no longer do.
    newer = signed(yaml.safe_dump({"serial": 5, **document(hostname="by-signature")}))
    stock = Credential("system.hostname", b"by-nobody")
    with restarts.boot(Credential(CREDENTIAL, newer), stock) as machine:
        host = settled(machine)
        assert host.text("uname -n") == "by-signature"
        record = host.status()["provision"]
        assert (record["applied"]["serial"], record["newest_serial"]) == (5, 5)
        host.run("sync; systemctl poweroff --no-block")
        machine.wait_exit(timeout_s=120)
    older = signed(yaml.safe_dump({"serial": 4, **document(hostname="older")}))
    with restarts.boot(Credential(CREDENTIAL, older)) as machine:
        host = settled(machine)
        assert host.text("uname -n") == "by-signature"
        assert "older than 5" in host.status()["provision"]["troubles"][0]["reason"]
