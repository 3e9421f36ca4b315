"""Which document counts: by the way it came, by its signature, by what the host took in before."""

from __future__ import annotations

import base64
import hashlib
import json
import tomllib
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedrock.errors import DocumentError
from tests.fakes.provisions import PUBLIC, STRANGER, WHOLE, signed
from updater.documents.channel import Instant
from updater.errors import RefusedError
from updater.provision.encrypted import is_encrypted
from updater.provision.files import files_of
from updater.provision.policy import Candidate, Policy, Unsigned, UpdaterFrom, decide
from updater.provision.reading import read_offered, read_unverified
from updater.provision.record import Applied, ProvisionRecord, Way

POLICY = Policy(keys=(PUBLIC,))
NOW = Instant.from_text("2026-03-01T12:00:00Z")
FRESH, OVER = ProvisionRecord(), ProvisionRecord(first_boot_over=True)


def offer(data: str | bytes, way: Way = Way.FIRMWARE, policy: Policy = POLICY) -> Candidate:
    raw = data.encode() if isinstance(data, str) else data
    return Candidate(way, read_offered(raw, policy.public_keys, source=way.value))


def follows(serial: int) -> ProvisionRecord:
    return ProvisionRecord(first_boot_over=True, newest_serial=serial)


def test_unsigned_counts_at_the_first_boot() -> None:
    one = offer("hostname: one")
    assert decide([one], FRESH, POLICY).apply is one


def test_unsigned_does_not_count_after_the_first_boot() -> None:
    decision = decide([offer("hostname: one")], OVER, POLICY)
    assert decision.apply is None
    assert "first boot is over" in decision.ignored[0].reason


def test_unsigned_never_and_always_do_what_they_say() -> None:
    one = offer("hostname: one")
    assert decide([one], FRESH, replace(POLICY, unsigned=Unsigned.NEVER)).apply is None
    assert decide([one], OVER, replace(POLICY, unsigned=Unsigned.ALWAYS)).apply is one


def test_what_is_in_force_is_neither_applied_again_nor_complained_about() -> None:
    one = offer("hostname: one")
    record = ProvisionRecord(first_boot_over=True, applied=Applied(one.offered.sha256, Way.FIRMWARE, NOW))
    decision = decide([one], record, POLICY)
    assert (decision.apply, decision.ignored) == (None, ())


def test_signed_counts_always() -> None:
    one = offer(signed("serial: 1\nhostname: one\n"))
    assert one.offered.signed_by == PUBLIC[:16]
    for record in (FRESH, OVER):
        assert decide([one], record, replace(POLICY, unsigned=Unsigned.NEVER)).apply is one


def test_a_signed_document_of_an_older_serial_is_refused() -> None:
    decision = decide([offer(signed("serial: 6"))], follows(7), POLICY)
    assert decision.apply is None
    assert "older than 7" in decision.ignored[0].reason


def test_a_serial_is_not_used_twice() -> None:
    assert "used before" in decide([offer(signed("serial: 7"))], follows(7), POLICY).ignored[0].reason


@given(st.integers(1, 1000), st.integers(1, 1000))
def test_only_newer_serials_are_taken(serial: int, newest: int) -> None:
    decision = decide([offer(signed(f"serial: {serial}"))], follows(newest), POLICY)
    assert (decision.apply is not None) == (serial > newest)


def test_signed_counts_more_than_unsigned_and_newer_more_than_older() -> None:
    unsigned, old, new = offer("hostname: x"), offer(signed("serial: 1")), offer(signed("serial: 2"))
    decision = decide([unsigned, old, new], FRESH, POLICY)
    assert decision.apply is new
    assert len(decision.ignored) == 2


def test_the_firmware_counts_more_than_the_boot_partition() -> None:
    one, other = offer("hostname: one"), offer("hostname: other", Way.BOOT_PARTITION)
    decision = decide([one, other], FRESH, POLICY)
    assert decision.apply is one
    assert decision.ignored[0].way is Way.BOOT_PARTITION


