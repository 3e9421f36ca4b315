"""Hosts that get their own configuration before their first boot: by firmware, by boot partition, signed, encrypted.

The image is the reference image with its usual policy: unsigned documents count at the first boot only.  The tests'
shell is therefore provisioned like anything else, and where a test gets an answer after the first boot, that works.
"""

from __future__ import annotations

import base64
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from hosts import Host, host_config, machine_folder
from update_server import HOST_SEEN_BY_GUEST, UpdateServer, running
from workbench import PROVISIONED, SOURCE, ScenarioRepository, Workbench

from imagebuild.provision.disks import open_disk
from imagebuild.provision.placing import Placing
from imagebuild.rehearsal.registry import Guard, RunningRegistry, run_registry
from imagebuild.rehearsal.stage import CHANNEL
from imagebuild.vm.config import Carrier, Credential
from imagebuild.vm.guest import provisioned_shell
from imagebuild.vm.machine import VirtualMachine
from tests.fakes.provisions import CERTIFICATE, SSH_KEY, SSH_PRIVATE, signed
from updater.provision.reading import CREDENTIAL

pytestmark = pytest.mark.all_ways

FIRST, SECOND = PROVISIONED
GUARD = Guard("deploy", "test-pass", "deploy:$2b$05$abcdefghijklmnopqrstuuM4ZN2JOZh0ZE3I3ZYZ0Q37kLl/ryOPG")
ADDRESS = "10.0.2.77"
LAN = {"name": "lan", "card": "e*", "addresses": [f"{ADDRESS}/24"], "gateways": ["10.0.2.2"], "dns": ["10.0.2.3"]}
ADMIN = {"name": "admin", "groups": ["systemd-journal"], "ssh_keys": [SSH_KEY]}
PROXY = "http://proxy.example.com:3128"
SECRET = "a-token-that-nobody-may-see"  # noqa: S105 - of this test alone
LIFE_TIMEOUT_S = 900
WEB = """[Container]
Image={image}
ContainerName=web
Exec=sleep 1000000
[Install]
WantedBy=multi-user.target
"""
APP = """[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c 'echo "$$https_proxy" >/run/app'
[Install]
WantedBy=multi-user.target
"""


def document(**more: Any) -> dict[str, Any]:
    """A document that brings the shell, and more."""
    shell: dict[str, Any] = dict(provisioned_shell())
    return {**shell, **{key: [*shell[key], *value] if key in shell else value for key, value in more.items()}}


def place(disk: Path, bench: Workbench, name: str, data: bytes) -> None:
    """Write a file into the boot partition's folder of credentials, as any tool that writes FAT does."""
    scratch = disk.parent / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    Placing(open_disk(disk, bench.tools, scratch), bench.tools, scratch).put(name, data)


@dataclass(frozen=True)
class Life:
    """A host that was provisioned by its boot partition, the registry it pulls from, and its updates."""

    bench: Workbench
    host: Host
    registry: RunningRegistry
    repository: ScenarioRepository


@pytest.fixture(scope="module")
def life(bench: Workbench) -> Iterator[Life]:
    repository = bench.repository("provisioned", FIRST)
    folder = machine_folder("provisioned")
    disk = bench.disk_copy(FIRST, folder)
    with (
        running(UpdateServer(repository.base)) as server,
        run_registry(bench.tools, folder / "registry", GUARD) as registry,
    ):
        (folder / "host.yaml").write_text(yaml.safe_dump(whole(server, registry)))
        program = [sys.executable, "-m", "imagebuild.cli"]
        subprocess.run([*program, "provision", str(disk), str(folder / "host.yaml")], cwd=SOURCE, check=True)
        # A plain credential of our own, as a person would put it there: FAT knows no case.
        health = {"health": {"settle": "2s", "patience": "5s", "retry_interval": "1s"}}
        place(disk, bench, "Twinhull.Updater", yaml.safe_dump(health).encode())
        config = host_config(bench, disk)
        accelerator = bench.finding.accelerator
        with VirtualMachine(config, tools=bench.tools, accelerator=accelerator, folder=folder) as machine:
            yield Life(bench, Host(machine), registry, repository)


