"""What the guest says it touched."""

from __future__ import annotations

import base64
import re

import pytest

from imagebuild.errors import TrimError
from imagebuild.trim.page_cache import CANARY, Sample, delivery, read_sample, union
from tests.fakes.trees import sample_text


def test_files_and_modules_are_read() -> None:
    sample = read_sample(sample_text("/usr/bin/podman", modules=("overlay", "dm_verity")))
    assert sample == Sample(frozenset({CANARY, "/usr/bin/podman"}), frozenset({"overlay", "dm_verity"}))


def test_escaped_names_are_read_as_they_are() -> None:
    sample = read_sample(sample_text(r"/usr/a\x20b", r"/usr/system\x5cx2d.slice", r"/usr/\xc3\xa9"))
    assert {"/usr/a b", r"/usr/system\x2d.slice", "/usr/é"} <= sample.files


def test_output_whose_beginning_was_cut_off_is_refused() -> None:
    with pytest.raises(TrimError, match="not whole"):
        read_sample(sample_text("/usr/bin/podman").split("\n", 3)[3])


def test_output_whose_end_is_missing_is_refused() -> None:
    with pytest.raises(TrimError, match="not whole"):
        read_sample(sample_text("/usr/bin/podman").removesuffix("twinhull-sample end\n"))


def test_no_output_is_refused() -> None:
    with pytest.raises(TrimError, match="not whole"):
        read_sample("")


def test_a_record_without_pid_1_is_refused() -> None:
    with pytest.raises(TrimError, match=r"systemd/systemd is not in the page cache"):
        read_sample(sample_text().replace(f"file 4096 {CANARY}\n", ""))


def test_files_that_fincore_left_out_are_told() -> None:
    with pytest.raises(TrimError, match="did not answer for every file of the host: 100 99"):
        read_sample(sample_text(asked=(100, 99)))


def test_pages_that_were_dropped_are_told_with_the_way_out() -> None:
    with pytest.raises(TrimError, match="pgsteal_kswapd 7") as caught:
        read_sample(sample_text(lost=7))
    assert caught.value.hints == ("give the machine more memory (--memory)",)


def test_missing_counters_are_no_proof_that_nothing_was_dropped() -> None:
    with pytest.raises(TrimError, match="dropped pages"):
        read_sample(re.sub(r"lost .*\n", "", sample_text()))


@pytest.mark.parametrize("line", ["find: '/x': Permission denied", "file many /x", "file 4096 x"])
def test_anything_else_in_between_is_refused(line: str) -> None:
    with pytest.raises(TrimError, match=r"holds|answered"):
        read_sample(sample_text().replace("names", f"{line}\nnames"))


def test_what_was_seen_once_counts() -> None:
    one, two = (Sample(frozenset({name}), frozenset({f"m{name}"})) for name in "ab")
    assert union((one, two)) == Sample(frozenset("ab"), frozenset({"ma", "mb"}))


def test_the_program_arrives_whole_and_in_pieces() -> None:
    program = bytes(range(256)) * 120
    commands = list(delivery(program))
    pieces = [match[1] for command in commands if (match := re.match(r"printf %s (\S+) ", command))]
    assert b"".join(map(base64.b64decode, pieces)) == program
    assert len(pieces) > 1
    assert f"-eq {len(program)} ]" in commands[-1]
