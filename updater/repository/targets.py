"""Target documents (releases and channels) as files.

Rules: a document is returned only after its signed length and hash matched; a file's name contains its digest, so
writing one never changes another.
"""

from __future__ import annotations

from tuf.api.exceptions import LengthOrHashMismatchError
from tuf.api.metadata import TargetFile

from bedrock.persist import sync_folder, write_atomic
from updater.errors import RefusedError, RepositoryError
from updater.repository.layout import Layout


def read_target(layout: Layout, target: TargetFile) -> bytes:
    """The bytes of a target, checked against its signed length and hash.

    Raises:
        RepositoryError: The file is missing.
        RefusedError: It is not the file that was signed.
    """
    if "sha256" not in target.hashes:
        raise RefusedError(f"the target {target.path} is named without a SHA-256")
    path = layout.target_file(target.path, target.hashes["sha256"])
    try:
        data = path.read_bytes()
    except OSError as error:
        raise RepositoryError(f"the target {target.path} cannot be read: {path}: {error.strerror}") from error
    try:
        target.verify_length_and_hashes(data)
    except LengthOrHashMismatchError as error:
        raise RefusedError(f"{path} is not the target that was signed: {error}") from error
    return data


def write_target(layout: Layout, path: str, data: bytes) -> TargetFile:
    """Write a target document and its folders to the disk, durably; returns its entry for the metadata."""
    target = TargetFile.from_data(path, data, ["sha256"])
    file = layout.target_file(path, target.hashes["sha256"])
    missing = [folder for folder in file.parents if not folder.exists()]
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(file, data)
    for folder in missing:
        sync_folder(folder.parent)
    return target
