"""How the agent speaks HTTP: one bounded connection pool for metadata and objects.

Nothing here trusts the answers: callers bound their length and check their hash.
"""

from __future__ import annotations

import urllib3

from updater.agent.config import Timeouts

USER_AGENT = "twinhull-updater"
MAX_REDIRECTS = 5
RETRYABLE_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})


def pool(timeouts: Timeouts) -> urllib3.PoolManager:
    """A pool that never retries by itself and never requests a transfer encoding."""
    return urllib3.PoolManager(
        num_pools=2,
        maxsize=2,
        timeout=urllib3.Timeout(connect=timeouts.connect, read=timeouts.read),
        retries=urllib3.Retry(total=MAX_REDIRECTS, connect=0, read=0, status=0, other=0, redirect=MAX_REDIRECTS),
        headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity"},
    )


def joined(base: str, path: str) -> str:
    """The URL of `path` below `base`, whether `base` ends in a slash or not."""
    return f"{base.rstrip('/')}/{path}"
