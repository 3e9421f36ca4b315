"""The files that `image.yaml`'s keys become in the image: configuration in the formats that systemd reads.

Pure: values in, paths and bytes out.  Not here: content of `files` and `units`, which a definition writes itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from imagebuild.definition.host import ImageUser
from imagebuild.definition.image import ImageDefinition
from imagebuild.definition.paths import is_below, on_host, tmpfiles_word

SYSUSERS_FILE = "/usr/lib/sysusers.d/10-image.conf"
TMPFILES_FILE = "/usr/lib/tmpfiles.d/10-image.conf"
MODULES_FILE = "/usr/lib/modules-load.d/10-image.conf"
# After those of Debian and of every Twinhull image, so that the definition has the last word.
SYSCTL_FILE = "/usr/lib/sysctl.d/90-image.conf"
PRESET_FILE = "/usr/lib/systemd/system-preset/10-image.preset"
HOSTNAME_FILE = "/etc/hostname"
_MASKS = "/etc/systemd/system"


@dataclass(frozen=True)
class Baked:
    """What the keys of a definition become: text files and links by their path in the image."""

    files: dict[str, str]
    links: dict[str, str]


def baked(definition: ImageDefinition) -> Baked:
    """The files and links that stand for a definition's keys."""
    texts = {
        SYSUSERS_FILE: "".join(f"{line}\n" for line in _accounts(definition)),
        TMPFILES_FILE: "".join(f"{line}\n" for line in _made_at_boot(definition)),
        MODULES_FILE: "".join(f"{name}\n" for name in definition.modules),
        SYSCTL_FILE: "".join(f"{name} = {value.strip()}\n" for name, value in definition.sysctl.items()),
        PRESET_FILE: presets(definition),
        HOSTNAME_FILE: f"{definition.hostname}\n" if definition.hostname else "",
    }
    masks = {f"{_MASKS}/{name}": "/dev/null" for name in definition.services.mask}
    return Baked({path: text for path, text in texts.items() if text}, masks)


def definition_paths(definition: ImageDefinition) -> frozenset[str]:
    """Everything that is in an image because `image.yaml` says so, packages left aside."""
    made = baked(definition)
    given = (*(file.path.in_image for file in definition.files), *(unit.path for unit in definition.units))
    return frozenset((*given, *made.files, *made.links))


def presets(definition: ImageDefinition) -> str:
    """A systemd preset file: the definition's own units, then what it says of those of packages."""
    own = [
        ("enable" if unit.presettable else "disable", unit.name)
        for unit in definition.units
        if unit.path.startswith("/usr/lib/systemd/system/")
    ]
    services = definition.services
    said = [("enable", name) for name in services.enable]
    said += [("disable", name) for name in (*services.disable, *services.mask)]
    # Last, so that the definition can switch off what it chose.
    chosen = [("enable", name) for part in definition.chosen for name in part.units]
    return "".join(f"{verb} {_preset_name(name)}\n" for verb, name in (*said, *own, *chosen))


def template_of(unit: str) -> str:
    """The file that a unit's name stands for: an instance has that of its template."""
    stem, _, suffix = unit.rpartition(".")
    name, at, _ = stem.partition("@")
    return f"{name}{at}.{suffix}"


def _preset_name(unit: str) -> str:
    """A unit as preset files name it: the instances of a template follow its name."""
    stem, _, _ = unit.rpartition(".")
    instance = stem.partition("@")[2]
    return f"{template_of(unit)} {instance}" if instance else unit


def _accounts(definition: ImageDefinition) -> Iterator[str]:
    for group in definition.groups:
        yield f"g {group.name} {_number(group.id)}"
    for user in definition.users:
        number = _number(user.id)
        if user.group not in (None, user.name):
            yield f"g {user.group} -"
            number = f"{number}:{user.group}"
        home = str(user.home) if user.home else "-"
        yield f'u {user.name} {number} "{user.comment}" {home} {user.shell}'
        for member_of in user.groups:
            # A group that nobody made is made on the way.
            yield f"m {user.name} {member_of}"


def _made_at_boot(definition: ImageDefinition) -> Iterator[str]:
    for file in definition.files:
        if file.path.made_at_boot:
            yield f"C {tmpfiles_word(file.path.on_host)} {file.mode} root root - {tmpfiles_word(file.path.in_image)}"
    for user in definition.users:
        if (home := _own_home(user)) is not None:
            yield f"d {tmpfiles_word(home)} 0700 {user.name} {user.group or user.name} -"


def _own_home(user: ImageUser) -> str | None:
    """A home folder that is made on the host: one below `/var` that is not a folder of the system."""
    if user.home is None:
        return None
    home = on_host(user.home)
    shared = {"/var", "/var/lib", "/var/cache", "/var/log", "/var/spool", "/var/home", "/var/opt", "/var/srv"}
    return home if is_below(home, "/var") and home not in shared | {"/var/roothome", "/var/empty"} else None


def _number(number: int | None) -> str:
    return "-" if number is None else str(number)
