"""The initrd as a file; its tools are played, its packages are small but whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from bedrock.errors import ProcessError
from imagebuild.definition.drivers import Drivers
from imagebuild.definition.initrd import FILES, load_content
from imagebuild.errors import BuildError, RefusedInputError
from imagebuild.inputs.archive import index_path
from imagebuild.inputs.lockfile import Selection
from imagebuild.inputs.supply import store_in
from imagebuild.paths import EPOCH
from imagebuild.steps.initrd.firmware import microcode_files
from imagebuild.steps.initrd.image import make_initrd, make_programs, needed_modules
from imagebuild.steps.products import Half, Initrd, Kernel, PackageTree
from imagebuild.steps.workshop import Workshop
from tests.fakes.debian_packages import ArchiveLink, Content, deb, stored
from tests.fakes.definitions import plan_in, selection_of
from tests.fakes.elf_files import elf_file, sections_file
from tests.fakes.initrd_tools import MAGIC, InitrdTools, read_archive

CONTENT = """\
programs: {busybox: [/usr/bin/busybox], e2fsprogs: [/usr/sbin/e2fsck, /etc/mke2fs.conf]}
libraries: [libname.so.1]
links: {/usr/bin/sh: busybox, /usr/sbin/mkfs.ext4: mke2fs}
applets: [cat, mount]
modules: [dm-verity, erofs]
extras: [sha256-ssse3, i6300esb]
disks:
  NVMe: {set: cloud, devices: ["pci:v0000FFFEbc01sc08i02"]}
  USB storage: {set: server, folders: [drivers/usb/storage/], buses: [usb]}
