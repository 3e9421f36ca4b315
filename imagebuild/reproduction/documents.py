"""Where two JSON documents differ, by the path of each value.

Pure.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

_SHOWN_LENGTH = 60


def places(old: object, new: object) -> Iterator[str]:
    """The values that came, went or changed from `old` to `new`; a list of another length is one change."""
    yield from _values("", old, new)


def _values(path: str, old: object, new: object) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            name = f"{path}.{key}" if path else str(key)
            if key not in new or key not in old:
                yield f"{name}: {'gone' if key in old else 'new'}"
            else:
                yield from _values(name, old[key], new[key])
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (before, after) in enumerate(zip(old, new, strict=True)):
            yield from _values(f"{path}[{index}]", before, after)
    elif old != new:
        yield f"{path}: {_short(old)} -> {_short(new)}"


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN_LENGTH else f"{text[:_SHOWN_LENGTH]}…"
