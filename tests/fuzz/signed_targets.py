"""Parsers of what is signed and what signatures are carried in: programs for firmware, additions to its variables,
signing requests, and a repository's metadata as a client reads them.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from securesystemslib.signer import CryptoSigner
from tuf.api.exceptions import DownloadError, DownloadHTTPError
from tuf.api.exceptions import RepositoryError as TufRepositoryError
from tuf.api.metadata import Metadata, Root
from tuf.ngclient.fetcher import FetcherInterface
from tuf.ngclient.updater import Updater

from bedrock import strict
from bedrock.base64_bytes import Base64Bytes
from bedrock.errors import TwinhullError
from keys.ceremony.request import (
    FORMAT,
    Entry,
    PayloadKind,
    RequestedKey,
    SignerGroup,
    SigningRequest,
    missing_lines,
    parse_request,
    request_bytes,
)
from keys.ceremony.signing import explain
from keys.secureboot.pe import authenticode_digest, signatures_of
from keys.secureboot.requests import boot_words
from keys.secureboot.siglist import BootVariable, certificate_list, hash_list, parse_lists
from keys.secureboot.variable import Addition, parse_to_sign
from tests.fakes.http_server import Site
from tests.fakes.pe_files import pe_file
from tests.fakes.tuf_site import SignedSite
from tests.fakes.wired import ADDITION, AT, CHANNEL
from tests.fuzz.target import FuzzTarget, whole
from updater.repository.ceremony.words import tuf_words
from updater.transfer.messages import Failure, Notice, Outcome, Reply, packed, plain, read_reply

_SCRATCH = Path(tempfile.gettempdir())
_KEY = CryptoSigner.generate_ed25519()


def _program(data: bytes) -> None:
    with tempfile.NamedTemporaryFile(dir=_SCRATCH) as file:
        file.write(data)
        file.flush()
        assert len(authenticode_digest(Path(file.name))) == 32
        signatures_of(Path(file.name))


def _addition(data: bytes) -> None:
    found = parse_to_sign(data)
    assert found.to_sign() == data
    assert found.signatures


def _reply(data: bytes) -> None:
    """What the agent reads from its network side, which a server may have taken over."""
    reply = read_reply(data)
    assert read_reply(strict.dump_json(reply)) == reply
    assert plain(reply.notice.text if reply.notice else "").isprintable()


def _request(data: bytes) -> None:
    whole(parse_request, request_bytes)(data)
    request = parse_request(data, source="fuzzed")
    list(missing_lines(request))
    with suppress(TwinhullError):
        # What it says of its payload is another parser's answer.
        explain(request, {PayloadKind.TUF: tuf_words, PayloadKind.SECURE_BOOT: boot_words})


def _requests() -> tuple[bytes, ...]:
    key = RequestedKey.of(_KEY.public_key, label="root-1.pem")
    group = SignerGroup("root keys", 1, (key.keyid,))
    payload = Base64Bytes(Metadata[Root].from_bytes(_ROOT).signed_bytes)
    entry = Entry(PayloadKind.TUF, "2.root.json", ("root 2",), payload, (key,), (group,))
    return (request_bytes(SigningRequest(FORMAT, "root 2", "a new year", (entry,))),)


class _Files(FetcherInterface):
    """A repository in memory."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self._files = files

    def _fetch(self, url: str) -> Iterator[bytes]:
        path = url.removeprefix("memory:")
        if path not in self._files:
            raise DownloadHTTPError(f"no {path}", 404)
        return iter((self._files[path],))


def _site() -> tuple[dict[str, bytes], bytes]:
    made = SignedSite(Site())
    made.put(CHANNEL.target_path, CHANNEL)
    made.timestamp_expires = datetime.now(UTC) + timedelta(days=300)
    made.write()
    return made.site.files, made.root_bytes


_FILES, _ROOT = _site()
_KIND = re.compile(rb'"_type" *: *"(\w+)"')
_PLACES = {
    b"targets": "/metadata/1.targets.json",
    b"snapshot": "/metadata/1.snapshot.json",
    b"timestamp": "/metadata/timestamp.json",
    b"root": "/metadata/2.root.json",
}


def _client(data: bytes) -> None:
    """One file of a repository is replaced, the one that the data look like, and a client reads all of it."""
    said = _KIND.search(data)
    path = _PLACES.get(said[1]) if said else None
    path = path or sorted(_PLACES.values())[len(data) % len(_PLACES)]
    with tempfile.TemporaryDirectory(dir=_SCRATCH) as folder:
        updater = Updater(
            metadata_dir=folder,
            metadata_base_url="memory:/metadata/",
            target_base_url="memory:/targets/",
            fetcher=_Files({**_FILES, path: data}),
            bootstrap=_ROOT,
        )
        updater.refresh()
        info = updater.get_targetinfo(CHANNEL.target_path)
        if info is not None:
            updater.download_target(info, str(Path(folder) / "document"))


_ADDITIONS = (ADDITION.to_sign(), Addition(BootVariable.DB, AT.when, certificate_list(b"certificate")).to_sign())
_OUTCOME = Outcome(Failure.MISSING, "gone", 404, 7.0, "https://updates.example.com", "text/html")
_LISTS = hash_list([b"\xab" * 32, b"\xcd" * 32]) + certificate_list(b"certificate")
SIGNED = (
    FuzzTarget("program", _program, (pe_file(b"kernel", b"initrd"), pe_file(b"kernel", magic=0x10B))),
    FuzzTarget("signature-lists", parse_lists, (_LISTS,), (ValueError,)),
    FuzzTarget("addition", _addition, _ADDITIONS, (ValueError,)),
    FuzzTarget("reply", _reply, (packed(Reply(_OUTCOME)), packed(Reply(notice=Notice("waits"))))),
    FuzzTarget("signing-request", _request, _requests()),
    FuzzTarget(
        "client",
        _client,
        tuple(_FILES[path] for path in _PLACES.values() if path in _FILES),
        # What the agent's client translates.
        (TufRepositoryError, DownloadError),
    ),
)
