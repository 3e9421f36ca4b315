"""What we sign for firmware, checked by programs that we did not write."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bedrock.errors import ProcessError
from bedrock.process import Argument
from imagebuild.definition.sbat import COMPONENT, GENERATION, SBAT_TEXT
from imagebuild.inputs.tools import Access, ToolsTree
from imagebuild.steps.boot import LOADER_PROGRAM, STUB
from keys.keyring import Keyring
from keys.passphrase import NoPassphrase
from keys.roles import BootRole
from keys.secureboot import authenticode, measured
from keys.secureboot.pe import attach, authenticode_digest, section_bytes, signatures_of
from keys.signers import open_boot_signer
from tests.fakes.keyrings import dev_folder
from tests.fakes.pe_files import pe_file

_TIMEOUT_S = 60


@pytest.fixture
def keyring(tmp_path: Path) -> Keyring:
    return Keyring.load(dev_folder(tmp_path))


def signed(program: Path, keyring: Keyring, folder: Path) -> Path:
    signer, digest = open_boot_signer(keyring, BootRole.DB, NoPassphrase()), authenticode_digest(program)
    made = authenticode.assemble(digest, signer.sign(authenticode.to_sign(digest)), signer.certificate)
    target = folder / f"{program.name}.signed"
    attach(made, program, target)
    return target


@pytest.mark.parametrize("program", [LOADER_PROGRAM, STUB])
def test_sbverify_accepts_our_signature_and_no_other_certificate(
    program: Path, tools: ToolsTree, keyring: Keyring, tmp_path: Path
) -> None:
    target = signed(tools.root / program, keyring, tmp_path)
    db, kek = (keyring.boot_key(role).certificate for role in (BootRole.DB, BootRole.KEK))
    access = Access(read=(tmp_path,))
    tools.run(["sbverify", "--cert", db, target], access, timeout_s=_TIMEOUT_S)
    with pytest.raises(ProcessError):
        tools.run(["sbverify", "--cert", kek, target], access, timeout_s=_TIMEOUT_S)


def test_sbverify_refuses_a_program_that_was_changed_afterwards(
    tools: ToolsTree, keyring: Keyring, tmp_path: Path
) -> None:
    target = signed(tools.root / LOADER_PROGRAM, keyring, tmp_path)
    content = bytearray(target.read_bytes())
    content[0x2000] ^= 1
    target.write_bytes(content)
    db = keyring.boot_key(BootRole.DB).certificate
    with pytest.raises(ProcessError):
        tools.run(["sbverify", "--cert", db, target], Access(read=(tmp_path,)), timeout_s=_TIMEOUT_S)


def test_sbsign_makes_a_signature_of_the_same_digest(tools: ToolsTree, keyring: Keyring, tmp_path: Path) -> None:
    program, theirs = tools.root / LOADER_PROGRAM, tmp_path / "theirs.efi"
    key, certificate = keyring.folder / "db.pem", keyring.boot_key(BootRole.DB).certificate
    words: list[Argument] = ["sbsign", "--key", key, "--cert", certificate, "--output", theirs, program]
    access = Access(read=(tools.root,), write=(tmp_path,))
    tools.run(words, access, timeout_s=_TIMEOUT_S)
    assert authenticode_digest(theirs) == authenticode_digest(program)
    (signature,) = signatures_of(theirs)
    assert authenticode_digest(program) in signature


def test_openssl_reads_the_structure(tools: ToolsTree, keyring: Keyring, tmp_path: Path) -> None:
    (signature,) = signatures_of(signed(tools.root / LOADER_PROGRAM, keyring, tmp_path))
    (tmp_path / "signature.p7").write_bytes(signature)
    words: list[Argument] = ["openssl", "pkcs7", "-inform", "DER", "-in", tmp_path / "signature.p7", "-print", "-noout"]
    printed = tools.run(words, Access(read=(tmp_path,)), timeout_s=_TIMEOUT_S).stdout
    assert "1.3.6.1.4.1.311.2.1.4" in printed
    assert "Twinhull Image Signing Key" in printed
    assert "signingTime" not in printed


def small_uki(tools: ToolsTree, folder: Path, *more: str) -> Path:
    """A UKI as a build makes one, around a kernel that is no kernel."""
    (folder / "sbat.csv").write_text(SBAT_TEXT)
    (folder / "kernel").write_bytes(pe_file(b"kernel"))
    (folder / "initrd").write_bytes(b"initrd" * 1000)
    target = folder / "uki.efi"
    words: list[Argument] = ["/usr/lib/systemd/ukify", "build", f"--stub=/{STUB}", f"--linux={folder / 'kernel'}"]
    words += [
        f"--initrd={folder / 'initrd'}",
        "--cmdline=quiet",
        "--uname=6.12",
        f"--sbat=@{folder / 'sbat.csv'}",
        *more,
    ]
    tools.run([*words, f"--output={target}"], Access(write=(folder,)), timeout_s=_TIMEOUT_S)
    return target


def test_a_uki_carries_our_generation_next_to_those_of_stub_and_uki(tools: ToolsTree, tmp_path: Path) -> None:
    uki, section = small_uki(tools, tmp_path), tmp_path / "sbat"
    words: list[Argument] = ["objcopy", "-O", "binary", "--only-section=.sbat", uki, section]
    tools.run(words, Access(write=(tmp_path,)), timeout_s=_TIMEOUT_S)
    names = [line.split(",")[:2] for line in section.read_text().rstrip("\0\n").splitlines()]
    assert names[0] == ["sbat", "1"]
    assert ["uki", "1"] in names
    assert ["systemd-stub", "1"] in names
    assert names.count([COMPONENT, str(GENERATION)]) == 1


def test_a_uki_with_a_second_profile_is_signed_as_sbverify_reads_it(
    tools: ToolsTree, keyring: Keyring, tmp_path: Path
) -> None:
    profile = tmp_path / "profile.efi"
    stub = STUB.with_name("addonx64.efi.stub")
    words: list[Argument] = ["/usr/lib/systemd/ukify", "build", f"--stub=/{stub}", "--profile=ID=rescue"]
    words += ["--cmdline=rescue", f"--output={profile}"]
    tools.run(words, Access(write=(tmp_path,)), timeout_s=_TIMEOUT_S)
    uki = small_uki(tools, tmp_path, "--profile=ID=main", f"--join-profile={profile}")
    target = signed(uki, keyring, tmp_path)
    db = keyring.boot_key(BootRole.DB).certificate
    tools.run(["sbverify", "--cert", db, target], Access(read=(tmp_path,)), timeout_s=_TIMEOUT_S)


def sections_as_files(uki: Path, folder: Path) -> list[Argument]:
    """The measured sections of a UKI as options of systemd-measure."""
    words: list[Argument] = []
    for name in ("linux", "osrel", "cmdline", "initrd", "uname", "sbat", "pcrpkey", "profile"):
        content = section_bytes(uki, f".{name}")
        if content is not None:
            (folder / f"section.{name}").write_bytes(content)
            words.append(f"--{name}={folder / f'section.{name}'}")
    return [*words, "--bank=sha256", *(f"--phase={phase}" for phase in measured.PHASES)]


@pytest.mark.parametrize("profiles", [1, 2])
def test_systemd_measure_computes_and_signs_the_same(
    profiles: int, tools: ToolsTree, keyring: Keyring, tmp_path: Path
) -> None:
    signer = open_boot_signer(keyring, BootRole.PCR, NoPassphrase())
    (tmp_path / "pcr.pem").write_bytes(measured.public_pem(signer.certificate))
    (tmp_path / "pcr.json").write_bytes(measured.blank_document(signer.certificate))
    more = [f"--pcrpkey={tmp_path / 'pcr.pem'}", f"--section=.pcrsig:@{tmp_path / 'pcr.json'}"]
    if profiles > 1:
        profile = tmp_path / "profile.efi"
        words: list[Argument] = ["/usr/lib/systemd/ukify", "build", f"--stub=/{STUB.with_name('addonx64.efi.stub')}"]
        words += ["--profile=ID=rescue", "--cmdline=rescue", f"--output={profile}"]
        tools.run(words, Access(write=(tmp_path,)), timeout_s=_TIMEOUT_S)
        more += ["--profile=ID=main", f"--join-profile={profile}"]
    uki = small_uki(tools, tmp_path, *more)
    ours = measured.measurements_of(uki)
    access, files = Access(read=(keyring.folder,), write=(tmp_path,)), sections_as_files(uki, tmp_path)
    tool = "/usr/lib/systemd/systemd-measure"
    theirs = json.loads(tools.run([tool, "calculate", "--json=short", *files], access, timeout_s=_TIMEOUT_S).stdout)
    assert [each["hash"] for each in theirs["sha256"]] == [each.value.hex() for each in ours]
    keys: list[Argument] = [f"--private-key={keyring.folder / 'pcr.pem'}", f"--public-key={tmp_path / 'pcr.pem'}"]
    signed_by_them = tools.run([tool, "sign", "--json=short", *files, *keys], access, timeout_s=_TIMEOUT_S).stdout
    measured.fill(uki, signer.certificate, {each.phase: signer.sign(each.policy) for each in ours})
    assert json.loads(section_bytes(uki, ".pcrsig") or b"") == json.loads(signed_by_them)


def test_ukify_reads_the_filled_section(tools: ToolsTree, keyring: Keyring, tmp_path: Path) -> None:
    signer = open_boot_signer(keyring, BootRole.PCR, NoPassphrase())
    (tmp_path / "pcr.json").write_bytes(measured.blank_document(signer.certificate))
    uki = small_uki(tools, tmp_path, f"--section=.pcrsig:@{tmp_path / 'pcr.json'}")
    measured.fill(uki, signer.certificate, {e.phase: signer.sign(e.policy) for e in measured.measurements_of(uki)})
    words: list[Argument] = ["/usr/lib/systemd/ukify", "inspect", uki, "--json=short"]
    shown = json.loads(tools.run(words, Access(read=(tmp_path,)), timeout_s=_TIMEOUT_S).stdout)
    assert len(json.loads(shown[".pcrsig"]["text"])["sha256"]) == len(measured.PHASES)
