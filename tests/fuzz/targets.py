"""Every parser of bytes from elsewhere, with documents to damage, and the errors that are an answer.

A target is given bytes and returns nothing: it parses them and, where there is a writer, checks that what it read is
written and read again as the same value.  Any exception but its answers is a finding.
"""

from __future__ import annotations

import io
import struct
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, Root, Snapshot, TargetFile, Targets, Timestamp

from bedrock import strict
from bedrock.errors import TwinhullError
from imagebuild.attest.linked import CARGO_SECTION, GO_SECTION, read_linked
from imagebuild.attest.sbom import make_sbom
from imagebuild.attest.tracker import parse_tracker
from imagebuild.attest.vex import parse_vex
from imagebuild.content.services import read_unit_files
from imagebuild.definition.image import ImageDefinition
from imagebuild.elf import ElfError, read_elf
from imagebuild.inputs.deb import control_of
from imagebuild.inputs.indexes import names_in, rows_of, shown_to_apt
from imagebuild.inputs.lockfile import read_lock, write_lock
from imagebuild.inputs.part import read_index
from imagebuild.steps.dpkg import read_database
from keys.errors import KeysError
from keys.keyring import KeyringDocument
from keys.roles import TufRole
from keys.uri import parse_uri
from partitions.entries import parse_entry
from partitions.errors import FatError
from partitions.fat.change import SectorWrite, plan_move, plan_rename
from partitions.fat.check import judge
from partitions.fat.directory import Folder
from partitions.fat.placement import fillers
from partitions.fat.volume import FatVolume
from partitions.gpt import SECTOR_SIZE, Copy, GptEntry, GptHeader, choose, parse_entries, parse_header
from partitions.hashtree import Superblock
from partitions.version import Version, compare
from tests.fakes import provisions
from tests.fakes.attested import MATERIALS, definition
from tests.fakes.debian_packages import ar, deb, tar_xz
from tests.fakes.definitions import lock_of, package
from tests.fakes.elf_files import elf_file, sections_file
from tests.fakes.fat_image import FatImage
from tests.fakes.gpt_disk import disk_image, twin_parts
from tests.fakes.memory_disk import MemoryDisk
from tests.fakes.wired import AT, CHANNEL, DOCUMENTS
from tests.fuzz.signed_targets import SIGNED
from tests.fuzz.target import FuzzTarget, whole
from updater.agent.config import Config
from updater.agent.machine import parse_os_release
from updater.documents.bom import parse_bom
from updater.documents.envelope import unseal
from updater.provision.pem import Certificates
from updater.provision.policy import key_of
from updater.provision.reading import PAYLOAD_TYPE, read_offered, read_unverified
from updater.repository.role_documents import check_signatures, parse_document

_SCRATCH = Path(tempfile.gettempdir())
_KEY = CryptoSigner.generate_ed25519()
_INDEX = b"""\
Package: podman
Version: 5.4.2+ds1-2
Architecture: amd64
Essential: yes
Filename: pool/main/p/podman_5.deb
Size: 12
SHA256: 00
Depends: libc6 (>= 2.34), a | b
Provides: containers (= 1)

Package: crun
Version: 1.2
Architecture: amd64
Filename: pool/main/c/crun_1.deb
Size: 9
"""
_STATUS = b"""\
Package: podman
Status: install ok installed
Version: 5.4.2+ds1-2
Architecture: amd64
Source: libpod (5.4)
Depends: libc6 (>= 2.34), a | b
Built-Using: runc (= 1.1.15)
Section: admin
Description: pods
"""
_KEYRING = f"""\
format: 1
profile: dev
tuf:
  root:
    threshold: 1
    keys:
    - {{keyid: {_KEY.public_key.keyid}, public: {_KEY.public_key.keyval["public"]}, uri: 'file:root-1.pem'}}
boot:
  db: {{uri: 'file:db.pem', certificate: db.crt}}
"""
_TRACKER = b'{"podman": {"CVE-1": {"releases": {"trixie": {"status": "resolved", "fixed_version": "1"}}}}}'
_VEX = b"""{"@context": "https://openvex.dev/ns/v0.2.0", "@id": "https://example.com/1", "author": "us", "version": 1,
"timestamp": "2026-01-01T00:00:00Z", "statements": [{"vulnerability": {"name": "CVE-1"}, "status": "not_affected",
"products": [{"@id": "pkg:deb/debian/libc6"}], "justification": "vulnerable_code_not_present"}]}"""
_UNITS = b'[{"unit_file": "a.service", "state": "enabled", "preset": null}]'
_IMAGE = b"""{"id": "host", "packages": ["podman"], "drivers": "cloud", "files": [{"path": "/etc/m", "content": "x"}],
"services": {"enable": ["a.service"]}, "updater": {"url": "https://u.example.com", "channel": "stable"}}"""
_SETTINGS = b"""{"url": "https://u.example.com", "channel": "stable", "poll_interval": "10m", "tries": 3,
"reboot": {"policy": "window", "windows": [{"start": "03:00", "length": "2h", "days": ["sat"]}]},
"health": {"checks": {"a": {"unit": "a.service"}}, "failed_units": {"ignore": ["b*"]}}}"""


