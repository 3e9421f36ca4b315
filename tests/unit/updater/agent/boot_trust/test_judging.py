"""Which updates a host takes: never one that stops what it runs or the last version it can go back to."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keys.secureboot.siglist import hash_list
from tests.fakes.firmware import revoking, revoking_certificate, trust_of, trusting_certificate
from updater.agent.boot_trust.judging import BootProgram, FirmwareDatabases, ProgramState, Verdict, judge
from updater.documents.boot_trust import BootTrustUpdate


def digest(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


def program(name: str, state: ProgramState, *, blessed: bool = True) -> BootProgram:
    return BootProgram(f"host_{name}.efi", state, blessed=blessed, digest=digest(name))


RUNNING = program("1.0.1", ProgramState.RUNNING)
FALLBACK = program("1.0.0", ProgramState.BLESSED)
LOADER = BootProgram("systemd-bootx64.efi", ProgramState.LOADER, digest=digest("loader"))
USUAL = (RUNNING, FALLBACK, LOADER)
EMPTY = FirmwareDatabases(b"", b"")


def verdict(
    update: BootTrustUpdate, programs: tuple[BootProgram, ...] = USUAL, dbx: bytes = b""
) -> tuple[Verdict, str]:
    (judgement,) = judge(trust_of(update), programs, FirmwareDatabases(b"", dbx))
    return judgement.verdict, judgement.words


def test_an_old_version_is_revoked_here_or_not() -> None:
    assert verdict(revoking(digest("0.9.0"))) == (Verdict.APPEND, "it stops nothing that is here")
    assert verdict(revoking(digest("1.0.0"))) == (Verdict.APPEND, "it stops host_1.0.0.efi")


def test_the_running_version_is_not_stopped_and_the_update_waits() -> None:
    found, words = verdict(revoking(digest("1.0.1")))
    assert found is Verdict.WAITS
    assert "host_1.0.1.efi, which is running" in words


def test_the_boot_loader_is_not_stopped() -> None:
    found, words = verdict(revoking(digest("loader")))
    assert (found, "this host's boot loader" in words) == (Verdict.WAITS, True)


def test_the_only_blessed_version_is_not_stopped_while_another_is_on_trial() -> None:
    trial = program("1.0.1", ProgramState.RUNNING, blessed=False)
    found, words = verdict(revoking(digest("1.0.0")), (trial, FALLBACK))
    assert found is Verdict.WAITS
    assert "it would stop host_1.0.0.efi, and nothing else here is known to work" in words
    assert verdict(revoking(digest("0.9.0")), (trial, FALLBACK))[0] is Verdict.APPEND


def test_updates_count_together() -> None:
    trial = program("1.0.2", ProgramState.RUNNING, blessed=False)
    others = (program("1.0.0", ProgramState.BLESSED), program("1.0.1", ProgramState.BLESSED))
    first, second = revoking(digest("1.0.0")), revoking(digest("1.0.1"))
    verdicts = [each.verdict for each in judge(trust_of(first, second), (trial, *others), EMPTY)]
    assert verdicts == [Verdict.APPEND, Verdict.WAITS]


def test_what_is_revoked_already_is_no_way_back() -> None:
    trial = program("1.0.2", ProgramState.RUNNING, blessed=False)
    others = (program("1.0.0", ProgramState.BLESSED), program("1.0.1", ProgramState.BLESSED))
    assert verdict(revoking(digest("1.0.1")), (trial, *others), dbx=hash_list([digest("1.0.0")]))[0] is Verdict.WAITS


def test_what_the_firmware_has_is_not_appended_again() -> None:
    update = revoking(digest("0.9.0"))
    assert verdict(update, dbx=hash_list([digest("0.9.0"), digest("0.8.0")]))[0] is Verdict.PRESENT
    assert verdict(update, dbx=hash_list([digest("0.8.0")]))[0] is Verdict.APPEND
    # Even when it is what runs: then somebody else put it there.
    assert verdict(revoking(digest("1.0.1")), dbx=hash_list([digest("1.0.1")]))[0] is Verdict.PRESENT


def test_a_certificate_is_trusted_and_never_revoked() -> None:
    assert verdict(trusting_certificate())[0] is Verdict.APPEND
    found, words = verdict(revoking_certificate())
    assert (found, "cannot be judged" in words) == (Verdict.REFUSED, True)


@pytest.mark.parametrize("content", [None, b"damaged"])
def test_a_variable_that_cannot_be_read_is_not_added_to(content: bytes | None) -> None:
    for update in (revoking(digest("0.9.0")), trusting_certificate()):
        (judgement,) = judge(trust_of(update), USUAL, FirmwareDatabases(content, content))
        assert judgement.verdict is Verdict.REFUSED
        assert "so it is not added to" in judgement.words


@pytest.mark.parametrize(
    ("programs", "says"),
    [
        ((FALLBACK,), "not on the boot partition"),
        ((), "not on the boot partition"),
        ((BootProgram("host_1.0.1.efi", ProgramState.RUNNING, blessed=True), FALLBACK), "cannot be read"),
        ((RUNNING, FALLBACK, BootProgram("loader.efi", ProgramState.LOADER)), "loader.efi cannot be read"),
    ],
)
def test_without_knowing_what_runs_nothing_is_revoked(programs: tuple[BootProgram, ...], says: str) -> None:
    found, words = verdict(revoking(digest("0.9.0")), programs)
    assert (found, says in words) == (Verdict.REFUSED, True)


def test_an_unreadable_fallback_is_no_way_back() -> None:
    trial = program("1.0.1", ProgramState.RUNNING, blessed=False)
    unreadable = BootProgram("host_0.9.0.efi", ProgramState.BLESSED, blessed=True)
    assert verdict(revoking(digest("1.0.0")), (trial, FALLBACK, unreadable))[0] is Verdict.WAITS


VERSIONS = ("0.9.0", "1.0.0", "1.0.1", "1.0.2")


@given(
    revoked=st.lists(st.sets(st.sampled_from(VERSIONS), min_size=1), max_size=4),
    blessed=st.sets(st.sampled_from(VERSIONS)),
    running=st.sampled_from(VERSIONS),
)
def test_a_host_keeps_what_it_runs_and_a_version_that_works(
    revoked: list[set[str]], blessed: set[str], running: str
) -> None:
    programs = tuple(
        program(name, ProgramState.RUNNING if name == running else ProgramState.BLESSED, blessed=name in blessed)
        for name in {running, *blessed}
    )
    updates = [revoking(*map(digest, each)) for each in revoked]
    stopped = {
        gone
        for judgement in judge(trust_of(*updates), programs, EMPTY)
        if judgement.verdict is Verdict.APPEND
        for gone in judgement.update.revoked
    }
    assert digest(running) not in stopped
    if blessed and stopped:
        assert any(digest(name) not in stopped for name in blessed)
