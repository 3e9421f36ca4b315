"""The way into a host that `ssh:` of an image definition opens.  Values only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from bedrock import strict
from updater.provision.document import SshKey

UserName = Annotated[str, strict.Pattern(r"[a-z_][a-z0-9_-]{0,31}", "a user's name")]


@dataclass(frozen=True)
class Ssh:
    """Who may log in over ssh; without keys the image gets no ssh server.

    Attributes:
        keys: Public keys.
        user: The user who logs in with them.
    """

    keys: tuple[SshKey, ...] = ()
    user: UserName = "root"

    def __post_init__(self) -> None:
        if self.user != "root" and not self.keys:
            raise ValueError(f"user {self.user} has no effect without keys")

    @property
    def packages(self) -> tuple[str, ...]:
        """The Debian packages it takes."""
        return ("openssh-server",) if self.keys else ()

    @property
    def keys_path(self) -> str:
        """Where the keys are in the image."""
        return f"/etc/ssh/authorized_keys.d/{self.user}"