def _strictly(cls: type[Any]) -> Callable[[bytes], object]:
    return lambda data: strict.read_yaml(cls, data, source="fuzzed")


def _envelope(data: bytes) -> None:
    unseal(data, payload_type=PAYLOAD_TYPE, keys=[key_of(provisions.PUBLIC)], threshold=1, source="fuzzed")


def _provision(data: bytes) -> None:
    document = read_unverified(data, source="fuzzed")
    assert isinstance(hash(document), int)
    read_offered(data, [key_of(provisions.PUBLIC)], source="fuzzed")


def _metadata(data: bytes) -> None:
    for kind, role in _ROLES.items():
        try:
            document = parse_document(data, kind, source="fuzzed")
        except TwinhullError:
            continue
        check_signatures(_ROOT, role, document.metadata)
        assert document.copy() == document.signed
        return
    parse_document(data, Root, source="fuzzed")


def _signed(content: Any) -> bytes:
    metadata: Metadata[Any] = Metadata(content)
    metadata.sign(_KEY)
    return metadata.to_bytes()


def _root() -> Root:
    root = Root(expires=AT.when)
    for role in _ROLES.values():
        root.add_key(_KEY.public_key, role.value)
    return root


def _metadata_seeds() -> tuple[bytes, ...]:
    path = CHANNEL.target_path
    targets = Targets(expires=AT.when, targets={path: TargetFile.from_data(path, b"x", ["sha256"])})
    return tuple(map(_signed, (_ROOT, targets, Snapshot(expires=AT.when), Timestamp(expires=AT.when))))


def _table(data: bytes) -> None:
    """The partition table of a disk image."""
    sectors = len(data) // SECTOR_SIZE
    found = {}
    for copy, own in ((Copy.PRIMARY, 1), (Copy.BACKUP, sectors - 1)):
        try:
            sector = data[own * SECTOR_SIZE : (own + 1) * SECTOR_SIZE]
            header = parse_header(sector, copy=copy, own_lba=own, sector_count=sectors)
            raw = data[header.entries_offset : header.entries_offset + header.entries_bytes]
            found[copy] = header, parse_entries(header, raw)
        except TwinhullError:
            continue
    _chosen(found, sectors)


def _chosen(found: dict[Copy, tuple[GptHeader, tuple[GptEntry, ...]]], sectors: int) -> None:
    table = choose(found.get(Copy.PRIMARY), found.get(Copy.BACKUP))
    for at, written in table.writes():
        assert at >= SECTOR_SIZE
        assert at + len(written) <= sectors * SECTOR_SIZE


def _table_fields(data: bytes) -> None:
    """Both headers and the entries that are used, one after the other; their checksums are put right."""
    found = {}
    for copy, own, at in ((Copy.PRIMARY, 1, 0), (Copy.BACKUP, _SECTORS - 1, _FIELDS)):
        fields = bytearray(data[at : at + _FIELDS].ljust(SECTOR_SIZE, b"\0"))
        count = min(struct.unpack_from("<I", fields, 80)[0], 2048)
        raw = data[2 * _FIELDS :].ljust(count * 128, b"\0")[: count * 128]
        struct.pack_into("<I", fields, 88, zlib.crc32(raw))
        struct.pack_into("<I", fields, 16, 0)
        struct.pack_into(
            "<I", fields, 16, zlib.crc32(fields[: min(*struct.unpack_from("<I", fields, 12), SECTOR_SIZE)])
        )
        try:
            header = parse_header(bytes(fields), copy=copy, own_lba=own, sector_count=_SECTORS)
            found[copy] = header, parse_entries(header, raw)
        except TwinhullError:
            continue
    _chosen(found, _SECTORS)


