"""What the agent asks its network side for, and how that ends.  Pure: no I/O.

Each message is one packet of JSON.  A request comes with the writing end of a pipe, `Unpack` also with an open file;
the bytes go through the pipe, and the outcome is one packet after them.  Notices may come before it.
Both ends are of one image, so there is no version here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Annotated

from bedrock import strict

MAX_PACKET_BYTES = 192 << 10
MAX_CA_BYTES = 128 << 10
REASON_LIMIT = 1000
# Of one request; who says more than this has nothing to say.
MOST_NOTICES = 50
# A server that asks for more is asked again by the next poll.
LONGEST_RETRY_AFTER_S = 600.0


class Failure(Enum):
    """Why a request ended without all of its bytes."""

    UNREACHABLE = "unreachable"
    MISSING = "missing"
    WRONG = "wrong"
    DAMAGED = "damaged"


@dataclass(frozen=True)
class ServerAccess:
    """How servers are reached.

    Attributes:
        urls: Base URLs of the same repository, in the order in which they are asked.
        proxies: The proxy of each scheme (`http`, `https`).
        no_proxy: Hosts that are reached without one, as in the environment variable.
        ca: More certificates to trust, as PEM.
        bytes_per_s: How fast objects may come; None for no limit.
        connect_s: How long making a connection may take, and the server's first word after it.
        read_s: How long a transfer may bring nothing.
        document_s: How long one document may take in whole, with all its tries.
    """

    urls: tuple[str, ...] = field(repr=False)
    proxies: dict[str, str] = field(default_factory=dict, repr=False)
    no_proxy: str = ""
    ca: str = field(default="", repr=False)
    bytes_per_s: int | None = None
    connect_s: float = 10.0
    read_s: float = 30.0
    document_s: float = 120.0


@dataclass(frozen=True)
class Fetch:
    """A document of unknown length: its bytes, at most `limit` of them and one more, which shows that it is longer."""

    path: str
    limit: Annotated[int, strict.Range(1, 64 << 20)]


@dataclass(frozen=True)
class FetchObject:
    """The bytes of an object of `size_bytes` from `start` up to `stop`."""

    path: str
    size_bytes: int
    start: int
    stop: int


@dataclass(frozen=True)
class Unpack:
    """The raw bytes of the zstd file that comes with the request, at most `raw_bytes` of them and one more piece."""

    raw_bytes: int


@dataclass(frozen=True)
class Request:
    """One request; exactly one of the last three is given."""

    access: ServerAccess
    fetch: Fetch | None = None
    fetch_object: FetchObject | None = None
    unpack: Unpack | None = None


@dataclass(frozen=True)
class Outcome:
    """How a request ended.

    Attributes:
        failure: None when every byte was written to the pipe.
        reason: In words, without any password of a URL.
        status: The status code that a server answered with, if that is what failed.
        retry_after_s: How long the server asked to be left alone.
        url: The base URL that the bytes came from, without a password.
        content_type: What the server calls a document.
    """

    failure: Failure | None = None
    reason: str = ""
    status: Annotated[int, strict.Range(100, 999)] | None = None
    retry_after_s: Annotated[float, strict.Range(0, LONGEST_RETRY_AFTER_S)] | None = None
    url: str = ""
    content_type: str = ""


@dataclass(frozen=True)
class Notice:
    """Something to be logged while a request goes on, such as a pause that a server asked for."""

    text: str


@dataclass(frozen=True)
class Reply:
    """One packet of the network side: a notice or the outcome."""

    outcome: Outcome | None = None
    notice: Notice | None = None

    def __post_init__(self) -> None:
        if (self.outcome is None) == (self.notice is None):
            raise ValueError("must be an outcome or a notice")


def plain(text: str) -> str:
    """What the network side says, as it may be shown and kept: one line of bounded length, without control codes."""
    return "".join(each if each.isprintable() else "?" for each in text[:REASON_LIMIT])


def packed(message: Request | Reply) -> bytes:
    """The packet of a message.

    Raises:
        ValueError: It is too long for one.
    """
    data = strict.dump_json(message)
    if len(data) > MAX_PACKET_BYTES:
        raise ValueError(f"the message is {len(data)} bytes long, at most {MAX_PACKET_BYTES} fit a packet")
    return data


def read_request(data: bytes) -> Request:
    """Read a request.

    Raises:
        DocumentError: It is not one.
    """
    return strict.read_json(Request, data, source="the agent's request")


def read_reply(data: bytes) -> Reply:
    """Read an answer.

    Raises:
        DocumentError: It is not one.
    """
    return strict.read_json(Reply, data, source="the answer of the agent's network side")
