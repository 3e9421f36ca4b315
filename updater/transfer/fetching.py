"""What a worker fetches from servers; those that failed are remembered for as long as it lasts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from bedrock.clock import Clock
from updater.transfer import documents, objects
from updater.transfer.http import Http
from updater.transfer.messages import Failure, Outcome, Request, ServerAccess
from updater.transfer.servers import Servers
from updater.transfer.urls import shown


@dataclass(frozen=True)
class Fetching:
    """The servers of one access, and the connections to them."""

    http: Http
    servers: Servers

    @classmethod
    def of(cls, access: ServerAccess, clock: Clock, say: Callable[[str], None]) -> Self:
        """No connection is made yet; `say` is given what a person should know."""
        return cls(Http(access), Servers(list(access.urls), clock, say))

    @property
    def access(self) -> ServerAccess:
        """How the servers are reached."""
        return self.http.access

    def served(self, request: Request, pass_on: Callable[[bytes], None]) -> Outcome:
        """Pass on what is asked for.

        Raises:
            TransferError: It could not be fetched.
        """
        if request.fetch is not None:
            found = documents.fetch(request.fetch, self.http, self.servers)
            pass_on(found.content)
            return Outcome(url=shown(found.url), content_type=found.content_type)
        if request.fetch_object is not None:
            return Outcome(url=shown(objects.fetch_object(request.fetch_object, self.http, self.servers, pass_on)))
        return Outcome(Failure.WRONG, "the request asks for nothing")
