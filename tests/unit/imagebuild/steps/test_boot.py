from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from bedrock.process import Finished
from imagebuild.errors import BuildError, SpaceError
from imagebuild.steps import boot
from imagebuild.steps.products import Initrd, Kernel, PackageTree, RootImage, SignedBoot
from imagebuild.steps.signing import GivenSignatures, KeySource, SignatureSource
from imagebuild.steps.workshop import Workshop
from keys.certificates import read_certificate
from keys.roles import BootRole
from partitions.layout import verity_size_for
from tests.fakes.definitions import plan_in
from tests.fakes.played_tools import Call, PlayedTools
from updater.documents.signatures import parse_signatures
from updater.documents.slot_layout import BoundPartition, parse_layout

ROOT_HASH = "ef" * 32


@dataclass(frozen=True)
class SigningTools(PlayedTools):
    """Writes what `--output` names; `silent` writes nothing."""

    silent: bool = False

    def play(self, call: Call) -> Finished:
        words = call.words
        if "--output" in words and not self.silent:
            Path(words[words.index("--output") + 1]).write_bytes(b"signature")
        if words[0] == "sbattach":
            signature, target = map(Path, words[-2:])
            target.write_bytes(target.read_bytes() + b"+" + signature.read_bytes())
        return call.end()


@pytest.fixture
def shop(tmp_path: Path) -> Workshop:
    tools = SigningTools(tmp_path / "tools/abc")
    loader = tools.root / "usr/lib/systemd/boot/efi/systemd-bootx64.efi"
    loader.parent.mkdir(parents=True)
    loader.write_bytes(b"loader")
    plan = plan_in(tmp_path)
    made = Workshop(replace(plan, supply=replace(plan.supply, tools=tools)), tmp_path / "work", tmp_path / "scratch")
    for folder in (made.out, made.config, made.folders.output):
        folder.mkdir(parents=True)
    (made.work / "unsigned.efi").write_bytes(b"unsigned")
    for name in ("root.erofs", "root.verity", "uki.efi"):
        (made.out / name).write_bytes(b"x")
    return made


def tree_of(shop: Workshop) -> PackageTree:
    output = shop.folders.output
    return PackageTree(output / "tree", output / "dpkg", Kernel("6.12", output / "vmlinuz"))


def root_of(shop: Workshop) -> RootImage:
    return RootImage(ROOT_HASH, shop.out / "root.erofs", shop.out / "root.verity")


def signed(shop: Workshop, loader: bytes = b"x") -> SignedBoot:
    """As if both were signed."""
    made = SignedBoot(shop.out / "uki.efi", shop.work / "loader.signed.efi")
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


def test_uki_and_loader_are_signed_by_db_and_only_the_keys_folder_is_shown(shop: Workshop) -> None:
    boot.sign(shop, shop.work / "unsigned.efi")
    assert isinstance(shop.plan.signatures, KeySource)
    keys = shop.plan.signatures.keyring.folder
    signing = [words for words in played(shop).ran if "sbsign" in words]
    assert [words[words.index("--key") + 1] for words in signing] == [str(keys / "db.pem")] * 2
    assert [call.access.read for call in played(shop).calls if keys in call.access.read] == [(keys,)] * 2
    assert not any(call.access.network for call in played(shop).calls)
    assert sorted(path.name for path in (shop.out / "certificates").iterdir()) == ["KEK.pem", "PK.pem", "db.pem"]
    assert b"PRIVATE" not in b"".join(path.read_bytes() for path in (shop.out / "certificates").iterdir())


def test_signatures_lie_beside_what_they_were_made_for(shop: Workshop) -> None:
    boot.sign(shop, shop.work / "unsigned.efi")
    document = parse_signatures((shop.out / "signatures.json").read_bytes(), source="signatures.json")
    assert document.files["uki.efi"].der == b"signature"
    assert document.files["uki.efi"].unsigned_sha256 == hashlib.sha256(b"unsigned").hexdigest()
    assert (shop.out / "uki.efi").read_bytes() == b"unsigned+signature"
    assert (shop.work / "loader.signed.efi").read_bytes() == b"loader+signature"


def test_given_signatures_need_no_key_and_make_the_same_files(shop: Workshop) -> None:
    boot.sign(shop, shop.work / "unsigned.efi")
    uki, document = (shop.out / "uki.efi").read_bytes(), (shop.out / "signatures.json").read_bytes()
    shutil.rmtree(shop.out / "certificates")
    played(shop).calls.clear()
    given = GivenSignatures(parse_signatures(document, source="signatures.json"))
    boot.sign(with_signatures(shop, given), shop.work / "unsigned.efi")
    assert {words[0] for words in played(shop).ran} == {"sbattach"}
    assert (shop.out / "uki.efi").read_bytes() == uki
    assert (shop.out / "signatures.json").read_bytes() == document


def test_the_time_in_a_signature_is_the_certificates(shop: Workshop) -> None:
    boot.sign(shop, shop.work / "unsigned.efi")
    assert isinstance(shop.plan.signatures, KeySource)
    begins = read_certificate(shop.plan.signatures.keyring.boot_key(BootRole.DB).certificate).not_valid_before_utc
    words = next(words for words in played(shop).ran if "sbsign" in words)
    assert f"FAKETIME={begins:%Y-%m-%d %H:%M:%S}" in words[: words.index("sbsign")]


def test_a_signature_that_was_not_written_is_an_error(shop: Workshop) -> None:
    silent = SigningTools(shop.tools.root, silent=True)
    shop = replace(shop, plan=replace(shop.plan, supply=replace(shop.plan.supply, tools=silent)))
    with pytest.raises(BuildError, match=r"sbsign wrote no signature of unsigned\.efi"):
        boot.sign(shop, shop.work / "unsigned.efi")


def test_the_first_entry_is_blessed_and_the_loader_lies_where_firmware_looks(shop: Workshop) -> None:
    boot.make_disk(shop, root_of(shop), signed(shop, b"signed loader"))
    source = shop.work / "disk"
    assert [path.name for path in (source / "xbootldr/EFI/Linux").iterdir()] == ["host_1.0.0.efi"]
    assert (source / "esp/EFI/BOOT/BOOTX64.EFI").read_bytes() == b"signed loader"
    assert [words[0] for words in played(shop).ran] == ["systemd-repart", "qemu-img"]


def test_two_ukis_that_do_not_fit_are_refused(shop: Workshop) -> None:
    with (shop.out / "uki.efi").open("r+b") as uki:
        uki.truncate(300 << 20)
    with pytest.raises(SpaceError, match=r"slots\.boot"):
        boot.make_disk(shop, root_of(shop), signed(shop))


def test_the_build_records_the_sizes_its_disk_was_made_with(shop: Workshop) -> None:
    boot.make_disk(shop, root_of(shop), signed(shop))
    slots = parse_layout((shop.out / "layout.json").read_bytes(), source="layout.json")
    assert (slots.image, slots.architecture.value) == ("host", "x86-64")
    assert [slots.room(part) for part in BoundPartition] == [512 << 20, verity_size_for(512 << 20), 512 << 20]


def joined(shop: Workshop) -> list[list[str]]:
    """The calls of ukify that make a UKI."""
    tools = shop.tools
    assert isinstance(tools, SigningTools)
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
    assert rescue == [*main, "systemd.unit=rescue.target"]
