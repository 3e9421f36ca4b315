"""The firmware's own list of what to start (`Boot####`, `BootOrder`): one option for each of this host's two loaders.

Firmware that follows the specification's removable-media path on every FAT file system finds the second loader by
itself; other firmware starts only what its list names.  The list decides nothing else: which slot boots is up to names
and counters on the disk.  Options of others stay, in their order.
Source: UEFI 2.10, 3.1 (load options, boot order), 10.3.5.1 (hard drive), 10.3.5.4 (file path).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from partitions.gpt import GptEntry
from partitions.loader_conf import REMOVABLE_LOADER
from updater.agent.efi import ATTRIBUTES, GLOBAL, EfiVariables

FIRST, SECOND = "Twinhull", "Twinhull, the other slot"
ORDER = "BootOrder"
_ACTIVE = 1
_MEDIA, _HARD_DRIVE, _FILE = 4, 1, 4
_GPT, _GUID_SIGNATURE = 2, 2
_END = bytes((0x7F, 0xFF, 4, 0))
_MOST_OPTIONS = 0x1000


@dataclass(frozen=True)
class BootPlace:
    """A partition with a loader: the number of its entry in the table, from 1, and the entry."""

    number: int
    partition: GptEntry


@dataclass(frozen=True)
class Changes:
    """What to write: options by their numbers, and the order, None when it stays."""

    options: Mapping[int, bytes] = field(default_factory=dict)
    order: tuple[int, ...] | None = None


def option_of(description: str, place: BootPlace) -> bytes:
    """The value of a `Boot####` variable that starts the loader of a partition."""
    part = place.partition
    sectors = part.last_lba - part.first_lba + 1
    drive = struct.pack("<IQQ16sBB", place.number, part.first_lba, sectors, part.uuid.bytes_le, _GPT, _GUID_SIGNATURE)
    file = _text("\\" + REMOVABLE_LOADER.replace("/", "\\"))
    path = _node(_HARD_DRIVE, drive) + _node(_FILE, file) + _END
    return struct.pack("<IH", _ACTIVE, len(path)) + _text(description) + path


def changes(
    options: Mapping[int, bytes], order: Sequence[int], current: int | None, esp: BootPlace, boot: BootPlace
) -> Changes:
    """What is missing of the two options, and of their places in the order.

    Args:
        options: The options that exist, by number.
        order: In which they are tried.
        current: The one that started this boot.
        esp: The partition of the first loader.
        boot: The partition of the second one.
    """
    wanted = {name: option_of(name, place) for name, place in ((FIRST, esp), (SECOND, boot))}
    numbers: dict[str, int] = {}
    written: dict[int, bytes] = {}
    for name, value in wanted.items():
        mine = [number for number, found in sorted(options.items()) if _description(found) == name]
        number = next((each for each in mine if options[each] == value), next(iter(mine), None))
        if number is None:
            number = next(each for each in range(_MOST_OPTIONS) if each not in {*options, *written})
        numbers[name] = number
        if options.get(number) != value:
            written[number] = value
    pair = (numbers[FIRST], numbers[SECOND])
    kept = tuple(order)
    if all(number in kept for number in pair) and kept.index(pair[0]) < kept.index(pair[1]):
        return Changes(written)
    others = [number for number in kept if number not in pair]
    # Whatever the owner of the machine has first, such as a network boot, stays before what was started now.
    at = others.index(current) if current in others else 0
    return Changes(written, (*others[:at], *pair, *others[at:]))


def keep_options(variables: EfiVariables, esp: BootPlace, boot: BootPlace) -> bool:
    """Write what is missing to the firmware's memory; returns whether something was.

    Raises:
        SlotError: The firmware does not accept it.
    """
    options = {int(name[4:], 16): value for name, value in variables.matching("Boot[0-9A-F][0-9A-F][0-9A-F][0-9A-F]")}
    order = _numbers(variables.value(ORDER, GLOBAL))
    current = next(iter(_numbers(variables.value("BootCurrent", GLOBAL))), None)
    wanted = changes(options, order, current, esp, boot)
    for number, value in wanted.options.items():
        variables.write(f"Boot{number:04X}", GLOBAL, ATTRIBUTES, value)
    if wanted.order is not None:
        packed = struct.pack(f"<{len(wanted.order)}H", *wanted.order)
        variables.write(ORDER, GLOBAL, ATTRIBUTES, packed)
    return bool(wanted.options) or wanted.order is not None


def _description(option: bytes) -> str:
    text = option[6:].decode("utf-16-le", errors="replace")
    return text.partition("\0")[0]


def _numbers(value: bytes | None) -> tuple[int, ...]:
    data = value or b""
    return struct.unpack(f"<{len(data) // 2}H", data[: len(data) // 2 * 2])


def _node(kind: int, content: bytes) -> bytes:
    return struct.pack("<BBH", _MEDIA, kind, 4 + len(content)) + content


def _text(text: str) -> bytes:
    return (text + "\0").encode("utf-16-le")