def _fat(data: bytes) -> None:
    """A file system: judged, its folders and files read, changes planned."""
    device = MemoryDisk(data)
    judge(device)
    volume = FatVolume.open(device)
    for path in ("", "EFI/Linux"):
        folder = volume.folder(path)
        for entry in folder.entries[:8]:
            for length in (3, 40):
                _planned(folder, entry.name, "x" * length, len(data))
            if not entry.is_folder:
                assert len(volume.read(entry, 1, 600)) <= 600


def _planned(folder: Folder, old: str, new: str, size: int) -> None:
    try:
        planned = plan_rename(folder, old, new)
        writes = plan_move(folder, old, new)
        fillers(folder, new)
    except FatError:
        return
    if isinstance(planned, SectorWrite):
        writes += (planned,)
    assert all(each.offset + len(each.data) <= size and len(each.data) == SECTOR_SIZE for each in writes)


def _fat_seed() -> bytes:
    made = FatImage(clusters=40, folder_clusters=2)
    made.file("EFI/Linux/host_1.0.0.efi", b"x" * 700)
    made.file("EFI/Linux/host_1.0.1+3-0.efi.new", b"y" * 700, skip=3)
    made.file("SHORT.TXT", b"z")
    return bytes(made.build())


def _entry(data: bytes) -> None:
    name = data.decode(errors="surrogateescape")
    entry = parse_entry(name)
    assert entry is None or entry.file_name == name


def _version(data: bytes) -> None:
    text = data.decode(errors="surrogateescape")
    version = Version.from_text(text)
    assert str(version) == text
    assert compare(text, text) == 0
    assert compare(text, "1.0.0") == -compare("1.0.0", text)


def _superblock(data: bytes) -> None:
    block = Superblock.from_bytes(data, source="fuzzed")
    assert Superblock.from_bytes(block.to_bytes(), source="written") == block


def _elf(data: bytes) -> None:
    read_elf(io.BytesIO(data))
    read_linked(io.BytesIO(data))


def _deb(data: bytes) -> None:
    with tempfile.NamedTemporaryFile(dir=_SCRATCH) as file:
        file.write(data)
        file.flush()
        str(control_of(Path(file.name), what="fuzzed"))


def _apt_index(data: bytes) -> None:
    names_in(data)
    list(rows_of(data, ("podman", "crun")))
    shown_to_apt(data, "debian", {"podman": "debian", "crun": "mine"})
    read_index(data)


def _database(data: bytes) -> None:
    with tempfile.TemporaryDirectory(dir=_SCRATCH) as folder:
        (Path(folder) / "info").mkdir()
        (Path(folder) / "info/podman.list").write_text("/.\n/usr\n")
        (Path(folder) / "status").write_bytes(data)
        read_database(Path(folder))


def _text(parse: Callable[[str], object]) -> Callable[[bytes], object]:
    return lambda data: parse(data.decode(errors="surrogateescape"))


def _elf_seeds() -> tuple[bytes, ...]:
    go = b"\xff Go buildinf:\x08\x02" + bytes(16) + b"\x06go1.24\x24" + bytes(16) + b"dep\ta\tv1" + bytes(16)
    cargo = zlib.compress(b'{"packages": [{"name": "a", "version": "1", "source": "crates.io"}]}')
    notes = [{"soname": ["libz.so.1"], "priority": "required", "feature": "zip"}]
    plain = elf_file("libc.so.6", soname="x", runpath="$ORIGIN:/usr/lib", interpreter="/lib/ld.so", dlopen=notes)
    return plain, sections_file({GO_SECTION: go}), sections_file({CARGO_SECTION: cargo})