def whole(server: UpdateServer, registry: RunningRegistry) -> dict[str, Any]:
    """All that a host may want of its own."""
    at = f"{HOST_SEEN_BY_GUEST}:{registry.port}"
    return document(
        hostname="web-1",
        network=[LAN],
        users=[ADMIN],
        files=[{"path": "/etc/app/settings", "content": "colour=blue\n", "mode": "0640"}],
        units=[
            {"name": "web.container", "content": WEB.format(image=registry.reference(HOST_SEEN_BY_GUEST))},
            {"name": "app.service", "content": APP},
        ],
        proxy={"https": PROXY, "no_proxy": [HOST_SEEN_BY_GUEST]},
        ca_certificates=[CERTIFICATE],
        registries=[
            {"location": at, "insecure": True, "login": {"username": GUARD.username, "password": GUARD.password}}
        ],
        updater={"url": server.guest_url, "channel": CHANNEL, "poll_interval": "5s"},
    )


def assert_reached(host: Host, name: str) -> None:
    """It goes by its name and answers at its address, where its user logs in."""
    assert host.text("uname -n") == name
    addresses = host.text("ip -4 -o addr show scope global")
    assert ADDRESS in addresses
    assert "10.0.2.15" not in addresses
    # The private half goes to the host for a moment: it plays the operator's machine, too.
    script = f"umask 077; printf '%s' '{SSH_PRIVATE}' >/run/key; "
    script += "ssh -i /run/key -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"
    assert host.text(f"{script} admin@{ADDRESS} 'id -un; id -Gn; rm -f /nothing' 2>/dev/null").split()[0] == "admin"


def assert_as_provisioned(host: Host) -> None:
    assert_reached(host, "web-1")
    assert host.text("stat -c '%a %U %G' /etc/app/settings") == "640 root root"
    host.run("until [ \"$(podman inspect -f '{{.State.Running}}' web)\" = true ]; do sleep 1; done", timeout_s=300)
    assert host.text("podman inspect -f '{{.State.Running}}' web") == "true"
    assert host.text("systemctl is-active web.service") == "active"
    assert host.text("cat /run/app") == PROXY
    bundle = host.text("cat /etc/ssl/certs/ca-certificates.crt")
    assert bundle.endswith(CERTIFICATE.strip())
    assert bundle.count("BEGIN CERTIFICATE") > 100
    assert_kept_secret(host, GUARD.password)


def assert_kept_secret(host: Host, secret: str) -> None:
    for shown in ("updater status; updater status --json", "journalctl --no-pager --output=export"):
        text = host.text(f"({shown}) 2>&1")
        assert len(text) > 200
        assert secret not in text


def test_a_host_is_what_its_boot_partition_says(life: Life) -> None:
    life.host.wait_boot()
    life.host.wait_settled()
    assert_as_provisioned(life.host)
    status = life.host.status()["provision"]
    assert status["first_boot_over"] is True
    assert status["applied"]["way"] == "boot-partition"
    assert status["troubles"] == []
    # The credential's name was in other letters on the boot partition.
    assert life.host.run("test -s /run/credstore/twinhull.updater").exit_code == 0
    assert life.host.text("systemctl --failed --no-legend --plain") == ""


def test_the_registry_refuses_whoever_has_no_login(life: Life) -> None:
    image = life.registry.reference(HOST_SEEN_BY_GUEST)
    assert life.host.run(f"podman pull --authfile /nothing.json {image}").exit_code != 0


def test_it_is_the_same_after_an_update(life: Life) -> None:
    before = life.host.status()["provision"]["applied"]
    life.repository.workshop.publish_folders(life.bench.build(SECOND), now=datetime.now(UTC))
    life.repository.point(SECOND)
    life.host.wait_reboot()
    wanted = life.host.wait_status
    wanted(lambda status: status["version"] == SECOND and status["blessed"], timeout_s=LIFE_TIMEOUT_S)
    assert_as_provisioned(life.host)
    # The same document came again and was not applied again.
    assert life.host.status()["provision"]["applied"] == before
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

    def boot(self, *credentials: Credential) -> VirtualMachine:
        config = replace(host_config(self.bench, self.bench.disk(FIRST), *credentials), tpm=True)
        return VirtualMachine(
            config, tools=self.bench.tools, accelerator=self.bench.finding.accelerator, folder=self.folder
        )


def settled(machine: VirtualMachine) -> Host:
    host = Host(machine)
    host.wait_boot()
    host.wait_settled()
    return host


def by_fw_cfg(document: bytes) -> Credential:
    return Credential(CREDENTIAL, document, Carrier.FW_CFG)


