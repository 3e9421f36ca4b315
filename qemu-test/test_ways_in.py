"""Hosts that people asked a way into: ssh, a rescue entry, debug consoles; and what guards them.

One host of an image with everything in it lives through all tests but the last one, in their order.
"""

from __future__ import annotations

import base64
import socket
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest
import urllib3
from guarded import (
    BY_ANOTHER_KEY,
    NAME,
    OPEN,
    SIGNED,
    SIGNED_FOR_ANOTHER,
    UNNAMED,
    UNSIGNED,
    Keys,
    signing_registry,
)
from hosts import BOOT_TIMEOUT_S, Host, host_config, machine_folder, updater_credential
from workbench import DEBUG, GUARDED, Workbench

from imagebuild.rehearsal.registry import RunningRegistry
from imagebuild.vm.config import Forward
from imagebuild.vm.machine import VirtualMachine, free_port
from imagebuild.vm.waiting import wait_for

pytestmark = pytest.mark.all_ways

# This host's loopback, as the guest sees it; no server answers at the agent's port.
GATEWAY = "10.0.2.2"
NOBODY = "http://10.0.2.2:9"
PUBLISHED, UNPUBLISHED, SSH = 8080, 9090, 22
FETCH_TIMEOUT_S = 20.0
REFUSED_TIMEOUT_S = 8.0
MENU_TIMEOUT_S = 240.0
LOG_TIMEOUT_S = 120.0
DOWN_PRESSES = 6
PROMPT = r"root@[^:\n]+:~#"
SERVES = "busybox mkdir /www; echo {text} >/www/index.html; exec busybox httpd -f -p {port} -h /www"


@dataclass(frozen=True)
class Guarded:
    """The host, the registry it pulls from, and where its ports are on this machine."""

    host: Host
    registry: RunningRegistry
    keys: Keys
    ports: dict[int, int]

    def fetch(self, port: int, *, timeout_s: float = FETCH_TIMEOUT_S) -> bytes | None:
        """The answer of a web server at a port of the guest; None when there is none."""
        url = f"http://127.0.0.1:{self.ports[port]}/"
        try:
            return urllib3.request("GET", url, timeout=timeout_s, retries=0).data
        except urllib3.exceptions.HTTPError:
            return None


@pytest.fixture(scope="module")
def guarded(bench: Workbench) -> Iterator[Guarded]:
    folder = machine_folder("guarded")
    ports = {port: free_port() for port in (PUBLISHED, UNPUBLISHED, SSH)}
    config = replace(
        host_config(bench, bench.disk(GUARDED), updater_credential(NOBODY)),
        forwards=tuple(Forward(host, guest) for guest, host in ports.items()),
    )
    with (
        signing_registry(bench.tools, folder / "registry", bench.guard_keys) as registry,
        VirtualMachine(config, tools=bench.tools, accelerator=bench.finding.accelerator, folder=folder) as machine,
    ):
        host = Host(machine)
        host.wait_boot()
        host.wait_settled()
        mirror = f'[[registry]]\nprefix = "{NAME}"\nlocation = "{GATEWAY}:{registry.port}"\ninsecure = true\n'
        host.text(f"printf '%s' '{mirror}' >/etc/containers/registries.conf.d/test.conf")
        yield Guarded(host, registry, bench.guard_keys, ports)


def test_no_unit_failed_and_ssh_is_enabled(guarded: Guarded) -> None:
    assert guarded.host.text("systemctl --failed --no-legend --plain") == ""
    assert guarded.host.text("systemctl is-active ssh.service") == "active"


def test_ssh_answers_through_a_forwarded_port(guarded: Guarded) -> None:
    with socket.create_connection(("127.0.0.1", guarded.ports[SSH]), timeout=FETCH_TIMEOUT_S) as connection:
        assert connection.recv(64).startswith(b"SSH-2.0-OpenSSH")


