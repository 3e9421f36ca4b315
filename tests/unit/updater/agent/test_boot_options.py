"""The firmware's list: both loaders are in it, one after the other, and nothing of others is lost."""

from __future__ import annotations

import struct
from pathlib import Path
from uuid import UUID

import pytest

from partitions.gpt import GptEntry
from partitions.layout import TYPE_ESP, TYPE_XBOOTLDR
from updater.agent.boot_options import FIRST, SECOND, BootPlace, Changes, changes, keep_options, option_of
from updater.agent.efi import GLOBAL, EfiVariables

ESP = BootPlace(1, GptEntry(TYPE_ESP, UUID(int=1), 2048, 575487, 0, "esp"))
BOOT = BootPlace(2, GptEntry(TYPE_XBOOTLDR, UUID(int=2), 575488, 1624063, 0, "xbootldr"))
OURS = {7: option_of(FIRST, ESP), 8: option_of(SECOND, BOOT)}
SHELL = b"\1\0\0\0\4\0" + "UEFI Shell\0".encode("utf-16-le") + b"\x7f\xff\4\0"


def test_an_option_is_laid_out_as_the_specification_says() -> None:
    option = OURS[7]
    attributes, path_bytes = struct.unpack_from("<IH", option)
    assert attributes == 1
    text, path = option[6:-path_bytes], option[-path_bytes:]
    assert text.decode("utf-16-le") == "Twinhull\0"
    # The hard drive node: 42 bytes, partition, start and size in sectors, GUID as on the disk, GPT.
    assert struct.unpack_from("<BBHIQQ", path) == (4, 1, 42, 1, 2048, 573440)
    assert path[24:42] == UUID(int=1).bytes_le + b"\2\2"
    kind, sub, length = struct.unpack_from("<BBH", path, 42)
    assert (kind, sub) == (4, 4)
    assert path[46 : 42 + length].decode("utf-16-le") == "\\EFI\\BOOT\\BOOTX64.EFI\0"
    assert path[42 + length :] == b"\x7f\xff\4\0"


@pytest.mark.parametrize(
    ("order", "current", "wanted"),
    [
        ((), None, (0, 1)),
        ((3, 4), None, (0, 1, 3, 4)),
        ((3, 4), 4, (3, 0, 1, 4)),
        ((3, 4), 9, (0, 1, 3, 4)),
    ],
)
def test_new_options_come_right_before_what_was_started(
    order: tuple[int, ...], current: int | None, wanted: tuple[int, ...]
) -> None:
    options = dict.fromkeys(order, SHELL)
    found = changes(options, order, current, ESP, BOOT)
    assert found.order == wanted
    assert found.options == {0: OURS[7], 1: OURS[8]}


def test_a_list_that_has_both_in_their_order_stays() -> None:
    assert changes({3: SHELL, **OURS}, (7, 3, 8), 7, ESP, BOOT) == Changes()


def test_an_owners_choice_of_another_system_stays() -> None:
    assert changes({3: SHELL, **OURS}, (3, 7, 8), 3, ESP, BOOT) == Changes()


def test_options_of_an_earlier_identity_are_written_again_under_their_numbers() -> None:
    old = {7: option_of(FIRST, BOOT), 8: OURS[8]}
    assert changes(old, (7, 8), 7, ESP, BOOT) == Changes({7: OURS[7]})


def test_the_second_after_the_first_whatever_the_order_was() -> None:
    assert changes(dict(OURS), (8, 7), 8, ESP, BOOT).order == (7, 8)


def test_variables_are_written_once(tmp_path: Path) -> None:
    variables = EfiVariables(tmp_path)
    (tmp_path / f"BootOrder-{GLOBAL}").write_bytes(b"\7\0\0\0\3\0")
    (tmp_path / f"BootCurrent-{GLOBAL}").write_bytes(b"\6\0\0\0\3\0")
    (tmp_path / f"Boot0003-{GLOBAL}").write_bytes(b"\7\0\0\0" + SHELL)
    assert keep_options(variables, ESP, BOOT)
    assert (tmp_path / f"BootOrder-{GLOBAL}").read_bytes() == b"\7\0\0\0" + struct.pack("<3H", 0, 1, 3)
    assert (tmp_path / f"Boot0000-{GLOBAL}").read_bytes() == b"\7\0\0\0" + OURS[7]
    assert not keep_options(variables, ESP, BOOT)
