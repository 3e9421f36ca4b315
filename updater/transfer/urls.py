"""URLs of an update server: joined, and shown without their passwords.  Pure: no I/O."""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit


def shown(url: str) -> str:
    """A URL without user and password, for people; what cannot be read as one is not shown."""
    try:
        parts = urlsplit(url)
        return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    except ValueError:
        return "(not a URL)"


def joined(base: str, path: str) -> str:
    """The URL of `path` below `base`, whether `base` ends in a slash or not."""
    return f"{base.rstrip('/')}/{path}"
