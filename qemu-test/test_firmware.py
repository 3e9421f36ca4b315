"""The firmware boots nothing that the image's keys did not sign.

That the same disk boots when it is left alone is shown by every other test.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from disks import BootPartition, flip_bit, map_of
from hosts import machine_folder
from workbench import FIRST, Workbench

from imagebuild.inputs.tools import Access
from imagebuild.vm.config import VmConfig
from imagebuild.vm.console import SECURITY_VIOLATION
from imagebuild.vm.machine import VirtualMachine

TIMEOUT_S = 60
REFUSAL_TIMEOUT_S = 180


def accepted(bench: Workbench, uki: Path) -> bool:
    """Whether sbverify takes the UKI for one that the image's key signed."""
    certificate = bench.certificates.signature_database
    words: list[str | Path] = ["sbverify", "--cert", certificate, uki]
    access = Access(read=(certificate.parent, uki.parent))
    return bench.tools.run(words, access, timeout_s=TIMEOUT_S, check=False).returncode == 0


def without_signature(bench: Workbench, uki: Path) -> None:
    bench.tools.run(["sbattach", "--remove", uki], Access(write=(uki.parent,)), timeout_s=TIMEOUT_S)


def with_one_byte_changed(bench: Workbench, uki: Path) -> None:
    flip_bit(uki, uki.stat().st_size // 2)


CHANGES = {"unsigned": without_signature, "one-byte-changed": with_one_byte_changed}


@pytest.mark.parametrize("name", CHANGES)
def test_a_uki_that_is_not_as_it_was_signed_does_not_start(bench: Workbench, name: str) -> None:
    folder = machine_folder(f"firmware-{name}")
    disk = bench.disk_copy(FIRST, folder)
    where = map_of(disk)
    # The spare on the ESP as well: a whole one would be started.
    for part in (where.xbootldr, where.esp):
        boot = BootPartition(disk, part, bench.tools)
        (entry,) = boot.names()
        uki, read_back = folder / "uki.efi", folder / "read-back.efi"
        boot.get(entry, uki)
        assert accepted(bench, uki)
        original = uki.read_bytes()
        CHANGES[name](bench, uki)
        boot.put(uki, entry)
        boot.get(entry, read_back)
        assert read_back.read_bytes() == uki.read_bytes() != original
        assert not accepted(bench, read_back)
        uki.unlink()
        read_back.unlink()

    config = VmConfig(image=disk, certificates=bench.certificates, snapshot=False)
    machine = VirtualMachine(config, tools=bench.tools, accelerator=bench.finding.accelerator, folder=folder)
    with machine:
        machine.panics_are_fatal = False
        machine.wait_for_console(SECURITY_VIOLATION, timeout_s=REFUSAL_TIMEOUT_S)
        machine.wait_for_console(r"BdsDxe: failed to start|No bootable option", timeout_s=REFUSAL_TIMEOUT_S)
        assert "Linux version" not in machine.console_text()
        assert "systemd[1]" not in machine.console_text()
    disk.unlink()
