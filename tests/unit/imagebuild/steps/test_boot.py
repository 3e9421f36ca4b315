from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization.pkcs7 import load_der_pkcs7_certificates

from bedrock.digest import file_sha256
from imagebuild.definition.reset import RESET_ARGUMENT, ResetPolicy
from imagebuild.definition.sbat import GENERATION
from imagebuild.errors import SpaceError
from imagebuild.steps import boot
from imagebuild.steps.disk import make_disk
from imagebuild.steps.products import BootPrograms, Initrd, Kernel, PackageTree, RootImage
from imagebuild.steps.signing import GivenSignatures, KeySource, SignatureSource
from imagebuild.steps.workshop import Workshop
from keys.certificates import read_certificate
from keys.errors import BadKeyError, PeFormatError
from keys.roles import BootRole
from keys.secureboot import measured
from keys.secureboot.pe import authenticode_digest, signatures_of
from partitions import kept_uki
from partitions.blockio import DeviceWindow, FileBlockDevice
from partitions.disk import find_slots, read_table
from partitions.layout import root_types, verity_size_for
from tests.fakes.definitions import plan_in
from tests.fakes.pe_files import pe_file, uki_file
from tests.fakes.played_tools import PlayedTools
from tests.fakes.signed_builds import DiskTools
from tests.fakes.ukis import unsigned_uki
from updater.documents.signatures import parse_signatures
from updater.documents.slot_layout import BoundPartition, parse_layout

ROOT_HASH = "ef" * 32


@pytest.fixture
def shop(tmp_path: Path) -> Workshop:
    tools = DiskTools(tmp_path / "tools/abc")
    loader = tools.root / "usr/lib/systemd/boot/efi/systemd-bootx64.efi"
    loader.parent.mkdir(parents=True)
    loader.write_bytes(pe_file(b"loader"))
    plan = plan_in(tmp_path)
    made = Workshop(replace(plan, supply=replace(plan.supply, tools=tools)), tmp_path / "work", tmp_path / "scratch")
    for folder in (made.out, made.config, made.folders.output):
        folder.mkdir(parents=True)
    (made.work / "unsigned.efi").write_bytes(unsigned_uki(made.plan))
    for name in ("root.erofs", "root.verity"):
        (made.out / name).write_bytes(b"x")
    (made.out / "uki.efi").write_bytes(uki_file(ROOT_HASH, "host", "1.0.0"))
    return made


def tree_of(shop: Workshop) -> PackageTree:
    output = shop.folders.output
    return PackageTree(output / "tree", output / "dpkg", Kernel("6.12", output / "vmlinuz"))


def root_of(shop: Workshop) -> RootImage:
    return RootImage(ROOT_HASH, shop.out / "root.erofs", shop.out / "root.verity")


def signed(shop: Workshop, loader: bytes = b"x") -> BootPrograms:
    """As if both were signed."""
    made = BootPrograms(shop.out / "uki.efi", shop.work / "loader.signed.efi")
    made.loader.write_bytes(loader)
    return made


def with_signatures(shop: Workshop, source: SignatureSource) -> Workshop:
    return replace(shop, plan=replace(shop.plan, signatures=source))


def played(shop: Workshop) -> PlayedTools:
    assert isinstance(shop.tools, PlayedTools)
    return shop.tools


def test_the_uki_carries_the_root_hash(shop: Workshop) -> None:
    initrd = Initrd(shop.work / "initrd.cpio.zst", shop.work, ())
    assert boot.make_uki(shop, tree_of(shop), initrd, root_of(shop)) == shop.work / "unsigned.efi"
    assert (shop.config / "cmdline").read_text().startswith(f"roothash={ROOT_HASH} ")
    assert f"--cmdline=@{shop.config / 'cmdline'}" in played(shop).ran[0]
    assert "--uname=6.12" in played(shop).ran[0]


def test_the_uki_carries_a_generation_of_its_own(shop: Workshop) -> None:
    boot.make_uki(shop, tree_of(shop), Initrd(shop.work / "initrd.cpio.zst", shop.work, ()), root_of(shop))
    assert f"--sbat=@{shop.config / 'sbat.csv'}" in played(shop).ran[0]
    lines = (shop.config / "sbat.csv").read_text().splitlines()
    assert lines[-1] == f"twinhull,{GENERATION},Twinhull,twinhull,{GENERATION},urn:twinhull"
    assert {line.count(",") for line in lines} == {5}


