"""How a version on trial is judged, and when a staged one reboots: one host for each.

The judged version has a service that ends by itself and one that fails, each only where a file in `/var` says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hosts import BOOT_TIMEOUT_S, UPDATE_TIMEOUT_S, Host, host_config, machine_folder, read_json, updater_credential
from update_server import UpdateServer, running
from workbench import FIRST, JUDGED, OUT, Workbench

from imagebuild.rehearsal.guest import HOST as GUEST_HOST
from imagebuild.rehearsal.registry import RunningRegistry, run_registry
from imagebuild.vm.machine import VirtualMachine

pytestmark = pytest.mark.all_faults

FLAGS = "/var/lib/judging"
HOOKS = "/etc/twinhull/before-reboot.d"
HEALTH = {"settle": "10s", "patience": "5s", "retry_interval": "1s"}
TRIAL_TIMEOUT_S = 900.0
# The limit of systemd-networkd-wait-online here, and half of what it took before it gave up on a card without a cable.
WAIT_ONLINE_S = 60.0
WINDOW_MINUTES = 2
WINDOWS = 30
STOP_S = 5


@dataclass
class Setting:
    """A host, its server, and a registry with one image."""

    host: Host
    server: UpdateServer
    registry: RunningRegistry


def started(bench: Workbench, name: str, *, unplugged_card: bool = False, **settings: Any) -> Iterator[Setting]:
    """A host of the first version that found nothing new, and a server whose channel now names the judged one."""
    repository = bench.repository(name, FIRST, JUDGED)
    with (
        running(UpdateServer(repository.base)) as server,
        run_registry(bench.tools, OUT / "registries" / name) as registry,
    ):
        credential = updater_credential(server.guest_url, tries=1, poll_interval="1d", **settings)
        config = replace(host_config(bench, bench.disk(FIRST), credential), unplugged_card=unplugged_card)
        machine = VirtualMachine(
            config, tools=bench.tools, accelerator=bench.finding.accelerator, folder=machine_folder(name)
        )
        with machine:
            host = Host(machine)
            host.wait_boot()
            host.wait_settled()
            if settings.get("enabled", True):
                # What is updated by hand would find the daemon's first question in its way.
                host.wait_status(lambda status: status["poll"] is not None, timeout_s=BOOT_TIMEOUT_S)
            repository.point(JUDGED)
            host.text(f"mkdir -p {FLAGS}")
            yield Setting(host, server, registry)


@pytest.fixture(scope="module")
def judged(bench: Workbench) -> Iterator[Setting]:
    yield from started(bench, "judged", health=HEALTH, enabled=False)


@pytest.fixture(scope="module")
def windowed(bench: Workbench) -> Iterator[Setting]:
    # The server is away when the staged version is judged, which is not what this is about.
    yield from started(bench, "windowed", unplugged_card=True, health={**HEALTH, "server": False})


def reason_after_trial(setting: Setting, *, retry: bool) -> str:
    """Update, and wait until the host is back on its first version: why the judged one is bad."""
    host = setting.host
    staged = host.update("--no-reboot --retry" if retry else "--no-reboot")
    assert staged.exit_code == 0, staged.output
    # What was installed counts as bad no more, so whatever is bad later failed in the trial that follows.
    assert host.status()["bad"] == []
    host.run("systemctl --no-block reboot")
    status = host.wait_status(
        lambda status: status["version"] == FIRST and bool(status["bad"]), timeout_s=TRIAL_TIMEOUT_S
    )
    (bad,) = status["bad"]
    assert bad["version"] == JUDGED
    return str(bad["reason"])


def test_a_service_that_dies_three_seconds_after_it_was_asked_is_not_blessed(judged: Setting) -> None:
    judged.host.text(f"touch {FLAGS}/short")
    reason = reason_after_trial(judged, retry=False)
    assert reason.startswith("short: it is inactive"), reason
    # The first look found it active: without a settle time the version would have been kept.
    seen = judged.host.text(f"cat {FLAGS}/seen").split()
    assert seen[0] == "active"
    assert seen[-1] == "inactive"


def test_a_unit_that_failed_counts_though_no_check_names_it(judged: Setting) -> None:
    judged.host.text(f"rm {FLAGS}/short; touch {FLAGS}/broken")
    assert reason_after_trial(judged, retry=True).startswith("no unit failed: broken.service failed")


def test_a_second_network_card_without_a_cable_is_not_waited_for(windowed: Setting) -> None:
    host = windowed.host
    carriers = host.text("for card in /sys/class/net/e*; do cat $card/carrier; done").split()
    assert sorted(carriers) == ["0", "1"]
    show = "systemctl show systemd-networkd-wait-online.service"
    values = dict(line.split("=", 1) for line in host.text(show).splitlines() if "=" in line)
    assert values["ActiveState"] == "active"
    began, ended = (int(values[f"ExecMain{name}TimestampMonotonic"]) for name in ("Start", "Exit"))
    assert 0 < (ended - began) / 1e6 < WAIT_ONLINE_S
    assert host.text("systemctl --failed --no-legend --plain") == ""


def windows(now: datetime) -> str:
    """Settings with windows that follow each other without a gap from the next minute on, for an hour."""
    first = now.replace(second=0, microsecond=0) + timedelta(minutes=1)
    starts = [first + timedelta(minutes=WINDOW_MINUTES * number) for number in range(WINDOWS)]
    each = ", ".join(f'{{start: "{start:%H:%M}", length: {WINDOW_MINUTES}m}}' for start in starts)
    return f"reboot: {{policy: window, retry_interval: 3s, patience: 2h, windows: [{each}]}}"


def test_a_staged_version_reboots_in_its_window_with_the_server_away_and_whoever_asks_is_waited_for(
    windowed: Setting,
) -> None:
    host = windowed.host
    assert host.update("--no-reboot").exit_code == 0
    windowed.server.gone.set()
    assert host.run("updater check", timeout_s=UPDATE_TIMEOUT_S).exit_code == 1
    # A program that says "not now" the first time, a backup that inhibits, and a container that takes its time to stop.
    hook = f"""#!/bin/sh
