from __future__ import annotations

import lzma

import pytest
import zstandard

from imagebuild.content.kernel import module_problems, unknown_settings, unpacked_kernel

DEP = "kernel/net/bridge/br_netfilter.ko: kernel/net/bridge/bridge.ko\nkernel/net/bridge/bridge.ko.xz:\n"
KERNEL = b"\x7fELF Linux version 6.12 \0ip_forward\0rp_filter\0"


def test_modules_are_known_by_file_by_being_built_in_and_by_alias() -> None:
    builtin, aliases = "kernel/fs/ext4/ext4.ko\n", "alias fs-nfs nfs\nalias pci:v*d* x\n"
    wanted = ("br-netfilter", "bridge", "ext4", "fs-nfs")
    assert module_problems(wanted, dep=DEP, builtin=builtin, aliases=aliases) == ()


def test_a_module_that_is_not_there_is_named_with_what_is_near() -> None:
    (problem,) = module_problems(["br_netfiltr"], dep=DEP, builtin="", aliases="")
    assert problem.startswith("modules[0]: the image has no kernel module br_netfiltr (near it are br_netfilter)")


@pytest.mark.parametrize("pack", [zstandard.compress, lambda data: lzma.compress(data, check=lzma.CHECK_CRC32)])
def test_the_kernel_is_found_in_its_bootable_image(pack) -> None:  # type: ignore[no-untyped-def] # noqa: ANN001
    image = b"MZ\x28\xb5\x2f\xfd not a frame" + pack(KERNEL) + b"\0 setup and more"
    assert unpacked_kernel(image) == KERNEL


def test_a_kernel_that_is_packed_otherwise_is_not_looked_into() -> None:
    assert unpacked_kernel(b"MZ" + bytes(100)) is None


def test_a_setting_is_known_by_its_last_part() -> None:
    names = ("net.ipv4.ip_forward", "net/ipv4/conf/all/rp_filter", "net.ipv4.ip_forwad")
    assert unknown_settings(names, KERNEL) == {"net.ipv4.ip_forwad": "ip_forwad"}
