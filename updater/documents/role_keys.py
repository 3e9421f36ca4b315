"""The keys that root and targets metadata give to roles: one public key counts once, and a threshold is a number.

Libraries count a public key twice that is listed under two ids, and read `threshold: true` as 1.
Pure: no I/O.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any


def role_key_problems(raw: bytes) -> tuple[str, ...]:
    """What is wrong with the roles that a signed document delegates to; none when it delegates to nobody.

    Args:
        raw: The document in JSON, with its signatures (TUF specification 1.0.34, section 4).
    """
    try:
        signed = json.loads(raw).get("signed")
    except (ValueError, AttributeError):
        return ("it is not a signed document",)
    return tuple(_problems(signed)) if isinstance(signed, Mapping) else ("it is not a signed document",)


def _problems(signed: Mapping[str, Any]) -> Iterator[str]:
    holder = signed if "roles" in signed else signed.get("delegations") or {}
    keys, roles = holder.get("keys") or {}, holder.get("roles") or {}
    named = roles.items() if isinstance(roles, Mapping) else [(role.get("name"), role) for role in roles]
    for name, role in named:
        if type(role.get("threshold")) is not int:
            yield f"the threshold of the role {name} is {role.get('threshold')!r}, not a number"
        seen: dict[str, str] = {}
        for keyid in role.get("keyids") or ():
            public = json.dumps((keys.get(keyid) or {}).get("keyval"), sort_keys=True)
            if seen.setdefault(public, keyid) != keyid:
                yield f"the role {name} has one public key under two ids, {seen[public]} and {keyid}"
