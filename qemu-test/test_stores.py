"""A host whose power is cut while its containers' images are being stored.

The tests stand in the order of the host's life.  What a cut takes is what the guest had not brought to its disk: the
machine is killed, and the disk keeps what it was given.
"""

from __future__ import annotations

import io
import random
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from hosts import Host, host_config, machine_folder, read_json, updater_credential
from workbench import FIRST, Workbench

from bedrock.digest import bytes_sha256
from imagebuild.rehearsal.guest import HOST
from imagebuild.rehearsal.registry import RunningRegistry, image_layer, run_registry
from imagebuild.vm.machine import VirtualMachine
from imagebuild.vm.waiting import wait_for

pytestmark = pytest.mark.all_faults

FILES, FILE_BYTES = 300, 40_000
SERVICE = "twinhull-containers-storage.service"
SYNCED = "/var/lib/twinhull/containers.synced"
WATCHED = "twinhull-containers-synced.path"
PULL_TIMEOUT_S = 300
RECORD_TIMEOUT_S = 120
IMAGES = ("cut", "kept")


@dataclass(frozen=True)
class Case:
    """A host and the registry that it pulls from."""

    host: Host
    registry: RunningRegistry

    def reference(self, name: str) -> str:
        return self.registry.reference(HOST, f"twinhull/{name}")

    def pull(self, name: str) -> str:
        """Pull an image; its id."""
        command = f"podman pull --quiet --tls-verify=false {self.reference(name)}"
        return self.host.text(command, timeout_s=PULL_TIMEOUT_S).splitlines()[-1]

    def content(self, name: str) -> str:
        """What a container of an image finds in it: a digest over every file."""
        script = "cat /data/* | sha256sum"
        command = f"podman run --rm --network none --pull never {self.reference(name)} /bin/sh -c '{script}'"
        return self.host.text(command, timeout_s=PULL_TIMEOUT_S).split()[0]

    def cut_power(self) -> None:
        """Switch the machine off without a word, and on again."""
        self.host.machine.kill()
        self.host.machine.close()
        self.host.machine.start()
        self.host.wait_boot()
        self.host.text(f"systemctl start basic.target {WATCHED}", timeout_s=PULL_TIMEOUT_S)

    def events(self) -> list[dict[str, Any]]:
        history = read_json(self.host.text("updater history --json"))
        return [event for event in history if event["kind"] == "storage"]

    def said(self) -> str:
        """What the check said in this boot."""
        return self.host.text(f"journalctl --no-pager -b -o cat -u {SERVICE}")


def data_of(name: str) -> list[bytes]:
    """The files of an image, the same each time."""
    rng = random.Random(name)  # noqa: S311 - no secret
    return [rng.randbytes(FILE_BYTES) for _ in range(FILES)]


def data_layer(files: list[bytes]) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for number, data in enumerate(files):
            entry = tarfile.TarInfo(f"data/{number:04}")
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return raw.getvalue()


def digest_of(name: str) -> str:
    return bytes_sha256(b"".join(data_of(name)))


@pytest.fixture(scope="module")
def case(bench: Workbench) -> Iterator[Case]:
    folder = machine_folder("stores")
    config = host_config(bench, bench.disk(FIRST), updater_credential("http://127.0.0.1:9/", enabled=False))
    busybox = (bench.tools.root / "usr/bin/busybox").read_bytes()
    with run_registry(bench.tools, folder / "registry") as registry:
        for name in IMAGES:
            registry.push(f"twinhull/{name}", [image_layer(busybox), data_layer(data_of(name))])
        machine = VirtualMachine(config, tools=bench.tools, accelerator=bench.finding.accelerator, folder=folder)
        with machine:
            host = Host(machine)
            host.wait_boot()
            host.wait_settled()
            yield Case(host, registry)


def damaged(host: Host) -> bool:
    """What podman's own check finds."""
    return host.run("podman system check --quick", timeout_s=PULL_TIMEOUT_S).exit_code != 0


def test_an_image_that_a_cut_took_the_files_of_is_removed_before_containers_start(case: Case) -> None:
    # Without what brings it to the disk at once, an image takes half a minute to get there.
    case.host.text(f"systemctl stop {WATCHED}")
    image = case.pull("cut")
    case.cut_power()
    (event,) = case.events()
    assert "were damaged" in event["text"], "the cut took nothing: this shows nothing"
    assert f"1 image ({image[:12]})" in event["text"]
    assert case.host.run(f"podman image exists {image}").exit_code != 0
    assert not damaged(case.host)
    ended, began = (
        int(case.host.text(f"systemctl show --value -p {key} {unit}"))
        for unit, key in (
            (SERVICE, "ExecMainExitTimestampMonotonic"),
            ("basic.target", "ActiveEnterTimestampMonotonic"),
        )
    )
    assert 0 < ended <= began


def test_what_was_removed_is_pulled_again_and_whole(case: Case) -> None:
    case.pull("cut")
    assert case.content("cut") == digest_of("cut")


def test_an_image_that_was_brought_to_the_disk_survives_a_cut_and_costs_no_check(case: Case) -> None:
    assert case.host.text(f"systemctl is-active {WATCHED}") == "active"
    image = case.pull("kept")
    recorded = f"grep -q {image} {SYNCED}"
    wait_for(lambda: case.host.run(recorded).exit_code == 0 or None, what="the record", timeout_s=RECORD_TIMEOUT_S)
    case.cut_power()
    assert "whole" not in case.said()
    assert len(case.events()) == 1
    assert case.content("kept") == digest_of("kept")
    assert not damaged(case.host)


def test_a_clean_reboot_costs_no_check(case: Case) -> None:
    name = case.reference("kept")
    case.host.text(f"podman run --name stays --network none {name} /bin/echo", timeout_s=PULL_TIMEOUT_S)
    case.host.machine.shell.reboot(timeout_s=PULL_TIMEOUT_S)
    case.host.wait_settled()
    assert "whole" not in case.said()
    assert not case.host.run("ls /var/lib/twinhull/containers.unchecked").output.startswith("/")
    assert case.host.text("podman inspect --format '{{.State.Status}}' stays") == "exited"


def test_a_cut_right_after_a_change_is_checked_and_keeps_what_is_whole(case: Case) -> None:
    case.host.text(f"systemctl stop {WATCHED}")
    case.host.text("podman rm stays && sync")
    case.cut_power()
    assert "everything that was stored is whole" in case.said()
    assert case.content("kept") == digest_of("kept")
    assert len(case.events()) == 1
