"""A connection of the agent's to its network side, with short times, and what it logged."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from bedrock.clock import SYSTEM_CLOCK, Clock
from updater.transfer.connection import Connect, Connection
from updater.transfer.messages import FetchObject, Outcome, Reply, ServerAccess

CONTENT = os.urandom(3 << 20)
PATH = "objects/ab/abcd"
DONE = Reply(outcome=Outcome(url="http://a"))


@dataclass
class Linked:
    """A connection and what it logged."""

    connection: Connection
    said: list[str] = field(default_factory=list)

    def object(self, size_bytes: int = len(CONTENT)) -> bytes:
        got = bytearray()
        self.connection.object(FetchObject(PATH, size_bytes, 0, size_bytes), got.extend)
        return bytes(got)


def linked(connect: Connect, *urls: str, clock: Clock = SYSTEM_CLOCK, read_s: float = 5.0) -> Linked:
    said: list[str] = []
    access = ServerAccess(urls, connect_s=5.0, read_s=read_s, document_s=0.5)
    return Linked(
        Connection(connect, access, clock, said.append, slack_s=4.5, mib_within_s=5.0, unpacked_mib_within_s=2.0), said
    )