_ROLES: dict[type[Any], TufRole] = {
    Root: TufRole.ROOT,
    Targets: TufRole.TARGETS,
    Snapshot: TufRole.SNAPSHOT,
    Timestamp: TufRole.TIMESTAMP,
}
_ROOT = _root()
_WIRED = tuple(FuzzTarget(each.name, whole(each.parse, each.dump), (each.data,)) for each in DOCUMENTS)
_DISK = disk_image(twin_parts(boot_sectors=8, root_sectors=8, verity_sectors=8, var_sectors=8))
_SECTORS = len(_DISK) // SECTOR_SIZE
_FIELDS = 92
_TABLE = _DISK[SECTOR_SIZE:][:_FIELDS] + _DISK[-SECTOR_SIZE:][:_FIELDS] + _DISK[2 * SECTOR_SIZE :][: 8 * 128]
_SUPERBLOCK = Superblock(twin_parts()[0].uuid, 100, b"salt").to_bytes()

TARGETS = (
    *_WIRED,
    *SIGNED,
    FuzzTarget("envelope", _envelope, (provisions.signed("serial: 1\n"),)),
    FuzzTarget(
        "bom",
        lambda data: parse_bom(data, source="fuzzed"),
        (make_sbom(definition(), Version("1"), MATERIALS, inputs_digest="x"),),
    ),
    FuzzTarget(
        "provision",
        _provision,
        (
            provisions.WHOLE.encode(),
            provisions.signed(provisions.WHOLE),
            strict.dump_json(strict.parse_yaml(provisions.WHOLE, source="x")),
        ),
    ),
    FuzzTarget(
        "certificates",
        _text(Certificates.from_text),
        (provisions.CERTIFICATE.encode(), provisions.CERTIFICATE.encode() * 2),
        (ValueError,),
    ),
    FuzzTarget("settings", _strictly(Config), (_SETTINGS,)),
    FuzzTarget("metadata", _metadata, _metadata_seeds()),
    FuzzTarget("gpt", _table, (_DISK,)),
    FuzzTarget("gpt-fields", _table_fields, (_TABLE,)),
    FuzzTarget("fat", _fat, (_fat_seed(),)),
    FuzzTarget("boot-entry", _entry, (b"host_1.0.0.efi", b"host_1.0.0+3-0.efi", b"my-host_1.0~rc1^2+0-3.efi")),
    FuzzTarget("version", _version, (b"1.0.0", b"1.0~rc1^git2-3", b"2026.11.27"), (ValueError,)),
    FuzzTarget("superblock", _superblock, (_SUPERBLOCK,)),
    FuzzTarget("elf", _elf, _elf_seeds(), (ElfError,)),
    FuzzTarget("os-release", _text(parse_os_release), (b'ID=debian\nIMAGE_ID="host"\nIMAGE_VERSION=1.0.0\n',)),
    FuzzTarget(
        "deb",
        _deb,
        (
            deb("podman", files={"/usr/bin/podman": b"x"}),
            ar(
                {
                    "debian-binary": b"2.0\n",
                    "control.tar.xz": tar_xz({"./control": b"Package: a\n"}),
                    "data.tar.xz": tar_xz({}),
                }
            ),
        ),
    ),
    FuzzTarget("apt-index", _apt_index, (_INDEX,)),
    FuzzTarget("dpkg-status", _database, (_STATUS,)),
    FuzzTarget("lock", whole(read_lock, write_lock), (write_lock(lock_of(package("podman"), package("crun"))),)),
    FuzzTarget("tracker", lambda data: parse_tracker(data, [("podman", "trixie")], source="fuzzed"), (_TRACKER,)),
    FuzzTarget("vex", lambda data: parse_vex(data, source="fuzzed"), (_VEX,)),
    FuzzTarget("unit-files", _text(read_unit_files), (_UNITS,)),
    FuzzTarget("image-definition", _strictly(ImageDefinition), (_IMAGE,)),
    FuzzTarget("keyring", _strictly(KeyringDocument), (_KEYRING.encode(),)),
    FuzzTarget(
        "key-uri",
        _text(parse_uri),
        (b"file:root-1.pem", b"pkcs11:token=x;object=y"),
        (KeysError, ValueError),
    ),
)
