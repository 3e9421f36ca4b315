"""Turns a machine's configuration into QEMU's arguments: pure, so that every decision can be read and tested.

Notable decisions:
  - Secure Boot is only enforced if the guest cannot bypass the firmware to write its variables, which needs System
  Management Mode; so the Secure Boot firmware comes with `smm=on` and locked flash.
- The network card has no option ROM: OVMF would try network boot for minutes before it gives up.
- Flushes of the guest reach the image file unless a caller disables this, so that its durable writes are durable.
"""

from __future__ import annotations

from pathlib import Path

from imagebuild.vm.config import Accelerator, Carrier, Console, DiskFormat, VmConfig, VmPaths
from imagebuild.vm.disks import disk_devices

QEMU = "qemu-system-x86_64"
FIRMWARE_FOLDER = Path("/usr/share/OVMF")
FIRMWARE_CODE = "OVMF_CODE_4M.fd"
FIRMWARE_CODE_SECURE = "OVMF_CODE_4M.secboot.fd"
FIRMWARE_VARIABLES = "OVMF_VARS_4M.fd"
GUEST_PORT = "twinhull.guest"
AGENT_PORT = "org.qemu.guest_agent.0"
UNPLUGGED = "unplugged"
# The translation cache in MiB: with QEMU's default a booting guest flushes it over and over.
_TRANSLATION_CACHE_MIB = 1024


def qemu_arguments(config: VmConfig, paths: VmPaths, accelerator: Accelerator) -> list[str]:
    """The whole command line of a machine."""
    return [
        QEMU,
        "-name",
        "twinhull",
        "-nodefaults",
        "-no-user-config",
        *("-display", "none"),
        *machine_arguments(accelerator, secure=config.certificates is not None),
        *("-m", str(config.memory_mib), "-smp", str(config.cpus)),
        *firmware_arguments(paths.nvram, secure=config.certificates is not None),
        *_disk(config, paths),
        *_network(config),
        *_console(config, paths),
        *(
            "-chardev",
            f"socket,id=qmp,path={_escaped(paths.qmp)},server=on,wait=off",
            "-mon",
            "chardev=qmp,mode=control",
        ),
        *("-object", "rng-random,id=rng,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=rng"),
        *("-device", "i6300esb", "-action", "watchdog=reset"),
        *_guest_ports(config, paths),
        *_tpm(config, paths),
        *_credentials(config),
    ]


def machine_arguments(accelerator: Accelerator, *, secure: bool) -> list[str]:
    """The board, the accelerator and the processor."""
    words = ["-machine", f"q35,smm={'on' if secure else 'off'},vmport=off"]
    # Sleep states would make the firmware keep a boot script in memory that Secure Boot then has to protect.
    words += ["-global", "ICH9-LPC.disable_s3=1"]
    if accelerator is Accelerator.KVM:
        return [*words, "-accel", "kvm", "-cpu", "host"]
    return [*words, "-accel", f"tcg,thread=multi,tb-size={_TRANSLATION_CACHE_MIB}", "-cpu", "max"]


def firmware_arguments(variables: Path, *, secure: bool) -> list[str]:
    """The firmware's code (read-only) and its variables."""
    code = FIRMWARE_FOLDER / (FIRMWARE_CODE_SECURE if secure else FIRMWARE_CODE)
    words = ["-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={code}"]
    words += ["-drive", f"if=pflash,unit=1,format=raw,file={_escaped(variables)}"]
    if secure:
        words += ["-global", "driver=cfi.pflash01,property=secure,value=on"]
    return words


