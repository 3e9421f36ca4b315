"""The table of clusters: which cluster follows which.

Source: Microsoft FAT Specification (2005), section 4.  Pure: no I/O.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterator

from partitions.errors import FatError
from partitions.fat.geometry import FIRST_CLUSTER, FatGeometry, FatKind

_FAT32_MASK = 0x0FFFFFFF
_CODES = {FatKind.FAT16: "H", FatKind.FAT32: "I"}
_BAD = {FatKind.FAT16: 0xFFF7, FatKind.FAT32: 0x0FFFFFF7}


class ClusterTable:
    """One copy of the table, as numbers."""

    def __init__(self, geometry: FatGeometry, raw: bytes) -> None:
        """Read the table's bytes.

        Raises:
            FatError: They are fewer than the clusters need.
        """
        count = geometry.cluster_count + FIRST_CLUSTER
        if len(raw) < count * geometry.kind.entry_bytes:
            raise FatError(f"a table of {len(raw)} bytes for {geometry.cluster_count} clusters")
        self._entries = array(_CODES[geometry.kind])
        self._entries.frombytes(raw[: count * geometry.kind.entry_bytes])
        if sys.byteorder == "big":
            self._entries.byteswap()
        self._mask = _FAT32_MASK if geometry.kind is FatKind.FAT32 else 0xFFFF
        self._bad = _BAD[geometry.kind]

    @property
    def clusters(self) -> range:
        """The numbers of all clusters."""
        return range(FIRST_CLUSTER, len(self._entries))

    def used(self) -> Iterator[int]:
        """The clusters that belong to something; those marked as bad are left out."""
        mask, bad = self._mask, self._bad
        for cluster in self.clusters:
            value = self._entries[cluster] & mask
            if value and value != bad:
                yield cluster

    def after(self, cluster: int) -> int | None:
        """The cluster that follows this one in its chain; None at the end.

        Raises:
            FatError: The chain goes on where no cluster is, or into a free or bad one.
        """
        value = self._entries[cluster] & self._mask
        if value > self._bad:
            return None
        if value not in self.clusters:
            what = "is marked as bad" if value == self._bad else f"is followed by {value}"
            raise FatError(f"cluster {cluster} {what}, in the middle of a chain")
        return value

    def chain(self, first: int) -> Iterator[int]:
        """The clusters of a chain, each once.

        Raises:
            FatError: It leaves the file system or comes back to itself.
        """
        if first not in self.clusters:
            raise FatError(f"a chain begins at {first}, where no cluster is")
        seen = set()
        cluster: int | None = first
        while cluster is not None:
            if cluster in seen:
                raise FatError(f"the chain from cluster {first} comes back to cluster {cluster}")
            seen.add(cluster)
            yield cluster
            cluster = self.after(cluster)
