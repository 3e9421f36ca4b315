"""What a definition says that nothing in its image would act on: it must not pass for something that works.

Judged by what the built tree holds, for a package that brings a program may have come as another's dependency.
Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from imagebuild.definition.baked import template_of
from imagebuild.definition.image import ImageDefinition
from imagebuild.definition.paths import is_below
from updater.agent.health_settings import Need

_PODMAN = frozenset(("podman", "buildah", "skopeo", "cri-o"))
_DOCKER = frozenset(("docker.io", "docker-ce"))
# Folders and files of `/etc` that are read by programs of these packages alone, and the key that chooses among them.
_READERS = {
    "/etc/containers": (_PODMAN, "containers.engine"),
    "/etc/docker": (_DOCKER, "containers.engine"),
    "/etc/containerd": (_DOCKER | {"containerd", "containerd.io"}, "containers.engine"),
    "/etc/chrony": (frozenset(("chrony",)), "time"),
    "/etc/systemd/timesyncd.conf": (frozenset(("systemd-timesyncd",)), "time"),
    "/etc/systemd/timesyncd.conf.d": (frozenset(("systemd-timesyncd",)), "time"),
}
# Other units come out of what a host has: its disks and mounts.
_IN_IMAGES = (".service", ".socket", ".target", ".timer", ".path")


def unread_files(definition: ImageDefinition, packages: Collection[str]) -> Iterator[str]:
    """Files for programs that the image does not have, in words; `packages` are those it was made of."""
    for index, file in enumerate(definition.files):
        for place, (readers, key) in _READERS.items():
            if is_below(file.path.on_host, place) and not readers & set(packages):
                names = " or ".join(sorted(readers))
                yield f"files[{index}]: {file.path.on_host} is read by {names}, and the image has none of it: see {key}"


def unknown_health_units(definition: ImageDefinition, units: Collection[str]) -> Iterator[str]:
    """Units that must be active before a version is kept and that can never be, in words.

    Args:
        definition: The definition.
        units: The units of the image, those that its Quadlets become among them.
    """
    for check, settings in definition.updater.health.checks.items():
        name, where = settings.unit, f"updater.health.checks.{check}"
        if name is None or settings.need is not Need.REQUIRED:
            continue
        if name in definition.services.mask:
            yield f"{where}: {name} is masked by `services`, so that no version of this image would ever be kept"
        elif name.endswith(_IN_IMAGES) and not {name, template_of(name)} & set(units):
            yield f"{where}: the image has no unit {name}, so that no version of it would ever be kept"
