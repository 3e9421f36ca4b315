"""Puts together what `updater etc-diff` shows of a host, and remembers the edits of this moment."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from updater.agent.etcdiff import origins
from updater.agent.etcdiff.comparing import EtcDifferences, Wanted, differences, refused
from updater.agent.etcdiff.layers import host_layer, refused_layer
from updater.agent.host_paths import HostPaths
from updater.etc_policy import EtcPolicy
from updater.provision.record import ProvisionRecord


@dataclass(frozen=True)
class HostEtc:
    """`/etc` of a host: where its layers are, the version that runs, and what outlives a boot."""

    paths: HostPaths
    version: str
    policy: EtcPolicy

    def note(self, image: Path, record: ProvisionRecord) -> tuple[str, ...]:
        """Remember on the disk which edits there are and what they were made to.

        Args:
            image: The image's own root.
            record: Which document is in force.

        Returns:
            The names that were refused at the last boot that refused something.
        """
        origins.note(self.paths.state, host_layer(self.paths), image / "etc", self.version)
        return self._refused(record)

    def overview(self, image: Path, record: ProvisionRecord, wanted: Wanted) -> EtcDifferences:
        """Every difference and what was refused at the boot.  Remembers the edits on the disk where it can."""
        upper = host_layer(self.paths)
        edits = origins.read_edits(upper, image / "etc")
        try:
            known = origins.note(self.paths.state, upper, image / "etc", self.version)
        except OSError:
            # A disk that cannot be written keeps nobody from looking.
            known = origins.load(self.paths.state)
        found = differences(edits, known.files, self.policy, _provisioned(record), wanted)
        return EtcDifferences(self.policy.mode.value, found, self._refused(record))

    def _refused(self, record: ProvisionRecord) -> tuple[str, ...]:
        return refused(refused_layer(self.paths), host_layer(self.paths), self.policy, _provisioned(record))


def _provisioned(record: ProvisionRecord) -> set[str]:
    """What a document brings again at each boot, by its path below `/etc`."""
    written = record.applied.files if record.applied is not None and record.applied.signed_by is not None else {}
    return {path.removeprefix("/etc/") for path in written if path.startswith("/etc/")}