def ssh(guarded: Guarded, options: str = "") -> str:
    known = "-o StrictHostKeyChecking=accept-new -o UserKnownHostsFile=/run/known"
    return f"ssh -i /run/login {known} -o BatchMode=yes {options} root@127.0.0.1 'id -u; echo there'"


def test_root_logs_in_with_the_key_of_the_image_and_with_nothing_else(guarded: Guarded) -> None:
    key = base64.b64encode(guarded.keys.login.encode()).decode()
    guarded.host.text(f"umask 077 && echo {key} | base64 -d >/run/login")
    assert guarded.host.text(f"{ssh(guarded)} 2>/dev/null").split() == ["0", "there"]
    refused = guarded.host.run(ssh(guarded, "-o IdentitiesOnly=yes -o PubkeyAuthentication=no"))
    assert refused.exit_code != 0
    assert "Permission denied (publickey)" in refused.output


def test_a_signed_image_is_pulled_and_runs_confined(guarded: Guarded) -> None:
    guarded.host.text(f"podman pull --quiet {SIGNED}")
    profile = guarded.host.text(f"podman run --rm {SIGNED} cat /proc/self/attr/current")
    assert profile.startswith("containers-default-")
    assert profile.endswith("(enforce)")


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (UNSIGNED, "no signature exists"),
        (BY_ANOTHER_KEY, "cryptographic signature verification failed"),
        (SIGNED_FOR_ANOTHER, "is not accepted"),
        (UNNAMED, "rejected by policy"),
    ],
)
def test_an_image_that_the_policy_does_not_allow_is_refused(guarded: Guarded, image: str, reason: str) -> None:
    answer = guarded.host.run(f"podman pull --quiet {image}")
    assert answer.exit_code != 0
    assert reason in answer.output
    assert guarded.host.run(f"podman image exists {image}").exit_code != 0


def test_an_image_of_an_accepted_place_needs_no_signature(guarded: Guarded) -> None:
    guarded.host.text(f"podman pull --quiet {OPEN}")


def test_published_ports_work_behind_the_firewall_and_others_do_not(guarded: Guarded) -> None:
    served = SERVES.format(text="published", port=80)
    guarded.host.text(f"podman run -d --name web -p {PUBLISHED}:80 {SIGNED} sh -c '{served}'")
    served = SERVES.format(text="unpublished", port=UNPUBLISHED)
    guarded.host.text(f"podman run -d --name bare --network host {SIGNED} sh -c '{served}'")
    wait_for(lambda: guarded.fetch(PUBLISHED), what="the published port", timeout_s=FETCH_TIMEOUT_S * 3)
    assert guarded.fetch(PUBLISHED) == b"published\n"
    assert guarded.fetch(UNPUBLISHED, timeout_s=REFUSED_TIMEOUT_S) is None
    # It is the firewall that keeps it closed.
    guarded.host.text("nft delete table inet host")
    assert guarded.fetch(UNPUBLISHED) == b"unpublished\n"
    # The file is right by nft's own check, and can be loaded any number of times while containers run.
    guarded.host.text("nft -c -f /etc/nftables.conf && nft -f /etc/nftables.conf && systemctl reload nftables")
    assert guarded.fetch(UNPUBLISHED, timeout_s=REFUSED_TIMEOUT_S) is None
    assert guarded.fetch(PUBLISHED) == b"published\n"


def test_containers_reach_the_world_and_each_other_by_name(guarded: Guarded) -> None:
    wget = "busybox wget -q -O /dev/null -T 20"
    guarded.host.text(f"podman run --rm {SIGNED} {wget} http://{GATEWAY}:{guarded.registry.port}/v2/")
    guarded.host.text("podman network create inner")
    served = SERVES.format(text="inner", port=80)
    guarded.host.text(f"podman run -d --name named --network inner {SIGNED} sh -c '{served}'")
    ask = f"podman run --rm --network inner {SIGNED} busybox wget -q -O - -T 20 http://named/"
    assert guarded.host.text(ask) == "inner"