def test_a_host_that_follows_signed_documents_takes_no_others() -> None:
    always = replace(POLICY, unsigned=Unsigned.ALWAYS)
    assert decide([offer("hostname: x")], follows(1), always).apply is None


def test_where_updates_come_from_may_be_closed() -> None:
    text = "serial: 9\nupdater: {channel: beta}\n"
    for rule, unsigned_ok, signed_ok in (
        (UpdaterFrom.ANY, True, True),
        (UpdaterFrom.SIGNED, False, True),
        (UpdaterFrom.NEVER, False, False),
    ):
        policy = replace(POLICY, updater=rule)
        assert (decide([offer(text)], FRESH, policy).apply is not None) is unsigned_ok
        assert (decide([offer(signed(text))], FRESH, policy).apply is not None) is signed_ok


def test_a_stranger_s_signature_is_refused() -> None:
    with pytest.raises(RefusedError):
        offer(signed("serial: 1", STRANGER))


def test_a_signature_that_nothing_can_check_is_refused() -> None:
    with pytest.raises(RefusedError, match="no key"):
        offer(signed("serial: 1"), policy=Policy())


def test_a_document_changed_after_it_was_signed_is_refused() -> None:
    envelope = json.loads(signed("serial: 1"))
    envelope["payload"] = base64.b64encode(b"serial: 2").decode()
    with pytest.raises(RefusedError):
        offer(json.dumps(envelope))


def test_a_signed_document_needs_a_serial() -> None:
    with pytest.raises(DocumentError, match="serial"):
        offer(signed("hostname: x"))


def test_a_signed_document_can_be_looked_at_without_its_key() -> None:
    assert read_unverified(signed("serial: 3", STRANGER), source="x").serial == 3


@pytest.mark.parametrize("cut", [10, 200, 400])
def test_a_cut_envelope_is_no_document(cut: int) -> None:
    with pytest.raises((DocumentError, RefusedError)):
        offer(signed(WHOLE)[:cut])


_ENVELOPE = signed(WHOLE)


@given(st.integers(0, len(_ENVELOPE)), st.integers(0, 30), st.binary(max_size=6))
def test_a_garbled_envelope_is_refused_or_says_the_same(at: int, lost: int, more: bytes) -> None:
    data = _ENVELOPE[:at] + more + _ENVELOPE[at + lost :]
    with suppress(DocumentError, RefusedError):
        assert read_offered(data, POLICY.public_keys, source="x").sha256 == hashlib.sha256(WHOLE.encode()).hexdigest()


@pytest.mark.parametrize("text", ['{"payloadType": ' + "[" * 100_000, '{"payloadType": ' + '{"a":' * 100_000])
def test_an_envelope_of_a_thousand_lists_is_no_document(text: str) -> None:
    with pytest.raises(DocumentError):
        offer(text)


def test_an_encrypted_credential_is_told_from_a_plain_one() -> None:
    # What `systemd-creds encrypt --with-key=null` begins with.
    assert is_encrypted(b"BYRp2vb1QySABUnaD46i+yAAAAABAAAADAAAABAAAAAr7gVtXkR5ncNk\n/CAAAAAAYa7kt192859Gp4l\n")
    assert not is_encrypted(b"web1")
    assert not is_encrypted(b"c29tZXRoaW5nIGVsc2UgdGhhdCBpcyBiYXNlNjQ=")
    assert not is_encrypted(WHOLE.encode())
    assert not is_encrypted(b"")


def test_registries_are_toml_that_means_what_was_said() -> None:
    files = {target.path: target.data for target in files_of(read_unverified(WHOLE.encode(), source="x"))}
    (registry,) = tomllib.loads(files["/etc/containers/registries.conf.d/50-provision.conf"].decode())["registry"]
    assert registry["location"] == "registry.example.com:5000"
    assert registry["mirror"] == [{"location": "mirror.example.com", "insecure": True}]
