"""A host's place in a release's rollout: the same for ever for one release, another one for the next.  Pure.

So no host is always the first, and nobody chooses which are.
"""

from __future__ import annotations

from hashlib import blake2b


def rank(host: str, release: str) -> float:
    """The place of a host in [0, 1); `release` names the bytes, as the root hash does."""
    digest = blake2b(host.encode(), digest_size=8, key=blake2b(release.encode()).digest()).digest()
    # A float holds 53 bits exactly; with more, the highest values would round up to 1.
    return (int.from_bytes(digest, "big") >> 11) / 2**53