SEALED = """[Service]
Type=oneshot
RemainAfterExit=yes
LoadCredentialEncrypted=token:/etc/app/token.cred
ExecStart=/bin/sh -c 'cat "$$CREDENTIALS_DIRECTORY/token" >/run/token'
[Install]
WantedBy=multi-user.target
"""
# As docs/provisioning.md has it.
SEAL_DOCUMENT = """set -e; cd /root
systemd-creds encrypt --name=twinhull.provision --with-key=tpm2 web-1.yaml.signed twinhull.provision.cred
mount /dev/disk/by-partlabel/xbootldr /mnt
install -D twinhull.provision.cred /mnt/loader/credentials/twinhull.provision.cred
umount /mnt
rm web-1.yaml.signed
"""


def put(host: Host, path: str, data: bytes) -> None:
    """Write a file on the host as its operator does."""
    host.text(f"umask 077; echo {base64.b64encode(data).decode()} | base64 -d >{path}")


def seal(host: Host) -> None:
    """Let the host's TPM encrypt a secret, and a signed document that names it, which is then on the boot partition."""
    put(host, "/run/secret", SECRET.encode())
    token = host.text("systemd-creds encrypt --name=token --with-key=tpm2 /run/secret - 2>/dev/null")
    said = document(
        hostname="by-seal",
        network=[LAN],
        users=[ADMIN],
        files=[
            {"path": "/etc/app/token.cred", "content": token, "mode": "0600"},
            {"path": "/var/lib/app/plain", "content": SECRET, "mode": "0600"},
        ],
        units=[{"name": "sealed.service", "content": SEALED}],
    )
    put(host, "/root/web-1.yaml.signed", signed(yaml.safe_dump({"serial": 5, **said})))
    host.text(SEAL_DOCUMENT)
    assert SECRET not in host.text("cat /root/twinhull.provision.cred /etc/app/token.cred 2>/dev/null; true")


def power_off(machine: VirtualMachine, host: Host) -> None:
    host.run("sync; systemctl poweroff --no-block")
    machine.wait_exit(timeout_s=120)


def test_the_firmware_may_provision_once_and_whoever_signs_always(bench: Workbench) -> None:
    restarts = Restarts(bench, machine_folder("provisioned-by-firmware"))
    bad = "hostname: '?'\nunits: [{name: twinhull-boot.service, content: x}]\n"
    bad += f"registries: [{{location: registry.example.com, login: {SECRET}}}]\n"
    good = yaml.safe_dump(document(hostname="by-firmware", network=[LAN], users=[ADMIN]))
    # A bad document stops nothing and settles nothing.
    with restarts.boot(Credential(CREDENTIAL, bad.encode())) as machine:
        host = settled(machine)
        record = host.status()["provision"]
        assert record["applied"] is None
        assert record["first_boot_over"] is False
        for wrong in ("twinhull-boot.service", "hostname", "registries[0].login"):
            assert wrong in record["troubles"][0]["reason"]
        assert host.text("systemctl --failed --no-legend --plain").split()[0] == "twinhull-provision.service"
        assert_kept_secret(host, SECRET)
        power_off(machine, host)
    # systemd imports what is in fw_cfg.
    with restarts.boot(by_fw_cfg(good.encode())) as machine:
        host = settled(machine)
        assert_reached(host, "by-firmware")
        record = host.status()["provision"]
        assert record["applied"]["way"] == "firmware"
        assert record["first_boot_over"] is True
        seal(host)
        power_off(machine, host)
    # From here on only documents signed by a key of the image count; systemd's own credentials no longer do.
    older = signed(yaml.safe_dump({"serial": 4, **document(hostname="older")}))
    stock = Credential("system.hostname", b"by-nobody")
    with restarts.boot(by_fw_cfg(older), stock) as machine:
        host = settled(machine)
        assert_reached(host, "by-seal")
        record = host.status()["provision"]
        assert (record["applied"]["serial"], record["newest_serial"]) == (5, 5)
        assert record["applied"]["way"] == "boot-partition"
        # systemd did not import it, so it was found in fw_cfg itself.
        (trouble,) = record["troubles"]
        assert (trouble["way"], trouble["reason"]) == ("firmware", "another document takes precedence")
        assert host.text("cat /var/lib/app/plain; stat -c ' %a' /var/lib/app/plain").split() == [SECRET, "600"]
        assert host.text("cat /run/token") == SECRET
        assert_kept_secret(host, SECRET)
        power_off(machine, host)
    with restarts.boot(Credential(CREDENTIAL, older)) as machine:
        host = settled(machine)
        assert host.text("uname -n") == "by-seal"
        assert "older than 5" in host.status()["provision"]["troubles"][0]["reason"]