echo $TWINHULL_FROM_VERSION $TWINHULL_TO_VERSION $TWINHULL_LAST_CALL >> {FLAGS}/hook
test -e {FLAGS}/drained && exit 0
touch {FLAGS}/drained
exit 75
"""
    host.text(f"mkdir -p {HOOKS} && cat > {HOOKS}/50-drain <<'EOF'\n{hook}EOF\nchmod 755 {HOOKS}/50-drain")
    host.text("systemd-run -q --unit=backup systemd-inhibit --what=shutdown --who=backup --why=nightly sleep infinity")
    stops = f'trap "busybox sleep {STOP_S}; echo stopped > /flags/container; exit 0" TERM'
    image = windowed.registry.reference(GUEST_HOST)
    options = f"--tls-verify=false --stop-timeout=40 --volume {FLAGS}:/flags"
    loop = f"{stops}; while :; do busybox sleep 1; done"
    host.text(f"podman run --detach --name slow {options} {image} sh -c '{loop}'")
    host.text(f"echo '{windows(datetime.now(UTC))}' > /etc/twinhull/updater.yaml")
    host.text("systemctl restart twinhull-updater.service")

    shown = host.status()["reboot"]
    assert shown["version"] == JUDGED
    assert "window of" in shown["why"]
    planned = datetime.fromisoformat(shown["at"])
    assert datetime.now(UTC) - timedelta(minutes=1) <= planned <= datetime.now(UTC) + timedelta(minutes=4)

    def inhibited(status: dict[str, Any]) -> bool:
        return list(status["reboot"]["waits_for"]) == ["backup inhibits a shutdown: nightly"]

    waiting = host.wait_status(inhibited, timeout_s=BOOT_TIMEOUT_S)
    assert waiting["version"] == FIRST
    assert host.run(f"test -e {FLAGS}/hook").exit_code != 0, "a program ran though somebody inhibits a shutdown"
    host.text("systemctl stop backup.service")

    host.wait_reboot(timeout_s=UPDATE_TIMEOUT_S)
    blessed = host.wait_status(
        lambda status: status["version"] == JUDGED and bool(status["blessed"]), timeout_s=TRIAL_TIMEOUT_S
    )
    assert blessed["reboot"] is None
    assert host.text(f"cat {FLAGS}/hook").splitlines() == [f"{FIRST} {JUDGED} 0"] * 2
    assert host.text(f"cat {FLAGS}/container") == "stopped"
    checks = read_json(host.text("updater health --json"))["checks"]
    assert {check["name"] for check in checks} >= {"no unit failed", "short", "then"}
