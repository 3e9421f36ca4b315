"""One image with something of everything people add: built offline from a lock, twice the same, and each part used."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from everything import FIRMWARE, IMAGE, LOCAL, THIRD_PARTY, Everything, SshKey, new_ssh_key
from hosts import Host, host_config, machine_folder, updater_credential
from update_server import UpdateServer, running
from workbench import FIRST, OUT, Workbench

from bedrock import strict
from imagebuild.inputs.tools import Access
from imagebuild.rehearsal.registry import RunningRegistry, run_registry
from imagebuild.vm.guest import Answer
from imagebuild.vm.machine import VirtualMachine

HOST = "10.0.2.2"
# What ssh itself ends with, whatever was asked of the other side.
SSH_REFUSED = 255
_TOOL_TIMEOUT_S = 120


@dataclass(frozen=True)
class RunningGuest:
    """The host, and what it can reach of ours."""

    host: Host
    server: UpdateServer
    registry: RunningRegistry


@pytest.fixture(scope="module")
def guest(bench: Workbench, everything: Everything) -> Iterator[RunningGuest]:
    repository = bench.repository("everything", FIRST)
    with (
        running(UpdateServer(repository.base)) as server,
        run_registry(bench.tools, OUT / "everything/registry") as registry,
    ):
        config = host_config(bench, everything.here.out / "disk.raw", updater_credential(server.guest_url))
        config = replace(config, guest_agent=True)
        folder = machine_folder("everything")
        accelerator = bench.finding.accelerator
        with VirtualMachine(config, tools=bench.tools, accelerator=accelerator, folder=folder) as machine:
            host = Host(machine)
            host.wait_boot()
            status = host.wait_settled()
            assert status["image"] == IMAGE
            yield RunningGuest(host, server, registry)


def test_it_is_built_twice_without_a_network_and_has_the_same_bytes(everything: Everything) -> None:
    assert everything.differences == {}
    for name in ("root.erofs", "root.verity", "uki.unsigned.efi", "disk.raw", "release.json", "sbom.cdx.json"):
        assert name in everything.here.hashes


def test_the_bill_of_materials_names_where_each_package_is_from(everything: Everything) -> None:
    document = strict.parse_json((everything.here.out / "sbom.cdx.json").read_bytes(), source="sbom.cdx.json")
    assert isinstance(document, dict)
    found = {each["name"]: str(each) for each in document["components"]}
    assert "third-party" in found[THIRD_PARTY]
    assert LOCAL in found
    assert "non-free-firmware" in found[FIRMWARE] or "debian" in found[FIRMWARE]


def test_no_unit_failed(guest: RunningGuest) -> None:
    assert guest.host.text("systemctl --failed --no-legend --plain") == ""


def test_python_has_its_library(guest: RunningGuest) -> None:
    program = (
        "import ssl, sqlite3, lzma, ctypes; print(sqlite3.connect(':memory:').execute('select 6*7').fetchone()[0])"
    )
    assert guest.host.text(f"python3 -c {shlex.quote(program)}") == "42"


def test_curl_fetches_from_a_server(guest: RunningGuest) -> None:
    since = len(guest.server.requests)
    text = guest.host.text(f"curl --fail --silent {guest.server.guest_url}/metadata/timestamp.json")
    assert '"timestamp"' in text
    assert guest.server.asked_for("timestamp.json", since=since)


def test_ping_is_answered(guest: RunningGuest) -> None:
    assert " 0% packet loss" in guest.host.text(f"ping -c 1 -W 10 {HOST}")


def test_tcpdump_sees_a_packet(guest: RunningGuest) -> None:
    script = "timeout 60 tcpdump -l -n -c 1 -i lo icmp 2>/dev/null & sleep 5; ping -c 20 127.0.0.1 >/dev/null; wait"
    assert "ICMP echo" in guest.host.text(script, timeout_s=180)


def test_the_guest_agent_answers_the_machine_it_runs_on(guest: RunningGuest) -> None:
    assert guest.host.machine.ask_agent("guest-ping") == {}
    assert guest.host.text("systemctl is-active qemu-guest-agent") == "active"


def test_a_share_of_its_own_nfs_server_is_mounted(guest: RunningGuest) -> None:
    guest.host.text("mkdir -p /srv/share /run/share && echo through nfs > /srv/share/note")
    guest.host.text("exportfs -ra && systemctl is-active nfs-server")
    guest.host.text("mount -t nfs4 127.0.0.1:/var/srv/share /run/share", timeout_s=300)
    assert guest.host.text("findmnt -no FSTYPE /run/share") == "nfs4"
    assert guest.host.text("cat /run/share/note") == "through nfs"
    guest.host.text("echo back > /run/share/answer && umount /run/share")
    assert guest.host.text("cat /srv/share/answer") == "back"


def test_a_person_logs_in_with_their_key_and_nobody_with_another(everything: Everything, guest: RunningGuest) -> None:
    let_in = login(guest.host, everything.ssh_key)
    assert let_in.output.split()[-1] == IMAGE
    refused = login(guest.host, new_ssh_key())
    assert refused.exit_code == SSH_REFUSED
    assert "Permission denied (publickey)" in refused.output


def login(host: Host, key: SshKey) -> Answer:
    """Log in over the loopback and ask for the image's name."""
    host.text(f"(umask 077; printf %s {shlex.quote(key.private)} > /run/login)")
    options = "-o BatchMode=yes -o IdentitiesOnly=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"
    command = shlex.quote(". /usr/lib/os-release; echo $IMAGE_ID")
    return host.run(f"ssh -i /run/login {options} root@127.0.0.1 {command}", timeout_s=180)


