from __future__ import annotations

import dataclasses
import os
from pathlib import Path

from imagebuild.vm.arguments import qemu_arguments
from imagebuild.vm.config import (
    Accelerator,
    BootCertificates,
    Carrier,
    Console,
    Credential,
    DiskCache,
    Forward,
    VmConfig,
    VmPaths,
)
from imagebuild.vm.disks import DiskKind

PATHS = VmPaths(Path("/vms/one"), Path("/sockets/one"))
CERTIFICATES = BootCertificates(Path("/k/PK.pem"), Path("/k/KEK.pem"), Path("/k/db.pem"))
PLAIN = VmConfig(Path("/images/disk.raw"))
SECURE = dataclasses.replace(PLAIN, certificates=CERTIFICATES)


def words(config: VmConfig, accelerator: Accelerator = Accelerator.TCG) -> list[str]:
    return qemu_arguments(config, PATHS, accelerator)


def values(config: VmConfig, option: str) -> list[str]:
    line = words(config)
    return [line[index + 1] for index, word in enumerate(line) if word == option]


def test_no_default_device_and_no_user_configuration_is_taken() -> None:
    assert {"-nodefaults", "-no-user-config"} <= set(words(PLAIN))


def test_secure_boot_locks_the_variables_behind_system_management_mode() -> None:
    assert any("smm=on" in word for word in values(SECURE, "-machine"))
    assert "driver=cfi.pflash01,property=secure,value=on" in values(SECURE, "-global")
    assert any(word.endswith("OVMF_CODE_4M.secboot.fd") for word in values(SECURE, "-drive"))


def test_without_secure_boot_the_plain_firmware_runs() -> None:
    assert any("smm=off" in word for word in values(PLAIN, "-machine"))
    assert any(word.endswith("OVMF_CODE_4M.fd") for word in values(PLAIN, "-drive"))
    assert "driver=cfi.pflash01,property=secure,value=on" not in words(PLAIN)


def test_the_firmware_code_is_read_only_and_the_variables_are_not() -> None:
    code, variables, _disk = values(SECURE, "-drive")
    assert "readonly=on" in code
    assert "readonly" not in variables
    assert variables.endswith("file=/vms/one/nvram.fd")


def test_software_emulation_uses_every_processor_and_a_large_cache() -> None:
    assert values(PLAIN, "-accel") == ["tcg,thread=multi,tb-size=1024"]
    assert values(PLAIN, "-cpu") == ["max"]


def test_hardware_acceleration_hands_the_processor_through() -> None:
    line = words(PLAIN, Accelerator.KVM)
    assert line[line.index("-accel") + 1] == "kvm"
    assert line[line.index("-cpu") + 1] == "host"


def test_a_snapshot_writes_to_the_overlay() -> None:
    assert values(PLAIN, "-drive")[-1].startswith("if=none,id=disk,format=qcow2,file=/vms/one/overlay.qcow2")


def test_without_a_snapshot_the_image_is_written() -> None:
    config = dataclasses.replace(PLAIN, snapshot=False)
    assert values(config, "-drive")[-1].startswith("if=none,id=disk,format=raw,file=/images/disk.raw")


def test_writes_are_logged_to_a_file_of_their_own() -> None:
    config = dataclasses.replace(PLAIN, snapshot=False, write_log=Path("/vms/one/writes.log"))
    (drive,) = (word for word in values(config, "-drive") if "id=disk" in word)
    assert "driver=blklogwrites,file.driver=raw,file.file.driver=file,file.file.filename=/images/disk.raw," in drive
    assert "log.driver=file,log.filename=/vms/one/writes.log," in drive
    assert "virtio-blk-device.request-merging=off" in values(config, "-global")
    assert "virtio-blk-device.request-merging=off" not in values(PLAIN, "-global")


def test_flushes_are_honoured_unless_told_otherwise() -> None:
    assert "cache=writeback" in values(PLAIN, "-drive")[-1]
    assert "cache=unsafe" in values(dataclasses.replace(PLAIN, disk_cache=DiskCache.UNSAFE), "-drive")[-1]


def test_a_comma_in_a_path_is_doubled() -> None:
    config = VmConfig(Path("/images/a,b.raw"), snapshot=False)
    assert "file=/images/a,,b.raw," in values(config, "-drive")[-1]


