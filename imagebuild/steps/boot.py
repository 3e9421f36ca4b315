"""Makes the UKI, and signs it and the boot loader.

The unsigned parts are made first; `signing.py` says where their signatures come from.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from cryptography import x509

from bedrock.base64_bytes import Base64Bytes
from bedrock.digest import file_sha256
from imagebuild.definition import config
from imagebuild.definition.sbat import SBAT_TEXT
from imagebuild.paths import EPOCH
from imagebuild.steps.products import BootPrograms, Initrd, PackageTree, RootImage
from imagebuild.steps.workshop import Workshop
from keys.ceremony.request import FORMAT as REQUEST_FORMAT
from keys.ceremony.request import SigningRequest, request_bytes
from keys.roles import BootRole
from keys.secureboot import measured
from keys.secureboot.pe import attach, authenticode_digest
from keys.secureboot.requests import measurement_entry, program_entry
from updater.documents.build_files import CERTIFICATES_FOLDER, SIGNING_REQUEST_FILE, UNSIGNED_FOLDER
from updater.documents.release import ArtifactKind
from updater.documents.signatures import FORMAT, LOADER, SIGNATURES_FILE, UKI, Detached, Signatures, dump_signatures

_TIMEOUT_S = 300
# Profiles of a UKI (ukify(1), Boot Loader Specification): the first boots when nobody chooses.
_MAIN_PROFILE = "ID=main"
_RESCUE_PROFILE = "ID=rescue\nTITLE=rescue: a root shell on the console"
_RESET_PROFILE = "ID=reset\nTITLE=factory reset: everything that this host keeps is lost"
_EFI_FOLDER = Path("usr/lib/systemd/boot/efi")
LOADER_PROGRAM = _EFI_FOLDER / "systemd-bootx64.efi"
STUB = _EFI_FOLDER / "linuxx64.efi.stub"
_PROFILE_STUB = _EFI_FOLDER / "addonx64.efi.stub"


def make_uki(shop: Workshop, tree: PackageTree, initrd: Initrd, root: RootImage) -> Path:
    """Let ukify join kernel, initrd, command line and os-release into one program; the unsigned file."""
    unsigned = shop.work / "unsigned.efi"
    arguments = config.kernel_arguments(shop.plan.definition, root.root_hash)
    (shop.config / "cmdline").write_text(arguments + "\n")
    (shop.config / "sbat.csv").write_text(SBAT_TEXT)
    key = measured_key(shop.plan.signatures.certificates)
    (shop.config / "pcr.pem").write_bytes(measured.public_pem(key))
    (shop.config / "pcr.json").write_bytes(measured.blank_document(key))
    _ukify(
        shop,
        f"--stub=/{STUB}",
        f"--sbat=@{shop.config / 'sbat.csv'}",
        f"--linux={tree.kernel.file}",
        f"--initrd={initrd.archive}",
        f"--cmdline=@{shop.config / 'cmdline'}",
        f"--os-release=@{tree.root / 'usr/lib/os-release'}",
        f"--uname={tree.kernel.version}",
        f"--pcrpkey={shop.config / 'pcr.pem'}",
        f"--section={measured.SECTION}:@{shop.config / 'pcr.json'}",
        *_more_profiles(shop, root.root_hash),
        f"--output={unsigned}",
    )
    return unsigned


def _more_profiles(shop: Workshop, root_hash: str) -> tuple[str, ...]:
    """Make the parts of the UKI that are other entries of the boot menu (writes to the working folder).

    Separate files would be other versions for the loader to choose and for the agent to count.
    """
    definition = shop.plan.definition
    wanted = {
        "rescue": (definition.rescue, _RESCUE_PROFILE, config.rescue_arguments),
        "reset": (definition.reset.boot_menu, _RESET_PROFILE, config.reset_arguments),
    }
    words: list[str] = []
    for name, (on, text, arguments) in wanted.items():
        if on:
            (shop.config / f"cmdline.{name}").write_text(arguments(definition, root_hash) + "\n")
            profile = shop.work / f"{name}.profile.efi"
            cmdline = f"--cmdline=@{shop.config / f'cmdline.{name}'}"
            _ukify(shop, f"--stub=/{_PROFILE_STUB}", f"--profile={text}", cmdline, f"--output={profile}")
            words.append(f"--join-profile={profile}")
    return (f"--profile={_MAIN_PROFILE}", *words) if words else ()


def _ukify(shop: Workshop, *words: str) -> None:
    shop.tools.run(
        ["/usr/lib/systemd/ukify", "build", *words],
        shop.access,
        timeout_s=_TIMEOUT_S,
        env={"SOURCE_DATE_EPOCH": str(EPOCH)},
        log=shop.log,
    )


def measured_key(certificates: Mapping[BootRole, str]) -> x509.Certificate:
    """The certificate of the key that signs what a TPM measures of the UKI."""
    return x509.load_pem_x509_certificate(certificates[BootRole.PCR].encode())


def sign(shop: Workshop, uki: Path) -> BootPrograms:
    """Sign the UKI and systemd-boot, and put the signatures (`signatures.json`) and certificates next to the build.

    The signatures for its measured boot become part of the UKI (writes to `uki`) before it is signed for firmware.
    When a key is somewhere else, the unsigned programs and a signing request are put there instead.
    """
    source = shop.plan.signatures
    loader = shop.work / "loader.unsigned.efi"
    shutil.copyfile(shop.tools.root / LOADER_PROGRAM, loader)
    unsigned = {UKI: uki, LOADER: loader}
    certificates = {role.value: text for role, text in source.certificates.items()}
    folder = shop.out / CERTIFICATES_FOLDER
    folder.mkdir()
    for name, text in certificates.items():
        (folder / f"{name}.pem").write_text(text)
    key, named = measured_key(source.certificates), f"{shop.plan.definition.id} {shop.plan.version}"
    policies = source.measured(measured.measurements_of(uki))
    if policies is None:
        return _leave_unsigned(shop, unsigned, measured_request(uki, key, named))
    measured.fill(uki, key, policies)
    made = source.detached(unsigned)
    if made is None:
        return _leave_unsigned(shop, unsigned, program_request(unsigned, certificates[BootRole.DB.value], named))
    programs = BootPrograms(shop.artifact(ArtifactKind.UKI), shop.work / "loader.signed.efi")
    put_signatures(made, policies, unsigned, programs, certificates=certificates, out=shop.out)
    return programs


def put_signatures(
    made: Mapping[str, bytes],
    policies: Mapping[str, bytes],
    unsigned: Mapping[str, Path],
    programs: BootPrograms,
    *,
    certificates: dict[str, str],
    out: Path,
) -> None:
    """Write the signed programs, and the document of their signatures into `out`.

    Args:
        made: The signatures of the programs, by name.
        policies: The signatures for the UKI's measured boot, by phase; they are in it already.
        unsigned: The programs by name.
        programs: Where the signed ones are written.
        certificates: The certificates in PEM, by the names of their roles.
        out: The folder of the build.
    """
    for name, signed in ((UKI, programs.uki), (LOADER, programs.loader)):
        attach(made[name], unsigned[name], signed)
    document = Signatures(
        format=FORMAT,
        certificates=certificates,
        files={name: Detached.of(made[name], unsigned_sha256=file_sha256(path)) for name, path in unsigned.items()},
        measured={phase: Base64Bytes(signature) for phase, signature in policies.items()},
    )
    (out / SIGNATURES_FILE).write_bytes(dump_signatures(document))


def measured_request(uki: Path, key: x509.Certificate, named: str) -> SigningRequest:
    """The request for the signatures of a UKI's measured boot."""
    entries = tuple(
        measurement_entry(each, key, (f"{named}: PCR 11, {each.phase or 'at its start'}",))
        for each in measured.measurements_of(uki)
    )
    return SigningRequest(
        REQUEST_FORMAT, f"measured boot of {named}", "the key pcr was not where it was built", entries
    )


def program_request(unsigned: Mapping[str, Path], certificate: str, named: str) -> SigningRequest:
    """The request for the Secure Boot signatures of programs; `certificate` is that of db, in PEM."""
    key = x509.load_pem_x509_certificate(certificate.encode())
    entries = tuple(
        program_entry(name, authenticode_digest(path), key, (f"{named}: {name}", f"SHA-256 {file_sha256(path)}"))
        for name, path in unsigned.items()
    )
    return SigningRequest(REQUEST_FORMAT, f"boot programs of {named}", "the key db was not where it was built", entries)


def _leave_unsigned(shop: Workshop, unsigned: Mapping[str, Path], request: SigningRequest) -> BootPrograms:
    """Put the unsigned programs and the request for their signatures next to the build."""
    folder = shop.out / UNSIGNED_FOLDER
    folder.mkdir()
    for name, path in unsigned.items():
        shutil.copyfile(path, folder / name)
    shutil.copyfile(unsigned[UKI], shop.artifact(ArtifactKind.UKI))
    (shop.out / SIGNING_REQUEST_FILE).write_bytes(request_bytes(request))
    return BootPrograms(shop.artifact(ArtifactKind.UKI), unsigned[LOADER])