def test_chrony_keeps_the_time_and_timesyncd_is_not_there(guest: RunningGuest) -> None:
    assert guest.host.text("systemctl is-active chrony") == "active"
    assert "Reference ID" in guest.host.text("chronyc tracking")
    assert guest.host.run("systemctl cat systemd-timesyncd").exit_code != 0


def test_a_logical_volume_holds_a_file_system(guest: RunningGuest) -> None:
    guest.host.text("truncate -s 64M /var/lvm.img && losetup -f --show /var/lvm.img > /run/lvm-device")
    guest.host.text("pvcreate -q $(cat /run/lvm-device) && vgcreate -q hull $(cat /run/lvm-device)", timeout_s=300)
    guest.host.text("lvcreate -q -n deck -L 32M hull && mkfs.ext4 -q /dev/hull/deck", timeout_s=300)
    guest.host.text("mkdir /run/deck && mount /dev/hull/deck /run/deck && echo dry > /run/deck/state")
    assert guest.host.text("cat /run/deck/state") == "dry"
    guest.host.text("umount /run/deck && vgremove -qf hull && losetup -d $(cat /run/lvm-device)", timeout_s=300)


def test_a_wireguard_tunnel_carries_packets(guest: RunningGuest) -> None:
    guest.host.text(_TUNNEL, timeout_s=300)
    assert " 0% packet loss" in guest.host.text("ip netns exec far ping -c 1 -W 30 192.168.77.1", timeout_s=120)
    assert guest.host.text("wg show near latest-handshakes").split()[1] != "0"


def test_docker_runs_a_container_of_a_registry(guest: RunningGuest) -> None:
    reference = guest.registry.reference(HOST)
    guest.host.text(f"docker pull --quiet {reference}", timeout_s=600)
    assert guest.host.text(f"docker run --rm {reference} echo from docker", timeout_s=600) == "from docker"
    assert guest.host.run("command -v podman").exit_code != 0


def test_packages_of_a_third_party_and_of_the_definition_run(guest: RunningGuest) -> None:
    assert guest.host.text(THIRD_PARTY) == f"this is {THIRD_PARTY}"
    assert guest.host.text(LOCAL) == f"this is {LOCAL}"


def test_microcode_is_where_the_kernel_looks_for_it_first(
    bench: Workbench, everything: Everything, tmp_path: Path
) -> None:
    build, initrd = everything.here.out, tmp_path / "initrd"
    words: list[str | Path] = ["objcopy", "-O", "binary", "--only-section=.initrd", build / "uki.efi", initrd]
    bench.tools.run(words, Access(read=(build,), write=(tmp_path,)), timeout_s=_TOOL_TIMEOUT_S)
    assert b"kernel/x86/microcode/GenuineIntel.bin" in initrd.read_bytes()[:4096]


# Two ends in two network namespaces of the guest, joined by a pair of interfaces.
_TUNNEL = """
set -e
umask 077
cd /run
wg genkey > near.key
wg genkey > far.key
ip netns add far
ip link add v-near type veth peer name v-far
ip link set v-far netns far
ip addr add 192.168.76.1/24 dev v-near
ip link set v-near up
ip -n far addr add 192.168.76.2/24 dev v-far
ip -n far link set v-far up
ip link add near type wireguard
ip link add far type wireguard
ip link set far netns far
wg set near listen-port 51820 private-key near.key peer "$(wg pubkey < far.key)" allowed-ips 192.168.77.2/32
ip netns exec far wg set far private-key far.key peer "$(wg pubkey < near.key)" \
    allowed-ips 192.168.77.1/32 endpoint 192.168.76.1:51820
ip addr add 192.168.77.1/24 dev near
ip link set near up
ip -n far addr add 192.168.77.2/24 dev far
ip -n far link set far up
"""
