"""The agent's self-contained program, run in a root folder that holds its libraries and nothing else."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import time
from pathlib import Path

from bedrock import process
from imagebuild.inputs.tools import ToolsTree, cache_folder
from imagebuild.steps.agent_program import HOME, PAYLOAD_PACKAGES, Payload, build_payload

REPOSITORY = Path(__file__).resolve().parents[2]
SANDBOX = "usr/lib/python3/dist-packages/mkosi/sandbox.py"
EPOCH = 1_700_000_000
MAX_BYTES = 20 << 20
# What the listed packages depend on and apt brings with them.
DEPENDENCIES = ("libzstd1",)
# Every package the agent uses, and what each needs only when it works: ciphers, encodings, certificates, and the
# schemes of signatures that a root of trust may use; Debian's cryptography is older than the one the unit tests run.
EXERCISE = """
import os
os.environ |= {"CRYPTOGRAPHY_OPENSSL_NO_LEGACY": "1", "PYTHONTZPATH": ""}  # as the launcher does
import ctypes, datetime, encodings.idna, io, json, ssl, sys, updater.agent.cli, urllib3, yaml, zoneinfo, zstandard
from cryptography.hazmat.primitives.asymmetric.ec import SECP384R1, generate_private_key
from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, Root
from tuf.ngclient import Updater
from updater.agent import client
schemes = []
for signer in (CryptoSigner.generate_ed25519(), CryptoSigner.generate_rsa(), CryptoSigner.generate_ecdsa(),
               CryptoSigner(generate_private_key(SECP384R1()))):
    signature = signer.sign(b"x")
    signer.public_key.verify_signature(signature, b"x")
    try:
        signer.public_key.verify_signature(signature, b"y")
    except UnverifiedSignatureError:
        schemes.append(signer.public_key.scheme)
assert zstandard.ZstdDecompressor().decompress(zstandard.ZstdCompressor().compress(b"x" * 9)) == b"x" * 9
assert yaml.safe_load("a: 1") == {"a": 1}
assert Metadata.from_bytes(Metadata(Root()).to_bytes()).signed.type == "root"
block = b"TZif2" + bytes(34) + b"\\1" + b"\\0\\0\\0\\4" + (7200).to_bytes(4, "big") + b"\\0\\0EET\\0"
zone = zoneinfo.ZoneInfo.from_file(io.BytesIO(2 * block + b"\\nEET-2EEST,M3.5.0/3,M10.5.0/4\\n"))
assert [datetime.datetime(2026, month, 1, tzinfo=zone).utcoffset().seconds for month in (1, 7)] == [7200, 10800]
ssl.create_default_context()
"b\\u00fccher.example".encode("idna")
print(json.dumps({
    "prefix": sys.prefix,
    "encoding": sys.stdout.encoding,
    "schemes": schemes,
    "outside": [path for path in sys.path if not path.startswith("/usr/lib/twinhull/")],
    "rss_kib": int(open("/proc/self/status").read().partition("VmHWM:")[2].split()[0]),
}))
"""


def build(tools: ToolsTree, destination: Path, *, cache: Path, source_root: Path = REPOSITORY) -> Payload:
    # Wheels are shared through the machine's cache, finished payloads are not: each test builds its own.
    cache.mkdir(exist_ok=True)
    wheels = cache_folder() / "wheels"
    wheels.mkdir(parents=True, exist_ok=True)
    (cache / "wheels").symlink_to(wheels)
    return build_payload(
        destination=destination,
        tools_root=tools.root,
        cache=cache,
        source_root=source_root,
        source_date_epoch=EPOCH,
    )


def bare_root(tools: ToolsTree, folder: Path) -> ToolsTree:
    """A root folder with the libraries of `PAYLOAD_PACKAGES`, into which a payload is built, and mkosi's sandbox."""
    for package in (*PAYLOAD_PACKAGES, *DEPENDENCIES):
        for listing in (tools.root / "var/lib/dpkg/info").glob(f"{package}*.list"):
            if listing.name.removesuffix(".list").partition(":")[0] == package:
                for name in listing.read_text().splitlines():
                    source = tools.root / name.lstrip("/")
                    if ".so" in name and source.is_file():
                        target = folder / name.lstrip("/")
                        target.parent.mkdir(parents=True, exist_ok=True)
                        shutil.copyfile(source, target)
                        target.chmod(0o755)
    (folder / SANDBOX).parent.mkdir(parents=True)
    shutil.copyfile(tools.root / SANDBOX, folder / SANDBOX)
    (folder / "etc").mkdir(exist_ok=True)
    return ToolsTree(folder)


