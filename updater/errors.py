"""Errors of the update path.

    UpdaterError                 1
    ├── RepositoryError          1  the repository on disk cannot be read or written as asked
    │   ├── ConflictError        1  published before with other content
    │   └── OutgrownError        1  a release does not fit the slots of hosts in the field
    ├── RefusedError             3  verification failed: signature, expiry, rollback, hash, length, wrong image
    ├── FetchError               1  the update server is unreachable or gave an invalid answer
    ├── NetworkSideError         1  the agent's own network side does not work
    ├── SlotError                1  a slot or boot entry could not be written or is not what it should be
    │   └── NoSpaceError         1  too small: slot, boot partition, disk
    ├── FirmwareError            1  the firmware does not take a change of its variables
    ├── StorageError             1  the containers' storage could not be checked
    ├── BusyError                1  another update is running
    ├── PutOffError              1  a download stopped, for a version that is staged reboots first
    └── PolicyError              1  the plan forbids it: unblessed, pinned, held, known bad, older than allowed

The numbers are the exit codes of the programs.
"""

from __future__ import annotations

from bedrock.errors import EXIT_REFUSED, TwinhullError


class UpdaterError(TwinhullError):
    """The root of this package's errors."""


class RepositoryError(UpdaterError):
    """The repository on disk cannot be read or written as requested."""


class ConflictError(RepositoryError):
    """This version was published before with other content."""


class OutgrownError(RepositoryError):
    """A release does not fit the slots of hosts in the field."""


class RefusedError(UpdaterError):
    """Verification failed; nothing was accepted."""

    exit_code = EXIT_REFUSED


class FetchError(UpdaterError):
    """The update server is unreachable or gave an invalid answer.

    `status` is the status code of HTTP that it answered with; `retry_after_s` how long it asked to be left alone.
    """

    def __init__(self, message: str, *, status: int | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after_s = retry_after_s


class NetworkSideError(UpdaterError):
    """The agent's own network side does not work; it says nothing of any server."""


class SlotError(UpdaterError):
    """A slot or a boot entry could not be written or is not what it should be."""


class NoSpaceError(SlotError):
    """A slot, the boot partition or the disk is too small."""


class FirmwareError(UpdaterError):
    """The firmware does not take a change of its variables."""


class StorageError(UpdaterError):
    """The containers' storage could not be checked."""


class BusyError(UpdaterError):
    """Another update is running on this host."""


class PutOffError(UpdaterError):
    """A download stopped, for a version that is staged reboots first; the next one goes on where it stopped."""


class PolicyError(UpdaterError):
    """The plan forbids it: unblessed, pinned, held, known bad, or older than allowed."""
