from __future__ import annotations

import base64
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagebuild.vm.config import Carrier, Credential, DiskFormat, Forward, VmConfig
from imagebuild.vm.disks import DiskKind

IMAGE = Path("/images/disk.raw")


def test_a_forward_is_read_from_text() -> None:
    assert Forward.from_text("8080:80") == Forward(8080, 80)


def test_host_port_zero_asks_for_any_port() -> None:
    assert Forward.from_text("0:22") == Forward(0, 22)


@pytest.mark.parametrize(
    "text", ["", "80", "80:", ":80", "a:b", "80:0", "65536:1", "1:65536", "-1:5", "1:2:3", "8 0:1"]
)
def test_what_is_no_forward_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="HOST:GUEST"):
        Forward.from_text(text)


@given(host=st.integers(0, 65535), guest=st.integers(1, 65535))
def test_every_pair_of_ports_is_read_back(host: int, guest: int) -> None:
    assert Forward.from_text(f"{host}:{guest}") == Forward(host, guest)


def test_a_credential_keeps_every_equals_sign_of_its_value() -> None:
    assert Credential.from_text("a.b=c=d") == Credential("a.b", b"c=d")


@pytest.mark.parametrize("text", ["", "name", "=value", "a/b=c", "../x=y", "a b=c"])
def test_what_is_no_credential_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"NAME=VALUE|credential name"):
        Credential.from_text(text)


def test_a_credential_too_large_for_the_firmware_is_refused() -> None:
    with pytest.raises(ValueError, match="bytes"):
        Credential("big", bytes(1 << 20))


@pytest.mark.parametrize(("name", "value"), [("a.b", b"x\0y"), ("a" * 29, b"x")])
def test_what_fw_cfg_cannot_carry_is_refused(name: str, value: bytes) -> None:
    with pytest.raises(ValueError, match="fw_cfg"):
        Credential(name, value, Carrier.FW_CFG)
    assert Credential(name, value).carrier is Carrier.SMBIOS


@given(value=st.binary(max_size=300))
def test_any_bytes_travel_as_an_smbios_string(value: bytes) -> None:
    text = Credential("twinhull.updater", value).smbios_string
    prefix, _, encoded = text.partition("twinhull.updater=")
    assert prefix == "io.systemd.credential.binary:"
    assert base64.b64decode(encoded, validate=True) == value
    assert "," not in text


def test_an_image_is_raw_unless_its_name_says_qcow2() -> None:
    assert VmConfig(IMAGE).image_format is DiskFormat.RAW
    assert VmConfig(Path("disk.qcow2")).image_format is DiskFormat.QCOW2


def test_a_machine_with_too_little_memory_is_refused() -> None:
    with pytest.raises(ValueError, match="MiB"):
        VmConfig(IMAGE, memory_mib=64)


def test_a_machine_without_processors_is_refused() -> None:
    with pytest.raises(ValueError, match="processors"):
        VmConfig(IMAGE, cpus=0)


def test_a_disk_that_the_firmware_cannot_read_needs_a_uki() -> None:
    with pytest.raises(ValueError, match="no driver for a megasas disk"):
        VmConfig(Path("disk.raw"), disk_kind=DiskKind.MEGASAS)
    assert VmConfig(Path("disk.raw"), disk_kind=DiskKind.MEGASAS, uki=Path("uki.efi")).uki is not None


def test_a_disk_written_in_place_is_not_enlarged() -> None:
    with pytest.raises(ValueError, match="snapshot"):
        VmConfig(IMAGE, snapshot=False, disk_bytes=1 << 30)


@pytest.mark.parametrize(("image", "snapshot"), [(IMAGE, True), (Path("disk.qcow2"), False)])
def test_only_writes_to_a_raw_image_are_logged(image: Path, *, snapshot: bool) -> None:
    with pytest.raises(ValueError, match="write_log needs snapshot=False"):
        VmConfig(image, snapshot=snapshot, write_log=Path("writes.log"))


def test_a_credential_given_twice_is_refused() -> None:
    with pytest.raises(ValueError, match=r"twice: a\.b"):
        VmConfig(IMAGE, credentials=(Credential("a.b", b"1"), Credential("a.b", b"2")))
