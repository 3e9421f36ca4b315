"""The published releases of a repository, for people: what hosts download of each, and who points to it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from partitions.version import Version
from updater.documents.release import Architecture
from updater.repository.channels import channel_names, read_channel
from updater.repository.layout import Layout
from updater.repository.metadata import load_state
from updater.repository.releases import artifacts_of, read_release, reference_to, withdrawal


@dataclass(frozen=True)
class Published:
    """A published release.

    Attributes:
        image: The image.
        version: The version.
        architecture: The architecture.
        sha256: Of its document, which is what channels name.
        wire_bytes: What a host downloads of it: for each artifact the smallest object.
        channels: The channels that name it, as their release or as their floor.
        withdrawn: Why it was withdrawn; None when it was not.
    """

    image: str
    version: Version
    architecture: Architecture
    sha256: str
    wire_bytes: int
    channels: tuple[str, ...]
    withdrawn: str | None


def list_releases(base: Path) -> tuple[Published, ...]:
    """Every published release by image and version, oldest first, trusting the repository's own root.

    Raises:
        RepositoryError: There is no repository.
        RefusedError: Signatures or hashes do not hold.
    """
    layout = Layout(base)
    state = load_state(layout, None)
    named: defaultdict[str, list[str]] = defaultdict(list)
    for name in channel_names(state):
        channel = read_channel(layout, state, name)
        for path in dict.fromkeys(channel.release_paths):
            named[path].append(name)
    found = []
    for path, target in state.releases.signed.targets.items():
        release = read_release(layout, state, path)
        sizes = [min((each.size_bytes for each in one.objects), default=0) for one in artifacts_of(release).values()]
        found.append(
            Published(
                image=release.image,
                version=release.version,
                architecture=release.architecture,
                sha256=reference_to(state, release).sha256,
                wire_bytes=sum(sizes),
                channels=tuple(named[path]),
                withdrawn=withdrawal(target),
            )
        )
    return tuple(sorted(found, key=lambda each: (each.image, each.architecture.value, each.version)))
