"""Ids of users and groups that are the same in every version of an image.

Debian's packages take the next free id when they are installed, so one more package gives other ids to those that
follow, and files in a host's `/var` belong to somebody else after an update.  Here an id is a function of the name
alone, unless `image.yaml` sets it (`users`, `groups`): this needs no record that somebody could forget to keep.  Two
names with the same id fail the build, and the error gives the line that resolves the conflict.

All users and groups of the image go into one sysusers.d file: a host that edited `/etc/passwd` has its own copy above
the image's, and systemd-sysusers adds the missing ones to it, with the same ids.
Pure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from imagebuild.definition.host import Group, ImageUser
from imagebuild.errors import BuildError

SYSUSERS_FILE = "/usr/lib/sysusers.d/twinhull.conf"
# Debian gives its fixed ids up to 99 to names that are the same on every system, and 100 to the group `users`.
_FIRST_OWN, _LAST_OWN = 100, 999
_FIXED = {"users": 100}
# With this seed no two users or groups of well-known packages have the same id (a test checks them).
_FIRST, _COUNT, _SEED = 200, 790, "5363"
_EXPIRED = "1"


@dataclass(frozen=True)
class Ids:
    """Ids by name."""

    users: dict[str, int]
    groups: dict[str, int]


@dataclass(frozen=True)
class SettledAccounts:
    """Accounts with their final ids.

    Attributes:
        passwd: The text of `/etc/passwd`.
        group: The text of `/etc/group`.
        ids: The ids of all users and groups.
        users: New ids of users by their old ones; unchanged ones are left out.
        groups: The same of groups.
    """

    passwd: str
    group: str
    ids: Ids
    users: dict[int, int]
    groups: dict[int, int]


def derived_id(name: str) -> int:
    """The id derived from a name, from 200 to 989."""
    digest = hashlib.sha256(f"{_SEED}{name}".encode()).digest()
    return _FIRST + int.from_bytes(digest[:8], "big") % _COUNT


def settle_ids(passwd: str, group: str, users: Iterable[ImageUser], groups: Iterable[Group]) -> SettledAccounts:
    """Give all accounts of the image their final ids.

    Args:
        passwd: `/etc/passwd` as the packages left it.
        group: `/etc/group`, likewise.
        users: Those of the definition.
        groups: Those of the definition.

    Raises:
        BuildError: Two names have the same id, or the definition sets an id that cannot be changed.
    """
    wanted = {group.name: group.id for group in groups if group.id is not None}
    wanted |= {user.name: user.id for user in users if user.id is not None}
    people = [line.split(":") for line in passwd.splitlines() if line]
    teams = [line.split(":") for line in group.splitlines() if line]
    problems = [*_unsettable(wanted, people), *_unsettable(wanted, teams)]
    found = Ids(_numbers(people, wanted), _numbers(teams, wanted))
    for kind, numbers in (("users", found.users), ("groups", found.groups)):
        problems += _clashes(kind, numbers, wanted)
    if problems:
        raise BuildError("\n".join(("the image's users and groups cannot get their ids", *dict.fromkeys(problems))))
    new_users = {int(row[2]): found.users[row[0]] for row in people}
    new_groups = {int(row[2]): found.groups[row[0]] for row in teams}
    return SettledAccounts(
        passwd="".join(
            ":".join((*row[:2], str(new_users[int(row[2])]), str(new_groups.get(int(row[3]), int(row[3]))), *row[4:]))
            + "\n"
            for row in people
        ),
        group="".join(":".join((*row[:2], str(new_groups[int(row[2])]), *row[3:])) + "\n" for row in teams),
        ids=found,
        users={old: new for old, new in new_users.items() if old != new},
        groups={old: new for old, new in new_groups.items() if old != new},
    )


def sysusers_text(passwd: str, group: str, shadow: str) -> str:
    """Every account of the image in the format of sysusers.d, ids included."""
    teams = [line.split(":") for line in group.splitlines() if line]
    expired = {row[0] for row in (line.split(":") for line in shadow.splitlines()) if row[7:8] == [_EXPIRED]}
    lines = ["# Every user and group of this image, also for hosts with an /etc/passwd of their own."]
    lines += [f"g {name} {number}" for name, _, number, *_ in teams]
    for name, _, user, first, comment, home, shell in (line.split(":") for line in passwd.splitlines() if line):
        letter = "u!" if name in expired else "u"
        lines.append(f'{letter} {name} {user}:{first} "{comment}" {home or "-"} {shell or "-"}')
    lines += [f"m {member} {name}" for name, _, _, members, *_ in teams for member in members.split(",") if member]
    return "".join(f"{line}\n" for line in lines)


def changed_ids(before: Ids, now: Ids, version: str) -> tuple[str, ...]:
    """Problems for accounts whose id differs from the earlier version."""
    pairs = (("users", before.users, now.users), ("groups", before.groups, now.groups))
    return tuple(
        f"{name} has the id {new[name]}, and had {old[name]} in {version}:"
        f" write {kind}: [{{name: {name}, id: {old[name]}}}]"
        for kind, old, new in pairs
        for name in sorted(old.keys() & new.keys())
        if old[name] != new[name] and not (kind == "groups" and before.users.get(name) == old[name])
    )


def _numbers(rows: Iterable[list[str]], wanted: Mapping[str, int]) -> dict[str, int]:
    return {row[0]: wanted.get(row[0], derived_id(row[0])) if _is_own(row) else int(row[2]) for row in rows}


def _is_own(row: list[str]) -> bool:
    """Whether an account's id was assigned during installation; the definition's accounts may have any id."""
    return _FIRST_OWN <= int(row[2]) <= _LAST_OWN and row[0] not in _FIXED


def _unsettable(wanted: Mapping[str, int], rows: Iterable[list[str]]) -> Iterator[str]:
    for row in rows:
        name, number = row[0], int(row[2])
        if name in wanted and not _is_own(row) and number != wanted[name]:
            yield f"{name} has the id {number} on every Debian system, and image.yaml gives it {wanted[name]}"


def _clashes(kind: str, numbers: Mapping[str, int], wanted: Mapping[str, int]) -> Iterator[str]:
    """Problems for names with the same id, with the line of `image.yaml` that resolves them."""
    owners: dict[int, list[str]] = {}
    for name, number in sorted(numbers.items()):
        owners.setdefault(number, []).append(name)
    for number, names in owners.items():
        if len(names) > 1:
            free = next(each for each in range(number + 1, number + _COUNT) if each not in owners)
            # The line names an account whose id is not set yet.
            name = next((each for each in reversed(names) if each not in wanted), names[-1])
            yield (
                f"{' and '.join(names)} both get the id {number}; write {kind}: [{{name: {name}, id: {free}}}]"
                " into image.yaml and keep it in every later version"
            )