def test_the_network_card_has_no_option_rom() -> None:
    assert "virtio-net-pci,netdev=net,romfile=" in values(PLAIN, "-device")


def test_a_second_card_has_a_name_by_which_its_cable_is_pulled() -> None:
    config = dataclasses.replace(PLAIN, unplugged_card=True)
    assert "virtio-net-pci,netdev=unplugged,id=unplugged,romfile=" in values(config, "-device")
    assert not any("unplugged" in value for value in values(PLAIN, "-device"))


def test_forwards_are_bound_to_the_loopback() -> None:
    config = dataclasses.replace(PLAIN, forwards=(Forward(8080, 80), Forward(2222, 22)))
    expected = "user,id=net,hostfwd=tcp:127.0.0.1:8080-:80,hostfwd=tcp:127.0.0.1:2222-:22"
    assert values(config, "-netdev") == [expected]


def test_credentials_become_smbios_strings() -> None:
    config = dataclasses.replace(PLAIN, credentials=(Credential("a.b", b"x"),))
    assert values(config, "-smbios") == ["type=11,value=io.systemd.credential.binary:a.b=eA=="]


def test_a_credential_may_be_a_file_of_fw_cfg() -> None:
    config = dataclasses.replace(PLAIN, credentials=(Credential("a.b", b"x: 1,2\n\xff", Carrier.FW_CFG),))
    assert values(config, "-smbios") == []
    (given,) = values(config, "-fw_cfg")
    assert os.fsencode(given) == b"name=opt/io.systemd.credentials/a.b,string=x: 1,,2\n\xff"


def test_a_guest_gets_a_shell_port_only_when_asked() -> None:
    assert not any("virtserialport" in word for word in words(PLAIN))
    config = dataclasses.replace(PLAIN, guest_shell=True)
    assert "virtserialport,chardev=guest,name=twinhull.guest" in values(config, "-device")


def test_the_guest_agent_has_a_channel_of_its_own_on_the_same_controller() -> None:
    config = dataclasses.replace(PLAIN, guest_shell=True, guest_agent=True)
    devices = values(config, "-device")
    assert devices.count("virtio-serial-pci") == 1
    assert "virtserialport,chardev=agent,name=org.qemu.guest_agent.0" in devices
    assert "socket,id=agent,path=/sockets/one/agent,server=on,wait=off" in values(config, "-chardev")


def test_a_guest_gets_a_tpm_only_when_asked() -> None:
    assert "-tpmdev" not in words(PLAIN)
    assert values(dataclasses.replace(PLAIN, tpm=True), "-tpmdev") == ["emulator,id=tpm0,chardev=tpm"]


def test_the_console_is_always_logged() -> None:
    terminal = dataclasses.replace(PLAIN, console=Console.TERMINAL)
    for config in (PLAIN, terminal):
        (console,) = (word for word in values(config, "-chardev") if "id=console" in word)
        assert "logfile=/vms/one/console.log" in console
    assert any(word.startswith("stdio,") and "signal=off" in word for word in values(terminal, "-chardev"))


def test_the_disk_is_attached_as_the_configuration_says() -> None:
    config = dataclasses.replace(PLAIN, disk_kind=DiskKind.AHCI)
    assert "ide-hd,bus=ide.0,drive=disk,bootindex=1" in values(config, "-device")
    assert not [device for device in values(config, "-device") if device.startswith("virtio-blk")]


def test_a_uki_is_handed_to_the_firmware_only_where_it_is_given() -> None:
    config = dataclasses.replace(PLAIN, disk_kind=DiskKind.MEGASAS, uki=Path("/images/uki.efi"))
    assert values(config, "-kernel") == ["/images/uki.efi"]
    assert values(PLAIN, "-kernel") == []


def test_other_disks_come_first_and_are_not_started_from() -> None:
    config = VmConfig(image=Path("/i/disk.raw"), more_disks=(Path("/i/one.raw"), Path("/i/two,x.raw")))
    drives = values(config, "-drive")
    assert [drive.split(",")[1] for drive in drives[-3:]] == ["id=other0", "id=other1", "id=disk"]
    assert "file=/i/two,,x.raw" in drives[-2]
    disks = [device for device in values(config, "-device") if "drive=" in device]
    assert [device.endswith("bootindex=1") for device in disks] == [False, False, True]
