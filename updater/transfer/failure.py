"""The error with which a transfer ends, inside the network side."""

from __future__ import annotations

from updater.transfer.messages import Failure


class TransferError(Exception):
    """A transfer did not work; `again` says whether another try may."""

    def __init__(
        self,
        reason: str,
        *,
        failure: Failure = Failure.UNREACHABLE,
        again: bool = True,
        status: int | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(reason)
        self.failure = failure
        self.again = again
        self.status = status
        self.retry_after_s = retry_after_s
