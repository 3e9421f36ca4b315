"""The host settings of `image.yaml`: name and time zone, users, modules, kernel settings, services.

Values only.  Not here: the files they become (`baked.py`), and whether the image can hold what they name, which is
known once its packages are installed (`imagebuild.content`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

from bedrock import strict
from imagebuild.definition.paths import AbsolutePath

UTC = "UTC"
# Those below are Debian's own fixed ones; those above 60000 are handed out by systemd while it runs.
_FIRST_ID, _LAST_ID = 100, 60_000
NOLOGIN = AbsolutePath("/usr/sbin/nologin")

HostName = Annotated[
    str,
    strict.Pattern(
        r"(?=.{1,64}$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*",
        "a host name of a-z, 0-9, - and dots, at most 64 long",
    ),
]
TimeZone = Annotated[
    str, strict.Pattern(r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+){0,2}", "a time zone such as Europe/Berlin")
]
Locale = Annotated[
    str, strict.Pattern(r"C\.UTF-8|[a-z]{2,3}_[A-Z]{2}\.UTF-8(@[a-z]+)?", "a locale such as C.UTF-8 or de_DE.UTF-8")
]
ModuleName = Annotated[str, strict.Pattern(r"[A-Za-z0-9_-]{1,64}", "a kernel module's name such as br_netfilter")]
SysctlName = Annotated[
    str,
    strict.Pattern(r"-?[a-z][a-z0-9_]*([./][A-Za-z0-9_*-]+)+", "a kernel setting such as net.ipv4.ip_forward"),
]
SysctlValue = Annotated[str, strict.OrNumber(), strict.Pattern(r"[^\n#;]*\S[^\n#;]*", "one line of text or a number")]
ServiceName = Annotated[
    str,
    strict.Pattern(
        r"[A-Za-z0-9:_.@\\-]{1,200}\.(service|socket|timer|path|target|mount|automount|swap|slice)",
        "a unit's whole name such as ssh.service",
    ),
]
AccountName = Annotated[str, strict.Pattern(r"[a-z_][a-z0-9_-]{0,30}", "a name of a-z, 0-9, _ and -, at most 31 long")]
AccountId = Annotated[int, strict.Range(_FIRST_ID, _LAST_ID)]
Comment = Annotated[str, strict.Pattern(r"[^:\"\\\n]*", 'one line without :, " and \\')]


@dataclass(frozen=True)
class ImageUser:
    """A user of the image, or the id of one that a package makes.

    Attributes:
        name: Its name.
        id: The ids of the user and of the group with the same name; derived from the name when left out.
        group: Its primary group, if not the one with its own name.
        groups: Additional groups.
        home: Its home folder; below a folder in `/var` the first boot makes it.
        shell: Its login shell.
        comment: What it is for.
    """

    name: AccountName
    id: AccountId | None = None
    group: AccountName | None = None
    groups: tuple[AccountName, ...] = ()
    home: AbsolutePath | None = None
    shell: AbsolutePath = NOLOGIN
    comment: Comment = ""

    def __post_init__(self) -> None:
        if self.home is not None and any(sign in str(self.home) for sign in ':"\\'):
            raise ValueError(f'home {str(self.home)!r} must not hold :, " or \\')


@dataclass(frozen=True)
class Group:
    """A group of the image, or the id of one that a package makes.

    Attributes:
        name: Its name.
        id: Its id; derived from the name when left out.
    """

    name: AccountName
    id: AccountId | None = None


@dataclass(frozen=True)
class Services:
    """Units of packages that start at boot, that do not, and that cannot be started at all.

    Attributes:
        enable: Units that start at boot.
        disable: Units that do not start; naming them here silences the build's reminder.
        mask: Units that nothing can start.
    """

    enable: tuple[ServiceName, ...] = ()
    disable: tuple[ServiceName, ...] = ()
    mask: tuple[ServiceName, ...] = ()

    def __post_init__(self) -> None:
        if doubled := _doubled((*self.enable, *self.disable, *self.mask)):
            raise ValueError(f"{', '.join(doubled)} is named more than once in enable, disable and mask")


@dataclass(frozen=True)
class Secrets:
    """Files that are in the image on purpose although they hold a private key or a password.

    Attributes:
        allow: Their paths.
    """

    allow: tuple[AbsolutePath, ...] = ()


def account_problems(users: Iterable[ImageUser], groups: Iterable[Group]) -> tuple[str, ...]:
    """Problems of users and groups together."""
    users, groups = tuple(users), tuple(groups)
    problems = [f"users holds {name} more than once" for name in _doubled(user.name for user in users)]
    problems += [f"groups holds {name} more than once" for name in _doubled(group.name for group in groups)]
    for kind, accounts in (("users", users), ("groups", groups)):
        taken: dict[int, str] = {}
        for account in accounts:
            if account.id is not None and (other := taken.setdefault(account.id, account.name)) != account.name:
                problems.append(f"{kind} gives the id {account.id} to {other} and to {account.name}")
    ids = {group.name: group.id for group in groups}
    problems += [
        f"{user.name} has the id {user.id} in users and {ids[user.name]} in groups; a name has one id"
        for user in users
        if user.id is not None and ids.get(user.name) not in (None, user.id)
    ]
    return tuple(problems)


def _doubled(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(name for name, count in Counter(names).items() if count > 1)
