from __future__ import annotations

from pathlib import Path

import pytest

from imagebuild.errors import BuildError
from imagebuild.steps.initrd.firmware import firmware_of, microcode_files
from tests.fakes.elf_files import sections_file

FIRMWARE = "usr/lib/firmware"


def module(tree: Path, name: str, *firmware: str) -> str:
    fields = "".join(f"firmware={each}\0" for each in firmware)
    (tree / name).write_bytes(sections_file({".modinfo": f"alias=pci:v1\0{fields}".encode()}))
    return name


def have(tree: Path, *names: str) -> None:
    for name in names:
        (tree / FIRMWARE / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / FIRMWARE / name).write_text(name)


def test_what_modules_ask_for_and_the_tree_has_is_found_once(tmp_path: Path) -> None:
    have(tmp_path, "ql2500_fw.bin", "other.bin")
    names = [module(tmp_path, "a.ko", "ql2500_fw.bin", "ql2400_fw.bin"), module(tmp_path, "b.ko", "ql2500_fw.bin")]
    assert firmware_of(tmp_path, names) == (f"{FIRMWARE}/ql2500_fw.bin",)


@pytest.mark.parametrize("end", [".xz", ".zst"])
def test_firmware_that_the_kernel_unpacks_itself_is_found_too(tmp_path: Path, end: str) -> None:
    have(tmp_path, f"isci/isci_firmware.bin{end}")
    names = [module(tmp_path, "isci.ko", "isci/isci_firmware.bin")]
    assert firmware_of(tmp_path, names) == (f"{FIRMWARE}/isci/isci_firmware.bin{end}",)


def test_a_module_that_asks_for_nothing_or_is_no_elf_has_none(tmp_path: Path) -> None:
    (tmp_path / "text.ko").write_text("no module")
    assert firmware_of(tmp_path, [module(tmp_path, "a.ko"), "text.ko"]) == ()


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    have(tmp_path, "one.bin")
    (tmp_path / FIRMWARE / "two.bin").symlink_to("one.bin")
    (tmp_path / FIRMWARE / "three.bin").symlink_to("../../../secret")
    assert firmware_of(tmp_path, [module(tmp_path, "a.ko", "two.bin")]) == (f"{FIRMWARE}/two.bin",)
    for name in ("three.bin", "../../../secret"):
        with pytest.raises(BuildError, match="leads out of"):
            firmware_of(tmp_path, [module(tmp_path, "a.ko", name)])


def test_a_damaged_module_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.ko").write_bytes(sections_file({".modinfo": b"x"})[:-10])
    with pytest.raises(BuildError, match=r"bad\.ko cannot be read"):
        firmware_of(tmp_path, ["bad.ko"])


def test_microcode_is_put_together_by_vendor_in_order_without_signatures(tmp_path: Path) -> None:
    assert microcode_files(tmp_path) == {}
    for name in ("intel-ucode/06-55-04", "intel-ucode/06-4f-01.initramfs", "amd-ucode/b.bin", "amd-ucode/b.bin.asc"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = {str(place): [path.name for path in parts] for place, parts in microcode_files(tmp_path).items()}
    assert found == {
        "kernel/x86/microcode/GenuineIntel.bin": ["06-4f-01.initramfs", "06-55-04"],
        "kernel/x86/microcode/AuthenticAMD.bin": ["b.bin"],
    }
