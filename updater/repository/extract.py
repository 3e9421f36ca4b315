"""Extracts a published release from a repository: its files as the build wrote them, everything checked.

Rules: nothing is returned before signatures, lengths and hashes were verified, from a trusted root down to the bytes
of every file; the provenance must be signed by the role `releases`.
Expired metadata are accepted: an old release does not change.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tuf.api.metadata import Root

from bedrock import strict
from bedrock.progress import Progress
from keys.roles import TufRole
from updater.documents.build_files import PROVENANCE, RELEASE_FILE, RELEASE_FILES
from updater.documents.envelope import unseal
from updater.documents.release import Release
from updater.documents.statement import ENVELOPE_FILE, PAYLOAD_TYPE, PROVENANCE_FILE, Statement, parse_statement
from updater.errors import RefusedError
from updater.repository.attachments import statement_problems
from updater.repository.channels import ReleaseChoice, find_release
from updater.repository.layout import Layout
from updater.repository.metadata import load_state
from updater.repository.objects import extract_object
from updater.repository.releases import artifacts_of, without_objects
from updater.repository.role_documents import RepositoryState, read_document
from updater.repository.roots import former_roots
from updater.repository.trust import provenance_trust


@dataclass(frozen=True)
class Extracted:
    """An extracted release in its own folder.

    Attributes:
        folder: Its files, with the names that a build gives them.
        release: What was signed.
        statement: Its provenance; None when it was published without.
        roots: The root documents of the repository, from the trusted one on, oldest first.
    """

    folder: Path
    release: Release
    statement: Statement | None
    roots: tuple[bytes, ...]


def extract(
    base: Path, choice: ReleaseChoice, folder: Path, *, progress: Progress, trusted_root: bytes | None = None
) -> Extracted:
    """Write the files of a published release into the new folder `folder`.

    Args:
        base: The repository.
        choice: The release; its architecture may be left out where only one is published.
        folder: The folder to create.
        progress: Receives progress in bytes.
        trusted_root: A root document a host would start from; the repository's own when None.

    Raises:
        RepositoryError: There is no repository, or no such release in it.
        RefusedError: A signature, a length or a hash does not hold.
        DocumentError: A signed document cannot be read.
    """
    layout = Layout(base)
    state = load_state(layout, None, trusted_root=trusted_root)
    release = find_release(layout, state, choice)
    folder.mkdir(parents=True)
    for name, artifact in (artifacts_of(release) | release.attachments).items():
        if name not in RELEASE_FILES:
            continue
        if not artifact.objects:
            raise RefusedError(f"{release.target_path}: no object carries the artifact {name}")
        stored = artifact.objects[0]
        progress.step(f"taking {RELEASE_FILES[name]}", total=artifact.size_bytes)
        try:
            extract_object(layout.object_file(stored), stored, artifact, folder / RELEASE_FILES[name])
        except RefusedError as error:
            raise RefusedError(f"{release.target_path}: {name}: {error}") from error
        progress.advance(artifact.size_bytes)
    (folder / RELEASE_FILE).write_bytes(strict.dump_json(without_objects(release)))
    return Extracted(folder, release, _statement(layout, state, release, folder), tuple(_roots(layout, trusted_root)))


def _statement(layout: Layout, state: RepositoryState, release: Release, folder: Path) -> Statement | None:
    if PROVENANCE not in release.attachments:
        return None
    former = former_roots(layout, state.root, None)
    roots = (state.root.signed, *(older.signed for older in reversed(former)))
    trust = provenance_trust(layout, state.targets.signed, roots)
    source = f"{release.target_path}: {PROVENANCE}"
    envelope = (folder / ENVELOPE_FILE).read_bytes()
    payload = unseal(envelope, payload_type=PAYLOAD_TYPE, keys=trust.keys, threshold=trust.threshold, source=source)
    statement = parse_statement(payload, source=source)
    if problems := statement_problems(statement, release, RELEASE_FILES):
        raise RefusedError("\n".join(f"{source}: {problem}" for problem in problems))
    (folder / PROVENANCE_FILE).write_bytes(payload)
    return statement


def _roots(layout: Layout, trusted_root: bytes | None) -> list[bytes]:
    paths = (layout.role_file(TufRole.ROOT, version) for version in layout.versions_on_disk(TufRole.ROOT))
    found = [read_document(path, Root).raw for path in paths]
    return found if trusted_root is None or trusted_root in found else [trusted_root, *found]
