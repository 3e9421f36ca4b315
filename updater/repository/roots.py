"""Which root a repository is read by: the newest one that a chain of signatures leads to.

A keys folder says where the chain begins: at the `root.json` next to the keys, if it is of this repository, else at the
newest root that its root keys signed.
Source: TUF specification 1.0.34, section 5.3.
"""

from __future__ import annotations

from tuf.api.metadata import Role, Root

from bedrock.persist import write_atomic
from keys.keyring import Keyring
from keys.roles import TufRole
from updater.errors import RefusedError, RepositoryError
from updater.repository.layout import Layout
from updater.repository.role_documents import Document, check_signatures, is_signed, parse_document, read_document

# The root that `twinhull build` bakes into images, next to the keys.
ROOT_OF_TRUST_FILE = "root.json"


def given_root(raw: bytes) -> Document[Root]:
    """A root document that the caller already trusts.

    Raises:
        RepositoryError: It is not a root document.
        RefusedError: It gives a role one public key twice, or a threshold that is not a number.
    """
    return parse_document(raw, Root, source="the given root")


def follow_roots(layout: Layout, first: Document[Root]) -> Document[Root]:
    """The newest root that a chain of signatures leads to from `first`, as a client goes (TUF 1.0.34, 5.3).

    Raises:
        RefusedError: A link of the chain does not hold.
        RepositoryError: A document is unreadable.
    """
    return root_chain(layout, first)[-1]


def root_chain(layout: Layout, first: Document[Root]) -> tuple[Document[Root], ...]:
    """The roots from `first` to the newest one that a chain of signatures leads to.

    Raises:
        RefusedError: A link of the chain does not hold.
        RepositoryError: A document is unreadable.
    """
    check_signatures(first.signed, TufRole.ROOT, first.metadata)
    versions, current, chain = layout.versions_on_disk(TufRole.ROOT), first, [first]
    while current.signed.version + 1 in versions:
        path = layout.role_file(TufRole.ROOT, current.signed.version + 1)
        following = read_document(path, Root)
        for delegator in (current.signed, following.signed):
            check_signatures(delegator, TufRole.ROOT, following.metadata)
        if following.signed.version != current.signed.version + 1:
            raise RefusedError(f"{path} says version {following.signed.version}")
        current = following
        chain.append(current)
    return tuple(chain)


def oldest_root(layout: Layout) -> Document[Root]:
    """The oldest root on the disk, which hosts of the first images start from.

    Raises:
        RepositoryError: There is no repository.
    """
    versions = layout.versions_on_disk(TufRole.ROOT) or (1,)
    return read_document(layout.role_file(TufRole.ROOT, versions[0]), Root)


def own_root(layout: Layout) -> Document[Root]:
    """The newest root of a repository that is trusted as it is, for commands that only show.

    Raises:
        RepositoryError: There is no repository.
        RefusedError: The root is not signed by its own keys.
    """
    root = read_document(layout.role_file(TufRole.ROOT, _in_a_row(layout)[-1]), Root)
    check_signatures(root.signed, TufRole.ROOT, root.metadata)
    return root


def trusted_root_of(layout: Layout, keyring: Keyring) -> Document[Root]:
    """The newest root that a keys folder leads to; a rotation by somebody else is followed, as hosts follow it.

    Raises:
        RefusedError: The repository was not made with these keys, or a link of the chain does not hold.
    """
    anchor = _beside_the_keys(layout, keyring)
    if anchor is not None:
        return follow_roots(layout, anchor)
    for version in reversed(_in_a_row(layout)):
        root = read_document(layout.role_file(TufRole.ROOT, version), Root)
        if is_signed(root_keys_of(keyring), TufRole.ROOT, root.metadata):
            return follow_roots(layout, root)
    message = f"the repository {layout.base} was not made with the root keys of {keyring.folder}"
    raise RefusedError(message).with_hint("give the keys folder the repository was made with")


def former_roots(layout: Layout, root: Document[Root], keyring: Keyring | None) -> tuple[Document[Root], ...]:
    """The older roots that the newest one's root keys signed, or those of the keys folder, ascending.

    A chain alone does not vouch for what came before: an older root that an attacker made can name the keys that signed
    the next one.
    """
    judges = [root.signed] if keyring is None else [root.signed, root_keys_of(keyring)]
    found = []
    for version in layout.versions_on_disk(TufRole.ROOT):
        if version >= root.signed.version:
            break
        try:
            older = read_document(layout.role_file(TufRole.ROOT, version), Root)
        except (RepositoryError, RefusedError):
            # It vouches for nothing.
            continue
        if any(is_signed(judge, TufRole.ROOT, older.metadata) for judge in judges):
            found.append(older)
    return tuple(found)


def _in_a_row(layout: Layout) -> tuple[int, ...]:
    """The versions that a host can reach: it asks for one after the other, and a file beyond a gap is nobody's root."""
    versions = layout.versions_on_disk(TufRole.ROOT) or (1,)
    return tuple(version for number, version in enumerate(versions) if version == versions[0] + number)


def keep_root(layout: Layout, keyring: Keyring, root: bytes) -> str | None:
    """Write the newest root next to the keys, for the images built from then on; returns why it could not be written.

    A root of another repository is left alone.
    """
    path = keyring.folder / ROOT_OF_TRUST_FILE
    if path.is_file() and (path.read_bytes() == root or _beside_the_keys(layout, keyring) is None):
        return None
    try:
        write_atomic(path, root)
    except OSError as error:
        return f"{path} is older than the repository's root, and cannot be written: {error.strerror}"
    return None


def _beside_the_keys(layout: Layout, keyring: Keyring) -> Document[Root] | None:
    """The root next to the keys, if the repository has the very same."""
    path = keyring.folder / ROOT_OF_TRUST_FILE
    if not path.is_file():
        return None
    kept = read_document(path, Root)
    file = layout.role_file(TufRole.ROOT, kept.signed.version)
    return kept if file.is_file() and file.read_bytes() == kept.raw else None


def root_keys_of(keyring: Keyring) -> Root:
    """What a keys folder says of the role root, in the form that signatures are checked against."""
    entry = keyring.role(TufRole.ROOT)
    trusted = Root()
    trusted.roles[TufRole.ROOT.value] = Role([], entry.threshold)
    for key in entry.signing:
        trusted.add_key(key.public, TufRole.ROOT.value)
    return trusted