def test_uki_and_loader_are_signed_by_db_and_no_program_sees_the_key(shop: Workshop) -> None:
    made = boot.sign(shop, shop.work / "unsigned.efi")
    assert isinstance(shop.plan.signatures, KeySource)
    db = read_certificate(shop.plan.signatures.keyring.boot_key(BootRole.DB).certificate)
    for path in (made.uki, made.loader):
        (signature,) = signatures_of(path)
        assert load_der_pkcs7_certificates(signature) == [db]
        assert authenticode_digest(path) in signature
    assert not played(shop).calls
    assert sorted(path.name for path in (shop.out / "certificates").iterdir()) == [
        "KEK.pem",
        "PK.pem",
        "db.pem",
        "pcr.pem",
    ]
    assert b"PRIVATE" not in b"".join(path.read_bytes() for path in (shop.out / "certificates").iterdir())


def test_signatures_lie_beside_what_they_were_made_for(shop: Workshop) -> None:
    unsigned = shop.work / "unsigned.efi"
    boot.sign(shop, unsigned)
    document = parse_signatures((shop.out / "signatures.json").read_bytes(), source="signatures.json")
    assert document.files["uki.efi"].unsigned_sha256 == file_sha256(unsigned)
    assert {phase: each.content for phase, each in document.measured.items()} == measured.signatures_in(unsigned)
    assert signatures_of(shop.out / "uki.efi") == (document.files["uki.efi"].der,)
    assert signatures_of(shop.work / "loader.signed.efi") == (document.files["loader.efi"].der,)


def test_given_signatures_need_no_key_and_make_the_same_files(shop: Workshop) -> None:
    boot.sign(shop, shop.work / "unsigned.efi")
    uki, document = (shop.out / "uki.efi").read_bytes(), (shop.out / "signatures.json").read_bytes()
    shutil.rmtree(shop.out / "certificates")
    (shop.out / "uki.efi").unlink()
    given = GivenSignatures(parse_signatures(document, source="signatures.json"))
    (shop.work / "unsigned.efi").write_bytes(unsigned_uki(shop.plan))
    boot.sign(with_signatures(shop, given), shop.work / "unsigned.efi")
    assert (shop.out / "uki.efi").read_bytes() == uki
    assert (shop.out / "signatures.json").read_bytes() == document


def test_given_signatures_of_another_uki_are_refused(shop: Workshop) -> None:
    boot.sign(shop, shop.work / "unsigned.efi")
    document = (shop.out / "signatures.json").read_bytes()
    shutil.rmtree(shop.out / "certificates")
    (shop.work / "unsigned.efi").write_bytes(unsigned_uki(shop.plan, b"another kernel"))
    given = GivenSignatures(parse_signatures(document, source="signatures.json"))
    with pytest.raises(BadKeyError, match=r"the signature of the policy [0-9a-f]{64} does not hold"):
        boot.sign(with_signatures(shop, given), shop.work / "unsigned.efi")


def test_the_uki_carries_the_key_for_its_measured_boot_and_room_for_the_signatures(shop: Workshop) -> None:
    (words,) = joined(shop)
    assert f"--pcrpkey={shop.config / 'pcr.pem'}" in words
    assert f"--section=.pcrsig:@{shop.config / 'pcr.json'}" in words
    assert b"BEGIN PUBLIC KEY" in (shop.config / "pcr.pem").read_bytes()


def test_what_is_not_a_program_is_not_signed(shop: Workshop) -> None:
    (shop.work / "unsigned.efi").write_bytes(b"text")
    with pytest.raises(PeFormatError, match=r"unsigned\.efi is not a program"):
        boot.sign(shop, shop.work / "unsigned.efi")


def test_the_first_entry_is_blessed_and_the_loader_lies_where_firmware_looks(shop: Workshop) -> None:
    make_disk(shop, root_of(shop), signed(shop, b"signed loader"))
    source = shop.work / "disk"
    assert [path.name for path in (source / "xbootldr/EFI/Linux").iterdir()] == ["host_1.0.0.efi"]
    assert (source / "esp/EFI/BOOT/BOOTX64.EFI").read_bytes() == b"signed loader"
    assert [words[0] for words in played(shop).ran] == ["systemd-repart", "qemu-img"]