def _disk(config: VmConfig, paths: VmPaths) -> list[str]:
    path, kind = (paths.overlay, DiskFormat.QCOW2) if config.snapshot else (config.image, config.image_format)
    file = f"format={kind.value},file={_escaped(path)}"
    logging: list[str] = []
    if config.write_log is not None:
        # Each request goes to the log and to the image.
        file = f"driver=blklogwrites,file.driver=raw,file.file.driver=file,file.file.filename={_escaped(path)}"
        file += f",log.driver=file,log.filename={_escaped(config.write_log)}"
        # Joined requests have as many pieces as a system call takes, and the log adds one: the guest saw an error.
        logging = ["-global", "virtio-blk-device.request-merging=off"]
    drive = f"if=none,id=disk,{file},cache={config.disk_cache.value},discard=unmap"
    # OVMF also checks the signature of a kernel that QEMU passes to it.
    kernel = [] if config.uki is None else ["-kernel", str(config.uki)]
    others = [word for number, path in enumerate(config.more_disks) for word in _other_disk(number, path)]
    disk = [*logging, "-drive", drive, *disk_devices(config.disk_kind, "disk")]
    return [*others, *disk, *kernel, "-boot", "strict=on"]


def _other_disk(number: int, path: Path) -> tuple[str, ...]:
    """A disk that nothing is started from."""
    drive = f"if=none,id=other{number},format=raw,file={_escaped(path)},cache=writeback,discard=unmap"
    return "-drive", drive, "-device", f"virtio-blk-pci,drive=other{number}"


def _network(config: VmConfig) -> list[str]:
    forwards = "".join(f",hostfwd=tcp:127.0.0.1:{pair.host}-:{pair.guest}" for pair in config.forwards)
    words = ["-netdev", f"user,id=net{forwards}", "-device", "virtio-net-pci,netdev=net,romfile="]
    if config.unplugged_card:
        words += ["-netdev", f"user,id={UNPLUGGED},restrict=on"]
        words += ["-device", f"virtio-net-pci,netdev={UNPLUGGED},id={UNPLUGGED},romfile="]
    return words


def _console(config: VmConfig, paths: VmPaths) -> list[str]:
    log = f"logfile={_escaped(paths.console_log)},logappend=on"
    if config.console is Console.TERMINAL:
        # `mux` puts QEMU's own keys (Ctrl-a x quits) before the guest's; without `signal=off` Ctrl-C would end the VM.
        backend = f"stdio,id=console,mux=on,signal=off,{log}"
        return ["-chardev", backend, "-serial", "chardev:console", "-mon", "chardev=console,mode=readline"]
    backend = f"socket,id=console,path={_escaped(paths.console)},server=on,wait=off,{log}"
    return ["-chardev", backend, "-serial", "chardev:console"]


def _guest_ports(config: VmConfig, paths: VmPaths) -> list[str]:
    ports = [("guest", paths.guest, GUEST_PORT)] if config.guest_shell else []
    ports += [("agent", paths.guest_agent, AGENT_PORT)] if config.guest_agent else []
    words = ["-device", "virtio-serial-pci"] if ports else []
    for name, path, port in ports:
        words += ["-chardev", f"socket,id={name},path={_escaped(path)},server=on,wait=off"]
        words += ["-device", f"virtserialport,chardev={name},name={port}"]
    return words


def _tpm(config: VmConfig, paths: VmPaths) -> list[str]:
    if not config.tpm:
        return []
    words = ["-chardev", f"socket,id=tpm,path={_escaped(paths.tpm)}"]
    return [*words, "-tpmdev", "emulator,id=tpm0,chardev=tpm", "-device", "tpm-crb,tpmdev=tpm0"]


def _credentials(config: VmConfig) -> list[str]:
    words: list[str] = []
    for credential in config.credentials:
        if credential.carrier is Carrier.FW_CFG:
            text = credential.value.decode(errors="surrogateescape")
            words += ["-fw_cfg", f"name={credential.fw_cfg_name},string={_escaped(text)}"]
        else:
            words += ["-smbios", f"type=11,value={credential.smbios_string}"]
    for text in config.smbios_strings:
        words += ["-smbios", f"type=11,value={_escaped(text)}"]
    return words


def _escaped(value: Path | str) -> str:
    """A path or text inside a comma-separated option: QEMU reads `,,` as one comma."""
    return str(value).replace(",", ",,")
