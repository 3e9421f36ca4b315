"""Signatures that are collected one after the other, by people who each have one key."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, Root

from bedrock.base64_bytes import Base64Bytes
from bedrock.digest import bytes_sha256
from bedrock.errors import DocumentError
from bedrock.progress import Silent
from keys.ceremony.request import (
    FORMAT,
    Entry,
    MadeSignature,
    PayloadKind,
    RequestedKey,
    SignerGroup,
    SigningRequest,
    parse_request,
    request_bytes,
)
from keys.ceremony.signing import by_keyring, by_uris, signed_with
from keys.changes import add, revoke
from keys.errors import RequestMismatchError
from keys.generate import init
from keys.keyring import Keyring
from keys.passphrase import NoPassphrase
from keys.roles import Profile, TufRole
from tests.fakes.builds import NOW, Publisher
from tests.fakes.key_holders import reloaded, with_folder, with_rotated
from updater.errors import RefusedError, RepositoryError
from updater.repository.access import KeyAccess
from updater.repository.ceremony.pending import CeremonyStep, apply, make_request
from updater.repository.ceremony.words import tuf_words
from updater.repository.layout import Layout
from updater.repository.lifetime import Lifetimes
from updater.repository.metadata import load_state
from updater.repository.publish import init_repository
from updater.repository.upkeep.online import OnlineSigning, sign_online
from updater.repository.upkeep.refresh import refresh
from updater.repository.upkeep.status import lines, read_status
from updater.repository.upkeep.verify import verify

DAY = timedelta(days=1)
MONTH = timedelta(days=30)
PRIVATE = ("root", "targets", "releases", "channels", "snapshot", "timestamp")


@pytest.fixture(scope="module")
def production(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("production") / "keys"
    init(folder, Profile.PRODUCTION, NoPassphrase())
    return folder


@pytest.fixture
def everybody(tmp_path: Path, production: Path) -> Publisher:
    """All the keys in one place, which nobody has."""
    shutil.copytree(production, tmp_path / "keys")
    return with_folder(Publisher(tmp_path, KeyAccess(Keyring.load(production), NoPassphrase())), tmp_path / "keys")


@pytest.fixture
def office(everybody: Publisher) -> Publisher:
    """Where the repository is: only the public side."""
    return everybody.without_keys(*PRIVATE)


@pytest.fixture
def online(everybody: Publisher) -> Publisher:
    return everybody.without_keys("root", "targets", "releases", "channels")


def made(who: Publisher) -> None:
    init_repository(who.base, who.access, lifetimes=Lifetimes(), now=NOW)


def asked(who: Publisher, *, renew: bool = False, days: int = 0) -> CeremonyStep:
    return make_request(
        who.base,
        keyring=who.access.keyring,
        lifetimes=Lifetimes(),
        now=NOW + days * DAY,
        within=MONTH,
        renew=renew,
    )


def request_of(step: CeremonyStep) -> SigningRequest:
    assert step.request is not None
    return step.request


def applied(who: Publisher, *requests: SigningRequest) -> CeremonyStep:
    # Through a file, as it travels.
    copies = [parse_request(request_bytes(request), source="copy") for request in requests]
    return apply(who.base, copies, access=who.access, lifetimes=Lifetimes(), now=NOW)


def signed_by(everybody: Publisher, request: SigningRequest, role: TufRole, number: int = 0) -> SigningRequest:
    """A copy that the holder of one key signed."""
    uri = everybody.access.keyring.role(role).keys[number].uri
    return signed_with(request, by_uris(request, [uri], NoPassphrase()))


def made_visible(who: Publisher) -> OnlineSigning:
    return sign_online(who.base, access=who.access, lifetimes=Lifetimes(), now=NOW)


def is_sound(who: Publisher, *, days: int = 0) -> bool:
    return verify(who.base, now=NOW + days * DAY, progress=Silent()).ok


def test_a_repository_begins_with_one_key_at_a_time(everybody: Publisher, office: Publisher, online: Publisher) -> None:
    made(office)
    with pytest.raises(RepositoryError, match="signatures are missing"):
        load_state(Layout(office.base), None)
    request = request_of(asked(office))
    assert [entry.name for entry in request.entries] == [
        "1.root.json",
        "1.targets.json",
        "1.releases.json",
        "1.channels.json",
    ]
    anna, ben = (signed_by(everybody, request, TufRole.ROOT, number) for number in (0, 2))
    step = applied(office, anna)
    assert step.missing[0].startswith("1.root.json: 1 of root-2.pem (")
    for role in (TufRole.TARGETS, TufRole.RELEASES, TufRole.CHANNELS):
        step = applied(office, signed_by(everybody, request, role))
    assert len(step.missing) == 1
    step = applied(office, ben)
    assert (step.missing, step.finished) == ((), False)
    assert not is_sound(office)
    assert made_visible(online).visible == {"root": 1, "targets": 1, "releases": 1, "channels": 1}
    assert is_sound(office)
    assert not Layout(office.base).ceremony_file.exists()
    assert everybody.publish("1.0.0")[0].new


def test_with_the_online_keys_at_hand_a_repository_begins_at_once(
    everybody: Publisher, office: Publisher, online: Publisher
) -> None:
    made(office)
    request = request_of(asked(office))
    signed = signed_with(request, by_keyring(request, everybody.access.keyring, NoPassphrase()))
    step = applied(online, signed)
    assert step.finished
    assert is_sound(office)
    assert applied(online, signed).request is None
    # The same again is no error.
    assert applied(online, signed).finished


def test_a_first_root_with_other_keys_is_refused(everybody: Publisher, office: Publisher, online: Publisher) -> None:
    """Whoever can write to the folder puts a ceremony of their own there, with all signatures it asks for."""
    stranger = everybody.folder / "strangers"
    theirs = init(stranger / "keys", Profile.DEV, NoPassphrase())
    made(office)
    place = Publisher(stranger, KeyAccess(theirs, NoPassphrase()))
    made(place.without_keys(*PRIVATE))
    request = request_of(asked(place.without_keys("x")))
    forged = signed_with(request, by_keyring(request, theirs, NoPassphrase()))
    Layout(office.base).ceremony_file.write_bytes(request_bytes(forged))
    with pytest.raises(RefusedError, match="not what"):
        made_visible(online)
    assert not Layout(office.base).timestamp_file.exists()


@pytest.fixture
def running(everybody: Publisher) -> Publisher:
    """A repository that is in use, with all keys."""
    made(everybody)
    everybody.publish("1.0.0")
    return everybody


def test_root_and_targets_are_renewed_by_two_of_three(running: Publisher, office: Publisher, online: Publisher) -> None:
    assert asked(office).request is None
    request = request_of(asked(office, renew=True))
    assert [entry.name for entry in request.entries] == ["2.root.json", "2.targets.json"]
    one = signed_by(running, signed_by(running, request, TufRole.ROOT, 0), TufRole.TARGETS)
    other = signed_by(running, request, TufRole.ROOT, 1)
    assert applied(office, one, other).missing == ()
    assert load_state(Layout(office.base), None).root.signed.version == 1
    assert made_visible(online).visible == {"root": 2, "targets": 2}
    assert load_state(Layout(office.base), None).root.signed.version == 2
    assert is_sound(office)


def test_what_expires_soon_is_asked_for(running: Publisher, office: Publisher) -> None:
    assert asked(office, days=300).request is None
    assert len(request_of(asked(office, days=340)).entries) == 2
    assert running.base == office.base


def test_asking_again_keeps_the_signatures(running: Publisher, office: Publisher) -> None:
    request = request_of(asked(office, renew=True))
    applied(office, signed_by(running, request, TufRole.ROOT, 0))
    again = request_of(asked(office, renew=True, days=5))
    assert len(again.entries[0].signatures) == 1
    assert again.entries[0].payload == request.entries[0].payload


def test_other_changes_make_another_request(running: Publisher, office: Publisher) -> None:
    request = request_of(asked(office, renew=True))
    with_rotated(office, TufRole.TIMESTAMP)
    office = reloaded(office)
    other = request_of(asked(office, renew=True))
    assert other.entries[0].payload != request.entries[0].payload
    # The targets are the same, and their signatures would stay.
    assert other.entries[1].payload == request.entries[1].payload
    with pytest.raises(RequestMismatchError):
        applied(office, signed_by(running, request, TufRole.ROOT, 0))


@pytest.mark.parametrize("role", list(TufRole))
def test_a_rotation_by_ceremony_is_valid_at_every_moment(running: Publisher, role: TufRole, online: Publisher) -> None:
    """The keys folder with new keys is given to everybody; the root and targets keys sign where they are."""
    running = with_rotated(running, role)
    office = running.without_keys(*PRIVATE, "twice")
    signer = running.without_keys("root", "targets", "releases", "channels", "twice")
    # The online signer has the new keys already, and signs along with them.
    refresh(signer.base, access=signer.access, lifetimes=Lifetimes(), now=NOW)
    assert is_sound(office)
    request = request_of(asked(office))
    assert any(line.startswith(f"{role.value}: the key") for line in request.reason.split("; "))
    signed = signed_with(request, by_keyring(request, running.access.keyring, NoPassphrase()))
    assert applied(office, signed).missing == ()
    assert is_sound(office)
    assert made_visible(signer).signed
    assert is_sound(office)
    assert refresh(running.base, access=running.access, lifetimes=Lifetimes(), now=NOW).changes == ()
    running.publish("1.0.1", seed=2)
    assert is_sound(office)
    assert online.base == office.base


def test_the_pipeline_publishes_while_signatures_are_collected(running: Publisher) -> None:
    """Its key was exchanged and the old one revoked: the document it signs last needs the new one."""
    (old,) = running.access.keyring.role(TufRole.RELEASES).keys
    pipeline = running.without_keys("root", "targets", "channels", "snapshot", "timestamp")
    changed = with_rotated(running.without_keys("nothing"), TufRole.RELEASES)
    revoke(changed.access.keyring.folder, old.keyid)
    changed = reloaded(changed)
    signer = changed.without_keys("root", "targets", "releases", "channels", "more")
    request = request_of(asked(changed))
    assert [entry.name for entry in request.entries] == ["2.targets.json", "3.releases.json"]
    pipeline.publish("1.0.1", seed=2)
    signed = signed_with(request, by_keyring(request, changed.access.keyring, NoPassphrase()))
    assert applied(changed.without_keys(*PRIVATE, "most"), signed).missing == ()
    done = made_visible(signer)
    assert done.visible == {"releases": 3}
    assert "another version 3" in str(done.left_out[0])
    assert is_sound(running)
    # Asked for again, the targets keep their signature, and the new releases are signed by the new key.
    again = request_of(asked(changed))
    assert [entry.name for entry in again.entries] == ["2.targets.json", "4.releases.json"]
    assert again.entries[0].complete
    signed = signed_with(again, by_keyring(again, changed.access.keyring, NoPassphrase()))
    applied(changed.without_keys(*PRIVATE, "less"), signed)
    assert made_visible(signer).visible == {"targets": 2, "releases": 4}
    assert is_sound(running)
    assert changed.publish("1.0.2", seed=3)[0].new
    with pytest.raises(RefusedError):
        pipeline.publish("1.0.3", seed=4)


def test_a_stolen_root_key_of_three_is_replaced_by_the_other_two(running: Publisher) -> None:
    stolen = running.access.keyring.role(TufRole.ROOT).keys[0]
    folder = running.access.keyring.folder
    add(folder, TufRole.ROOT, NoPassphrase())
    revoke(folder, stolen.keyid[:10])
    (folder / "root-1.pem").unlink()
    running = reloaded(running)
    told = refresh(running.base, access=running.access, lifetimes=Lifetimes(), now=NOW)
    assert len(told.changes) == 2
    root = load_state(Layout(running.base), None).root.signed
    assert stolen.keyid not in root.roles["root"].keyids
    assert is_sound(running)


def test_status_names_the_ceremony(running: Publisher, office: Publisher) -> None:
    request = request_of(asked(office, renew=True))
    told = "\n".join(lines(read_status(office.base, now=NOW, within=MONTH), NOW))
    assert "to be signed: 2.root.json, 2.targets.json" in told
    assert "missing: 2.root.json: 2 of root-1.pem" in told
    applied(office, signed_with(request, by_keyring(request, running.access.keyring, NoPassphrase())))
    told = "\n".join(lines(read_status(office.base, now=NOW, within=MONTH), NOW))
    assert "2.root.json, 2.targets.json waits for the online keys" in told


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda file: file.write_bytes(b"junk"), "JSON"),
        (lambda file: file.write_bytes(file.read_bytes().replace(b"2.root.json", b"5.root.json")), "version"),
    ],
)
def test_a_ceremony_that_was_tampered_with_blocks_nobody(
    running: Publisher, office: Publisher, online: Publisher, spoil: Callable[[Path], object], why: str
) -> None:
    request = request_of(asked(office, renew=True))
    applied(office, signed_with(request, by_keyring(request, running.access.keyring, NoPassphrase())))
    spoil(Layout(office.base).ceremony_file)
    running.without_keys("snapshot", "timestamp").publish("1.0.1", seed=2)
    done = made_visible(online)
    assert done.visible == {"releases": 3}
    assert why in str(done.left_out[0])
    read_status(office.base, now=NOW, within=MONTH)
    assert is_sound(office)


def test_a_root_that_the_old_keys_did_not_sign_is_left_out(running: Publisher, online: Publisher) -> None:
    """Whoever can write to the folder puts a ceremony there that is complete by its own account."""
    theirs = CryptoSigner.generate_ed25519()
    root = load_state(Layout(running.base), None).root.copy()
    root.version += 1
    for keyid in list(root.roles["root"].keyids):
        root.revoke_key(keyid, "root")
    root.roles["root"].threshold = 1
    root.add_key(theirs.public_key, "root")
    key = RequestedKey.of(theirs.public_key, label="ours, surely")
    group = SignerGroup("keys of root", 1, (key.keyid,))
    payload = Base64Bytes(Metadata(root).signed_bytes)
    entry = Entry(PayloadKind.TUF, "2.root.json", (), payload, (key,), (group,))
    entry = entry.with_signatures([MadeSignature(key.keyid, theirs.sign(payload.content).signature)])
    forged = SigningRequest(FORMAT, "2.root.json", "renewed", (entry,))
    Layout(running.base).ceremony_file.write_bytes(request_bytes(forged))
    done = made_visible(online)
    assert not done.signed
    assert "root metadata (version 2) is refused" in str(done.left_out[0])
    assert load_state(Layout(running.base), None).root.signed.version == 1


def test_no_ceremony_is_no_place_for_signatures(running: Publisher, office: Publisher) -> None:
    request = request_of(asked(office, renew=True))
    Layout(office.base).ceremony_file.unlink()
    with pytest.raises(RepositoryError, match="no signatures are being collected"):
        applied(office, signed_by(running, request, TufRole.ROOT, 0))


def test_words_come_from_the_payload(running: Publisher, office: Publisher) -> None:
    running = with_rotated(running, TufRole.TIMESTAMP)
    office = running.without_keys(*PRIVATE, "twice")
    (root,) = request_of(asked(office)).entries
    told = tuf_words(replace(root, description=("all is well",)))
    new, old = (
        group[0].keyid
        for group in (
            running.access.keyring.role(TufRole.TIMESTAMP).keys,
            running.access.keyring.role(TufRole.TIMESTAMP).retiring,
        )
    )
    assert told[0] == "root, version 2, valid until 2027-03-01 12:00 UTC"
    assert told[told.index("1 of 1 keys must sign timestamp:") + 1] == f"  {new}"
    assert f"  timestamp: the key {old} goes" in told
    assert f"  timestamp: the key {new} comes" in told
    # Without the document it replaces, all that counts is still named.
    alone = tuf_words(replace(root, context=None))
    assert alone[alone.index("1 of 1 keys must sign timestamp:") + 1] == f"  {new}"


def test_words_name_what_a_targets_document_names(running: Publisher) -> None:
    (old,) = running.access.keyring.role(TufRole.RELEASES).keys
    changed = with_rotated(running.without_keys("nothing"), TufRole.RELEASES)
    revoke(changed.access.keyring.folder, old.keyid)
    changed = reloaded(changed)
    _, releases = request_of(asked(changed)).entries
    told = tuf_words(releases)
    assert told[1:3] == ("names 1 documents", "  releases/host/1.0.0/x86-64.json")
    digest = bytes_sha256(load_state(Layout(running.base), None).releases.raw)
    assert told[3:] == (f"compared with version 2, the file with the SHA-256 {digest}:", "  nothing else changes")


@pytest.mark.parametrize(
    ("name", "payload", "why"),
    [
        ("2.root.json", b"not json", "not a root or targets"),
        ("2.root.json", b'{"_type": "timestamp"}', "not a root or targets"),
        ("2.root.json", b"[]", "not a root or targets"),
    ],
)
def test_a_payload_that_is_nothing_is_refused(
    running: Publisher, office: Publisher, name: str, payload: bytes, why: str
) -> None:
    entry = request_of(asked(office, renew=True)).entries[0]
    with pytest.raises(RefusedError, match=why):
        tuf_words(replace(entry, name=name, payload=Base64Bytes(payload)))
    assert running.base == office.base


def test_a_payload_under_another_name_or_with_spaces_is_refused(running: Publisher, office: Publisher) -> None:
    root, targets = request_of(asked(office, renew=True)).entries
    for name in ("3.root.json", "2.targets.json", "root.json"):
        with pytest.raises(RefusedError, match="version 2"):
            tuf_words(replace(root, name=name))
    with pytest.raises(RefusedError, match="version 2"):
        tuf_words(replace(targets, name="2.root.json"))
    spaced = json.dumps(json.loads(root.payload.content)).encode()
    with pytest.raises(RefusedError, match="canonical"):
        tuf_words(replace(root, payload=Base64Bytes(spaced)))
    assert running.base == office.base


def test_going_back_is_named(running: Publisher, office: Publisher) -> None:
    entry = request_of(asked(office, renew=True)).entries[0]
    newer: Metadata[Root] = Metadata.from_bytes(load_state(Layout(office.base), None).root.raw)
    newer.signed.version = 7
    told = tuf_words(replace(entry, context=Base64Bytes(newer.to_bytes())))
    assert any("ATTENTION" in line for line in told)
    with pytest.raises(RefusedError, match="what it replaces"):
        tuf_words(replace(entry, context=Base64Bytes(b"junk")))
    assert running.base == office.base


def test_a_request_with_a_wrong_signature_never_reaches_the_repository(running: Publisher, office: Publisher) -> None:
    request = signed_by(running, request_of(asked(office, renew=True)), TufRole.ROOT, 0)
    raw = request_bytes(request).replace(request.entries[0].signatures[0].signature[:8].encode(), b"00000000")
    with pytest.raises(DocumentError, match="does not hold"):
        parse_request(raw, source="copy")