def test_the_second_loader_lies_on_the_boot_partition_and_starts_the_only_entry(shop: Workshop) -> None:
    make_disk(shop, root_of(shop), signed(shop, b"signed loader"))
    boot_partition = shop.work / "disk/xbootldr"
    assert (boot_partition / "EFI/BOOT/BOOTX64.EFI").read_bytes() == b"signed loader"
    conf = (boot_partition / "loader/loader.conf").read_bytes()
    assert len(conf) == 512
    assert b"default host_1.0.0[" in conf


def test_the_slot_keeps_a_copy_of_its_uki(shop: Workshop) -> None:
    disk = make_disk(shop, root_of(shop), signed(shop)).raw
    with FileBlockDevice.open(disk, writable=False) as device:
        part = find_slots(read_table(device), root_types("x86-64")).a.data
        partition = DeviceWindow(device, part.offset_bytes, part.size_bytes)
        kept = kept_uki.read_record(partition)
        kept_uki.check(partition, kept)
    assert (kept.root_hash, kept.sha256) == (ROOT_HASH, file_sha256(shop.out / "uki.efi"))


def test_a_root_and_its_uki_that_do_not_fit_are_refused(shop: Workshop) -> None:
    with (shop.out / "root.erofs").open("r+b") as root:
        root.truncate(512 << 20)
    with pytest.raises(SpaceError, match=r"slots\.root"):
        make_disk(shop, root_of(shop), signed(shop))


def test_two_ukis_that_do_not_fit_are_refused(shop: Workshop) -> None:
    with (shop.out / "uki.efi").open("r+b") as uki:
        uki.truncate(300 << 20)
    with pytest.raises(SpaceError, match=r"slots\.boot"):
        make_disk(shop, root_of(shop), signed(shop))


def test_the_build_records_the_sizes_its_disk_was_made_with(shop: Workshop) -> None:
    make_disk(shop, root_of(shop), signed(shop))
    slots = parse_layout((shop.out / "layout.json").read_bytes(), source="layout.json")
    assert (slots.image, slots.architecture.value) == ("host", "x86-64")
    assert [slots.room(part) for part in BoundPartition] == [512 << 20, verity_size_for(512 << 20), 512 << 20]


def joined(shop: Workshop) -> list[list[str]]:
    """The calls of ukify that make a UKI."""
    tools = shop.tools
    assert isinstance(tools, PlayedTools)
    initrd = Initrd(shop.work / "initrd", shop.work / "record", ())
    boot.make_uki(shop, tree_of(shop), initrd, root_of(shop))
    return [words for words in tools.ran if words[0].endswith("ukify")]


def test_a_uki_has_one_profile_unless_a_rescue_entry_is_asked_for(shop: Workshop) -> None:
    (words,) = joined(shop)
    assert not any(word.startswith(("--profile", "--join-profile")) for word in words)


def test_the_rescue_entry_is_the_second_profile_of_the_same_uki(shop: Workshop) -> None:
    definition = replace(shop.plan.definition, rescue=True)
    rescued = replace(shop, plan=replace(shop.plan, definition=definition))
    profile, whole = joined(rescued)
    assert "--profile=ID=rescue\nTITLE=rescue: a root shell on the console" in profile
    assert not any(word.startswith("--linux=") for word in profile)
    assert "--profile=ID=main" in whole
    assert f"--join-profile={rescued.work / 'rescue.profile.efi'}" in whole
    main, rescue = ((rescued.config / name).read_text().split() for name in ("cmdline", "cmdline.rescue"))
    assert rescue == [*main[:-1], "systemd.unit=rescue.target", "--"]


def test_the_reset_entry_asks_by_a_command_line_of_its_own(shop: Workshop) -> None:
    definition = replace(shop.plan.definition, reset=ResetPolicy(boot_menu=True))
    resettable = replace(shop, plan=replace(shop.plan, definition=definition))
    profile, whole = joined(resettable)
    assert "--profile=ID=reset\nTITLE=factory reset: everything that this host keeps is lost" in profile
    assert "--profile=ID=main" in whole
    assert f"--join-profile={resettable.work / 'reset.profile.efi'}" in whole
    main, reset = ((resettable.config / name).read_text().split() for name in ("cmdline", "cmdline.reset"))
    assert reset == [*main[:-1], RESET_ARGUMENT, "--"]