def hashes(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_the_program_runs_with_its_own_interpreter_and_few_libraries(tools: ToolsTree, tmp_path: Path) -> None:
    root = bare_root(tools, tmp_path / "root")
    payload = build(tools, root.root, cache=tmp_path / "cache")
    assert payload.size_bytes <= MAX_BYTES
    assert set(payload.files) <= set(hashes(root.root))

    start = time.monotonic()
    told = root.run(["/usr/bin/updater", "--help"], timeout_s=60).stdout
    seconds = time.monotonic() - start
    assert re.search(r"(?m)^Usage: updater ", told)

    # A word that is not understood takes the agent through imports it meets nowhere else.
    wrong = root.run(["/usr/bin/updater", "--no-such-option"], timeout_s=60, check=False)
    assert (wrong.returncode, "Traceback" in wrong.stderr) == (2, False), wrong.stderr

    code = f"import sys; sys.path.append('/{HOME}/app')\n{EXERCISE}"
    seen = json.loads(root.run([f"/{HOME}/bin/python3", "-IS", "-c", code], timeout_s=60).stdout)
    assert (seen["prefix"], seen["encoding"], seen["outside"]) == (f"/{HOME}", "utf-8", [])
    assert seen["schemes"] == ["ed25519", "rsassa-pss-sha256", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384"]
    # Shown by `pytest -rP`.
    print(f"agent: {payload.size_bytes} bytes, --help in {seconds:.2f} s, peak {seen['rss_kib']} KiB")  # noqa: T201


def test_two_builds_are_equal_and_tell_nothing_of_where_they_were_made(tools: ToolsTree, tmp_path: Path) -> None:
    elsewhere = tmp_path / "a-folder-of-this-machine"
    for name in ("bedrock", "keys", "partitions", "updater"):
        shutil.copytree(REPOSITORY / name, elsewhere / name, ignore=shutil.ignore_patterns("__pycache__"))
    build(tools, tmp_path / "one", cache=tmp_path / "cache-one")
    build(tools, tmp_path / "two", cache=tmp_path / "cache-two", source_root=elsewhere)
    assert hashes(tmp_path / "one") == hashes(tmp_path / "two")
    for path in (tmp_path / "two").rglob("*"):
        if path.is_file():
            assert path.stat().st_mtime == EPOCH
            raw = path.read_bytes()
            assert b"a-folder-of-this-machine" not in raw
            assert str(tmp_path).encode() not in raw


def test_an_equal_earlier_build_is_used_again(tools: ToolsTree, tmp_path: Path) -> None:
    first = build(tools, tmp_path / "one", cache=tmp_path / "cache")
    (tmp_path / "cache/wheels").unlink()
    kept = next((tmp_path / "cache/payload").iterdir())
    (kept / "tree/usr/bin/updater").write_text("a mark that a new build would not have\n")
    assert build(tools, tmp_path / "two", cache=tmp_path / "cache") == first
    assert (tmp_path / "two/usr/bin/updater").read_text() == "a mark that a new build would not have\n"


def test_a_traceback_shows_our_lines(tools: ToolsTree, tmp_path: Path) -> None:
    root = bare_root(tools, tmp_path / "root")
    build(tools, root.root, cache=tmp_path / "cache")
    code = f"import sys; sys.path.append('/{HOME}/app')\nfrom bedrock import process\nprocess.start(['/no/such'])"
    told = root.run([f"/{HOME}/bin/python3", "-IS", "-c", code], timeout_s=60, check=False).stderr
    assert f'File "/{HOME}/app/bedrock/process.py", line' in told
    assert "could not be started" in told
    assert "raise ProcessError(" in told
    assert process.__file__ not in told