def test_logs_are_shipped_as_documented(guarded: Guarded) -> None:
    # Both ends are on the same host here, but the data still goes over TCP.
    run = guarded.host.text
    run("mkdir -p /etc/systemd/journal-upload.conf.d /var/log/journal/remote")
    run("printf '[Upload]\\nURL=http://127.0.0.1:19532\\n' >/etc/systemd/journal-upload.conf.d/10-server.conf")
    run(
        "systemd-run --unit=logs-received /usr/lib/systemd/systemd-journal-remote --listen-http=127.0.0.1:19532 "
        "--split-mode=none --output=/var/log/journal/remote/all.journal"
    )
    run("systemctl start systemd-journal-upload.service && logger -t shipped one-line-of-many")

    def received() -> bool | None:
        found = guarded.host.run("journalctl --file=/var/log/journal/remote/all.journal -t shipped -o cat")
        return "one-line-of-many" in found.output or None

    wait_for(received, what="the shipped log", timeout_s=LOG_TIMEOUT_S)
    run("systemctl stop systemd-journal-upload.service logs-received.service")


def host_keys(guarded: Guarded) -> str:
    return guarded.host.text("cat /var/lib/ssh/ssh_host_*_key.pub")


def test_the_rescue_entry_is_a_root_shell_and_changes_nothing(guarded: Guarded) -> None:
    machine, before, keys = guarded.host.machine, guarded.host.status(), host_keys(guarded)
    mark = machine.mark()
    guarded.host.run("systemd-run --on-active=1 systemctl reboot")

    with machine.keyboard() as press:

        def press_until(keys: str, marker: str, timeout_s: float) -> None:
            def look() -> bool | None:
                press(keys)
                return marker in machine.console_text()[mark:] or None

            wait_for(look, what=f"{marker!r} on the console", timeout_s=timeout_s)

        # Holding a key while the machine starts shows the menu.
        press_until(" ", "rescue:", MENU_TIMEOUT_S)
        # Rescue is the last entry, and `j` goes down no further; a busy firmware misses keys.
        left = iter(range(DOWN_PRESSES))
        wait_for(
            lambda: press("j") or next(left, None) is None or None, what="the last entry", timeout_s=MENU_TIMEOUT_S
        )
        press_until("\r", "You are in rescue mode", BOOT_TIMEOUT_S)
        press_until("\r", "root@", BOOT_TIMEOUT_S)
        press("echo uid=$(id -u) unit=$(systemctl is-active rescue.target) var=$(findmnt -no FSTYPE /var)\r")
        machine.wait_for_console("uid=0 unit=active var=ext4", timeout_s=BOOT_TIMEOUT_S, since=mark)
        press("systemctl reboot\r")
        guarded.host.wait_reboot()
    # Without a key press the first profile boots.
    after = guarded.host.wait_settled()
    assert "rescue.target" not in guarded.host.text("cat /proc/cmdline")
    assert {name: after[name] for name in ("version", "slot", "entries", "bad")} == {
        name: before[name] for name in ("version", "slot", "entries", "bad")
    }
    assert host_keys(guarded) == keys


def test_the_debug_profile_has_a_root_shell_on_its_consoles(bench: Workbench) -> None:
    config = host_config(bench, bench.disk(DEBUG), updater_credential(NOBODY))
    folder = machine_folder("debug")
    with VirtualMachine(config, tools=bench.tools, accelerator=bench.finding.accelerator, folder=folder) as machine:
        machine.wait_for_console(PROMPT, timeout_s=BOOT_TIMEOUT_S)
        with machine.keyboard() as press:
            press("echo uid=$(id -u) on=$(tty)\r")
            machine.wait_for_console("uid=0 on=/dev/ttyS0", timeout_s=BOOT_TIMEOUT_S)
        host = Host(machine)
        host.wait_boot()
        assert "root" in host.text("ps -o user= -t tty1 2>/dev/null || loginctl --no-legend | grep tty1")
        # A hypervisor's console is a serial one to systemd, so it gets the same.
        assert "--autologin root" in host.text("systemctl cat serial-getty@hvc0.service")