"""
KERNEL = "6.12"
MODULES = f"usr/lib/modules/{KERNEL}"
LIBRARIES = "/usr/lib/x86_64-linux-gnu"
PACKAGES: Mapping[str, Mapping[str, Content]] = {
    "busybox": {"/usr/bin/busybox": elf_file()},
    "e2fsprogs": {"/usr/sbin/e2fsck": elf_file("libc.so.6"), "/etc/mke2fs.conf": b"[defaults]"},
    "libc6": {
        f"{LIBRARIES}/libc.so.6": elf_file(),
        f"{LIBRARIES}/libname.so.1": elf_file("libc.so.6"),
        f"{LIBRARIES}/ld-linux-x86-64.so.2": elf_file(),
        "/usr/lib64/ld-linux-x86-64.so.2": ArchiveLink("../lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"),
        "/usr/share/doc/libc6/copyright": b"LGPL",
    },
    "podman": {"/usr/bin/podman": elf_file()},
}
FOUND = (
    "kernel/crypto/sha256_ssse3.ko",
    "kernel/drivers/md/dm-mod.ko",
    "kernel/drivers/md/dm-verity.ko",
    "kernel/drivers/nvme/nvme.ko",
    "kernel/drivers/usb/storage/uas.ko",
)
INDEXES = {
    "dep": "".join(f"{name}:{' kernel/drivers/md/dm-mod.ko' * name.endswith('dm-verity.ko')}\n" for name in FOUND),
    "alias": "alias pci:v*bc01sc08i02* nvme\nalias usb:v*ic08* uas\n",
    "builtin": "kernel/fs/erofs/erofs.ko\n",
    "builtin.modinfo": "",
    "order": "",
}


@pytest.fixture(autouse=True)
def small(tmp_path: Path) -> Path:
    """A list of few things instead of our own."""
    path = tmp_path / "initrd.yaml"
    path.write_text(CONTENT)
    return path


@pytest.fixture
def tools(tmp_path: Path) -> InitrdTools:
    return InitrdTools(tmp_path / "tools/abc")


def select(cache: Path, *, changed: str | None = None) -> Selection:
    store = store_in(cache)
    versions = {name: "2" if name == changed else "1" for name in PACKAGES}
    return selection_of(
        *(stored(store, name, deb(name, versions[name], files), versions[name]) for name, files in PACKAGES.items())
    )


def shop_in(folder: Path, tools: InitrdTools, *, changed: str | None = None) -> Workshop:
    """A build next to `cache` whose package tree is made."""
    cache, plan = folder.parent / "cache", plan_in(folder)
    supply = replace(plan.supply, cache=cache, packages=select(cache, changed=changed), tools=tools)
    shop = Workshop(replace(plan, supply=supply), folder / "work", folder / "scratch")
    shop.out.mkdir(parents=True)
    index = index_path(supply.archive, "trixie")
    index.parent.mkdir(parents=True, exist_ok=True)
    index.write_text("\n".join(f"Package: {name}\nDepends: {needs_of(name)}\n" for name in PACKAGES))
    tree = shop.folders.output / "tree"
    for name in FOUND:
        (tree / MODULES / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / MODULES / name).write_text(name)
    for name, text in INDEXES.items():
        (tree / MODULES / f"modules.{name}").write_text(text)
    return shop


def needs_of(name: str) -> str:
    return "" if name == "libc6" else "libc6"


def tree_of(shop: Workshop) -> PackageTree:
    output = shop.folders.output
    microcode = microcode_files(output / "microcode")
    return PackageTree(output / "tree", output / "dpkg", Kernel(KERNEL, output / "vmlinuz"), microcode=microcode)


def list_of(shop: Workshop) -> Path:
    """The list of few things, next to the build."""
    return shop.work.parent.parent / "initrd.yaml"


def programs_of(shop: Workshop) -> Half:
    return make_programs(shop, content_file=list_of(shop))


def initrd_of(shop: Workshop) -> Initrd:
    """Both halves, joined."""
    return make_initrd(shop, tree_of(shop), programs_of(shop), content_file=list_of(shop))


def whole(shop: Workshop) -> bytes:
    return (shop.work / "initrd.cpio.zst").read_bytes()


def test_the_programs_are_a_root_of_their_own(tmp_path: Path, tools: InitrdTools) -> None:
    found = read_archive(programs_of(shop_in(tmp_path / "a", tools)).archive.read_bytes())
    assert {name: row.content for name, row in found.items() if row.is_link} == {
        "bin": "usr/bin",
        "sbin": "usr/sbin",
        "lib": "usr/lib",
        "lib64": "usr/lib64",
        "usr/bin/sh": "busybox",
        "usr/bin/cat": "busybox",
        "usr/bin/mount": "busybox",
        "usr/sbin/mkfs.ext4": "mke2fs",
        "usr/lib64/ld-linux-x86-64.so.2": "../lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
    }
    assert {"dev", "proc", "run", "sys", "sysroot", "tmp", "etc/modprobe.d/watchdog.conf"} <= found.keys()
    assert found["init"].content == (FILES / "init").read_text()
    assert "usr/bin/podman" not in found
    # The kernel makes a folder before what is in it.
    assert list(found) == sorted(found, key=lambda name: Path(name).parts)
    assert {row.time_s for row in found.values()} == {EPOCH}


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("init", 0o755),
        ("usr/bin/busybox", 0o755),
        ("usr/sbin/e2fsck", 0o755),
        ("usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2", 0o755),
        ("usr/lib/x86_64-linux-gnu/libc.so.6", 0o644),
        ("etc/mke2fs.conf", 0o644),
        ("etc/modprobe.d/watchdog.conf", 0o644),
        ("sysroot", 0o755),
        ("usr/lib", 0o755),
    ],
)
def test_modes_are_by_kind(tmp_path: Path, tools: InitrdTools, name: str, mode: int) -> None:
    found = read_archive(programs_of(shop_in(tmp_path / "a", tools)).archive.read_bytes())
    assert found[name].permissions == mode


def test_the_second_half_holds_modules_and_what_busybox_reads_of_them(tmp_path: Path, tools: InitrdTools) -> None:
    shop = shop_in(tmp_path / "a", tools)
    initrd_of(shop)
    (half,) = (shop.plan.cache / "initrd").glob("modules-*")
    found = read_archive((half / "archive.cpio.zst").read_bytes())
    files = {name.removeprefix(f"{MODULES}/") for name, row in found.items() if row.content or "modules." in name}
    assert files == {
        "kernel/crypto/sha256_ssse3.ko",
        "kernel/drivers/md/dm-mod.ko",
        "kernel/drivers/md/dm-verity.ko",
        "kernel/drivers/nvme/nvme.ko",
        "modules.alias",
        "modules.builtin",
        "modules.dep",
    }
    # `lib` is a link of the first half; a folder of that name would replace it.
    assert "lib" not in found
    assert {row.time_s for row in found.values()} == {EPOCH}
    assert found[f"{MODULES}/kernel/drivers/nvme/nvme.ko"].permissions == 0o644


@pytest.mark.parametrize("more", range(4))
def test_the_halves_begin_where_the_kernel_looks_for_them(
    tmp_path: Path, tools: InitrdTools, small: Path, more: int
) -> None:
    # Of names of different length the archives become of different length.
    small.write_text(CONTENT.replace("[cat, mount]", f"[cat, mount{'x' * more}]"))
    shop = shop_in(tmp_path / "a", tools)
    initrd_of(shop)
    (programs,), (modules,) = ((shop.plan.cache / "initrd").glob(f"{half}-*") for half in ("programs", "modules"))
    first, second = ((half / "archive.cpio.zst").read_bytes() for half in (programs, modules))
    start = len(first) + -len(first) % 4
    assert whole(shop)[: len(first)] == first
    assert whole(shop)[len(first) : start] == bytes(start - len(first))
    assert whole(shop)[start:].rstrip(b"\0") == second
    assert len(whole(shop)) % 4 == 0


def test_the_record_tells_of_packages_and_of_every_name(tmp_path: Path, tools: InitrdTools) -> None:
    shop = shop_in(tmp_path / "a", tools)
    made = initrd_of(shop)
    record = made.record
    assert sorted(path.name for path in (record / "info").iterdir()) == [
        "busybox.list",
        "e2fsprogs.list",
        "libc6.list",
    ]
    assert (record / "status").read_text().count("Status: install ok installed\n") == 3
    assert (record / "copyright/libc6").read_text() == "LGPL"
    names = made.names
    assert {"/init", "/usr/sbin/e2fsck", "/bin", f"/{MODULES}/kernel/drivers/nvme/nvme.ko"} <= set(names)
    # Folders are no package's alone.
    assert not {"/usr", "/sysroot", f"/{MODULES}"} & set(names)


def test_equal_halves_are_made_once(tmp_path: Path, tools: InitrdTools) -> None:
    first, second = (shop_in(tmp_path / name, tools) for name in ("a", "b"))
    before = initrd_of(first)
    assert tools.programs_run().count("zstd") == 2
    after = initrd_of(second)
    assert tools.programs_run().count("zstd") == 2
    assert whole(second) == whole(first)
    assert (after.names, after.record) == (before.names, before.record)


def test_nothing_is_left_in_the_working_folder_that_a_build_does_not_need(tmp_path: Path, tools: InitrdTools) -> None:
    shop = shop_in(tmp_path / "a", tools)
    initrd_of(shop)
    assert not [path for path in shop.work.iterdir() if path.is_dir() and path.name.startswith("initrd-p")]
    assert not (shop.work / "initrd-modules").exists()


@pytest.mark.parametrize(("changed", "made"), [("podman", 0), ("libc6", 1), ("busybox", 1)])
def test_the_programs_are_kept_while_packages_change_that_they_do_not_need(
    tmp_path: Path, tools: InitrdTools, changed: str, made: int
) -> None:
    programs_of(shop_in(tmp_path / "a", tools))
    before = tools.programs_run().count("zstd")
    programs_of(shop_in(tmp_path / "b", tools, changed=changed))
    assert tools.programs_run().count("zstd") - before == made


def test_another_list_gives_other_programs(tmp_path: Path, tools: InitrdTools, small: Path) -> None:
    first = programs_of(shop_in(tmp_path / "a", tools))
    small.write_text(CONTENT.replace("[cat, mount]", "[cat]"))
    assert programs_of(shop_in(tmp_path / "b", tools)) != first


def test_another_module_of_the_same_name_gives_another_half(tmp_path: Path, tools: InitrdTools) -> None:
    first, second = (shop_in(tmp_path / name, tools) for name in ("a", "b"))
    initrd_of(first)
    before = tools.programs_run().count("zstd")
    (second.folders.output / "tree" / MODULES / "kernel/drivers/nvme/nvme.ko").write_text("rebuilt")
    initrd_of(second)
    assert tools.programs_run().count("zstd") - before == 1
    assert b"rebuilt" in whole(second)


@pytest.mark.parametrize("program", ["sh", "zstd"])
def test_a_half_that_failed_is_not_kept_and_the_next_build_makes_it(
    tmp_path: Path, tools: InitrdTools, program: str
) -> None:
    tools.fails.append(program)
    with pytest.raises(ProcessError, match=program):
        programs_of(shop_in(tmp_path / "a", tools))
    kept = tmp_path / "cache/initrd"
    assert list(kept.iterdir()) == []
    tools.fails.clear()
    made = programs_of(shop_in(tmp_path / "b", tools))
    assert list(kept.iterdir()) == [made.folder]


def test_modules_that_failed_to_pack_are_not_kept(tmp_path: Path, tools: InitrdTools) -> None:
    tools.fails.append("depmod")
    with pytest.raises(ProcessError, match="depmod"):
        initrd_of(shop_in(tmp_path / "a", tools))
    assert not list((tmp_path / "cache/initrd").glob("*modules-*"))


def test_a_package_that_is_none_is_refused(tmp_path: Path, tools: InitrdTools) -> None:
    shop = shop_in(tmp_path / "a", tools)
    store = store_in(shop.plan.cache)
    others = [each for each in shop.plan.supply.packages.packages if each.name != "busybox"]
    packages = selection_of(*others, stored(store, "busybox", b"noise"))
    index = index_path(shop.plan.supply.archive, "trixie").read_text()
    shop = replace(shop, plan=replace(shop.plan, supply=replace(shop.plan.supply, packages=packages)))
    index_path(shop.plan.supply.archive, "trixie").parent.mkdir(parents=True)
    index_path(shop.plan.supply.archive, "trixie").write_text(index)
    with pytest.raises(RefusedInputError, match="busybox 1 is not a Debian package"):
        programs_of(shop)


def test_a_module_that_the_image_lacks_is_told_with_what_can_be_done(tmp_path: Path, tools: InitrdTools) -> None:
    shop = shop_in(tmp_path / "a", tools)
    index = shop.folders.output / "tree" / MODULES / "modules.dep"
    index.write_text(index.read_text().replace("dm-verity", "dm-crypt"))
    with pytest.raises(BuildError, match="that the image lacks: dm_verity") as caught:
        initrd_of(shop)
    assert "drop_modules" in caught.value.hints[0]


def test_the_definition_says_which_drivers_come_along(tmp_path: Path, tools: InitrdTools, small: Path) -> None:
    shop = shop_in(tmp_path / "a", tools)
    tree = tree_of(shop)
    content = load_content(small)
    cloud, server = (needed_modules(tree, content, drivers) for drivers in (Drivers.CLOUD, Drivers.SERVER))
    assert cloud == tuple(f"{MODULES}/{name}" for name in FOUND if "usb" not in name)
    assert server == tuple(f"{MODULES}/{name}" for name in FOUND)
    definition = replace(shop.plan.definition, kernel="linux-image-amd64", drivers=Drivers.SERVER)
    made = initrd_of(replace(shop, plan=replace(shop.plan, definition=definition)))
    assert f"/{MODULES}/kernel/drivers/usb/storage/uas.ko" in made.names


def test_firmware_comes_with_the_module_that_asks_for_it(tmp_path: Path, tools: InitrdTools) -> None:
    shop = shop_in(tmp_path / "a", tools)
    tree = shop.folders.output / "tree"
    module = sections_file({".modinfo": b"license=GPL\0firmware=nvme/one.bin\0firmware=nvme/not-there.bin\0"})
    (tree / MODULES / "kernel/drivers/nvme/nvme.ko").write_bytes(module)
    (tree / "usr/lib/firmware/nvme").mkdir(parents=True)
    for name in ("one.bin", "of-another-module.bin"):
        (tree / "usr/lib/firmware/nvme" / name).write_text("firmware")
    names = initrd_of(shop).names
    assert [name for name in names if "/firmware/" in name] == ["/usr/lib/firmware/nvme/one.bin"]


def test_microcode_is_the_front_of_the_initrd_and_is_not_compressed(tmp_path: Path, tools: InitrdTools) -> None:
    shop = shop_in(tmp_path / "a", tools)
    for name, text in (("intel-ucode/06-55-04", "one"), ("intel-ucode/06-8f-08", "two"), ("amd-ucode/a.bin", "three")):
        path = shop.folders.output / "microcode" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    names = initrd_of(shop).names
    (early,) = (shop.plan.cache / "initrd").glob("microcode-*")
    archive = (early / "archive.cpio.zst").read_bytes()
    assert not archive.startswith(MAGIC)
    assert whole(shop).startswith(archive)
    found = read_archive(archive)
    place = "kernel/x86/microcode"
    assert found[f"{place}/GenuineIntel.bin"].content == "onetwo"
    assert found[f"{place}/AuthenticAMD.bin"].content == "three"
    assert names[:2] == ("/usr/lib/firmware/intel-ucode/06-55-04", "/usr/lib/firmware/intel-ucode/06-8f-08")


def test_an_initrd_without_microcode_begins_with_the_programs(tmp_path: Path, tools: InitrdTools) -> None:
    shop = shop_in(tmp_path / "a", tools)
    initrd_of(shop)
    assert whole(shop).startswith(MAGIC)
    assert not list((shop.plan.cache / "initrd").glob("microcode-*"))
