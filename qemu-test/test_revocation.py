"""A UKI that was revoked does not start any more: the firmware takes our additions to dbx, and keeps to them."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from pathlib import Path

from hosts import Host, machine_folder
from workbench import FIRST, Workbench

from imagebuild.vm.config import VmConfig
from imagebuild.vm.console import SECURITY_VIOLATION
from imagebuild.vm.guest import Answer
from imagebuild.vm.machine import VirtualMachine
from keys.keyring import Keyring
from keys.passphrase import NoPassphrase
from keys.roles import BootRole
from keys.secureboot.pe import authenticode_digest
from keys.secureboot.siglist import ATTRIBUTES, DATABASE_GUID, BootVariable, hash_list, hashes_of, parse_lists
from keys.secureboot.variable import Addition
from keys.signers import open_boot_signer

REFUSAL_TIMEOUT_S = 180
MADE = datetime(2026, 1, 2, tzinfo=UTC)
DBX = f"/sys/firmware/efi/efivars/{BootVariable.DBX.value}-{DATABASE_GUID}"
# As `updater.agent.boot_trust.databases` does it, for an agent that does not do it by itself yet.
APPEND = f"""\
import base64, fcntl, os, struct, sys
path, payload = sys.argv[1], base64.b64decode(sys.argv[2])
if os.path.exists(path):
    with open(path, "rb") as stream:
        flags = bytearray(8)
        fcntl.ioctl(stream, 0x80086601, flags)
        fcntl.ioctl(stream, 0x40086602, struct.pack("<Q", struct.unpack_from("<I", flags)[0] & ~0x10))
handle = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
os.write(handle, struct.pack("<I", {ATTRIBUTES}) + payload)
"""


def signed_by(keyring: Keyring, role: BootRole, digest: bytes) -> bytes:
    """An addition to dbx, signed by one of the image's keys."""
    addition, signer = (
        Addition(BootVariable.DBX, MADE, hash_list([digest])),
        open_boot_signer(keyring, role, NoPassphrase()),
    )
    return addition.payload(signer.sign(addition.to_sign()), signer.certificate)


def append(host: Host, payload: bytes) -> Answer:
    host.text(f"cat > /run/append.py <<'END'\n{APPEND}END")
    python = "/usr/lib/twinhull/bin/python3 -IS"
    return host.run(f"{python} /run/append.py {DBX} {base64.b64encode(payload).decode()}")


def revoked(host: Host) -> frozenset[bytes]:
    content = base64.b64decode(host.text(f"test ! -e {DBX} || base64 -w0 {DBX}"))
    return hashes_of(parse_lists(content[4:]))


def machine_of(bench: Workbench, disk: Path, folder: Path) -> VirtualMachine:
    """The same machine each time: its firmware's variables are in the folder."""
    config = VmConfig(image=disk, certificates=bench.certificates, guest_shell=True, snapshot=False)
    return VirtualMachine(config, tools=bench.tools, accelerator=bench.finding.accelerator, folder=folder)


def test_a_revoked_uki_does_not_start_any_more(bench: Workbench) -> None:
    folder = machine_folder("revocation")
    disk = bench.disk_copy(FIRST, folder)
    digest = authenticode_digest(bench.build(FIRST) / "uki.efi")
    with machine_of(bench, disk, folder) as machine:
        host = Host(machine)
        host.wait_boot()
        before = revoked(host)
        assert digest not in before
        # Only KEK may: db, which the build pipeline holds, may not.
        stolen = append(host, signed_by(bench.keyring, BootRole.DB, digest))
        assert stolen.exit_code != 0, stolen.output
        assert revoked(host) == before
        for _ in range(2):
            done = append(host, signed_by(bench.keyring, BootRole.KEK, digest))
            assert done.exit_code == 0, done.output
            assert revoked(host) == before | {digest}
    with machine_of(bench, disk, folder) as machine:
        machine.panics_are_fatal = False
        machine.wait_for_console(SECURITY_VIOLATION, timeout_s=REFUSAL_TIMEOUT_S)
        machine.wait_for_console(r"BdsDxe: failed to start|No bootable option", timeout_s=REFUSAL_TIMEOUT_S)
    disk.unlink()
