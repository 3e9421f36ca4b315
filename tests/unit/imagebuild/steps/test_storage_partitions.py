"""The partitions that a host makes at its first boot, from the definitions in its image."""

from __future__ import annotations

import re
from configparser import RawConfigParser
from pathlib import Path
from uuid import UUID

import imagebuild
from partitions.layout import MIB, STATE_BYTES, TYPE_STATE

DATA = Path(str(imagebuild.__file__)).parent / "data"
DEFINITIONS = DATA / "tree/usr/lib/repart.d"


def partition(name: str) -> dict[str, str]:
    parser = RawConfigParser()
    parser.read(DEFINITIONS / name)
    return dict(parser["Partition"])


def test_state_has_a_type_and_a_size_of_its_own() -> None:
    found = partition("60-state.conf")
    assert UUID(found["type"]) == TYPE_STATE
    assert found["sizeminbytes"] == found["sizemaxbytes"] == f"{STATE_BYTES // MIB}M"


def test_the_initrd_finds_both_by_the_labels_they_are_made_with() -> None:
    labels = {partition(path.name)["label"] for path in DEFINITIONS.iterdir()}
    script = (DATA / "initrd/usr/lib/twinhull/storage.sh").read_text()
    assert set(re.findall(r"PARTLABEL=\"(\w+)\"", script)) == labels == {"state", "var"}
