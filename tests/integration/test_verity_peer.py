"""Our verity trees against `veritysetup`, byte for byte and in both directions."""

from __future__ import annotations

import io
import random
from pathlib import Path
from uuid import UUID

import pytest

from bedrock.errors import ProcessError
from bedrock.process import Finished
from imagebuild.inputs.tools import Access, ToolsTree
from partitions.blockio import FileBlockDevice
from partitions.errors import VerityError
from partitions.verity import BLOCK_SIZE, Superblock, build_tree, verify

TREE_UUID = UUID("0a1b2c3d-4e5f-4a6b-8c7d-9e0f1a2b3c4d")
SALT = bytes(range(32))
SIZES = (1, 2, 128, 129, 1000, 128 * 128, 128 * 128 + 1)


def veritysetup(tools: ToolsTree, verb: str, data: Path, tree: Path, *words: str) -> Finished:
    """The peer, from the tools tree; it sees the folder of its files and nothing else."""
    return tools.run(["veritysetup", verb, data, tree, *words], Access(write=(data.parent,)), timeout_s=60)


def format_by_peer(tools: ToolsTree, data: Path, tree: Path, salt: bytes) -> str:
    done = veritysetup(tools, "format", data, tree, f"--uuid={TREE_UUID}", f"--salt={salt.hex() or '-'}")
    line = next(line for line in done.stdout.splitlines() if line.startswith("Root hash:"))
    return line.split()[-1]


def verify_files(data: Path, tree: Path, root_hash: str) -> Superblock:
    with (
        FileBlockDevice.open(data, writable=False) as data_device,
        FileBlockDevice.open(tree, writable=False) as tree_device,
    ):
        return verify(data_device, tree_device, root_hash=root_hash)


def random_file(path: Path, blocks: int) -> Path:
    # The same content in every run, so that a failure can be looked into.
    path.write_bytes(random.Random(blocks).randbytes(blocks * BLOCK_SIZE))  # noqa: S311
    return path


@pytest.mark.parametrize("blocks", SIZES)
@pytest.mark.parametrize("salt", [SALT, b""], ids=["salted", "unsalted"])
def test_tree_equals_the_one_veritysetup_makes(tools: ToolsTree, tmp_path: Path, blocks: int, salt: bytes) -> None:
    data = random_file(tmp_path / "data", blocks)
    theirs = tmp_path / "tree"
    root_hash = format_by_peer(tools, data, theirs, salt)

    ours = build_tree(io.BytesIO(data.read_bytes()), blocks, salt=salt, uuid=TREE_UUID)

    assert ours.root_hash == root_hash
    assert ours.content == theirs.read_bytes()
    assert verify_files(data, theirs, root_hash) == ours.superblock


@pytest.mark.parametrize("blocks", [1, 129, 1000])
def test_veritysetup_accepts_our_tree(tools: ToolsTree, tmp_path: Path, blocks: int) -> None:
    data = random_file(tmp_path / "data", blocks)
    built = build_tree(io.BytesIO(data.read_bytes()), blocks, salt=SALT, uuid=TREE_UUID)
    tree = tmp_path / "tree"
    tree.write_bytes(built.content)

    veritysetup(tools, "verify", data, tree, built.root_hash)


@pytest.mark.parametrize("victim", ["data", "tree"])
def test_both_refuse_the_same_flipped_bit(tools: ToolsTree, tmp_path: Path, victim: str) -> None:
    blocks = 1000
    files = {"data": random_file(tmp_path / "data", blocks), "tree": tmp_path / "tree"}
    root_hash = format_by_peer(tools, files["data"], files["tree"], SALT)
    raw = bytearray(files[victim].read_bytes())
    raw[5 * BLOCK_SIZE + 7] ^= 0x10
    files[victim].write_bytes(raw)

    with pytest.raises(ProcessError):
        veritysetup(tools, "verify", files["data"], files["tree"], root_hash)
    with pytest.raises(VerityError) as refused:
        verify_files(files["data"], files["tree"], root_hash)
    assert refused.value.block == 5
    assert str(files[victim]) in str(refused.value)
