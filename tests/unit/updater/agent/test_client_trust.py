"""Whose signatures count: keys, thresholds, and the chain of roots from the image's own."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Root, Targets

from tests.fakes.http_server import Site
from tests.fakes.metadata_client import CHANNEL, client, refreshed
from tests.fakes.tuf_site import SignedSite, under_another_name
from updater.errors import FetchError, RefusedError


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
def test_metadata_signed_by_the_wrong_key_are_refused(signed: SignedSite, tmp_path: Path, role: str) -> None:
    signed.signers[role] = CryptoSigner.generate_ed25519()
    signed.write()
    with pytest.raises(RefusedError):
        refreshed(signed, tmp_path)


def test_the_release_key_cannot_sign_a_channel(signed: SignedSite, tmp_path: Path) -> None:
    signed.signers["channels"] = signed.signers["releases"]
    signed.write()
    repository = refreshed(signed, tmp_path)
    with pytest.raises(RefusedError):
        repository.channel("stable")


def test_another_root_of_trust_refuses_everything(signed: SignedSite, tmp_path: Path) -> None:
    other = SignedSite(Site()).root_bytes
    with pytest.raises(RefusedError):
        client(signed, tmp_path, root=other).refresh()


def test_a_broken_root_of_trust_is_refused(signed: SignedSite, tmp_path: Path) -> None:
    with pytest.raises(RefusedError):
        client(signed, tmp_path, root=b"{}")


def roots_asked_for(signed: SignedSite) -> list[int]:
    """The versions of the roots that were asked for."""
    found = (re.fullmatch(r"/metadata/(\d+)\.root\.json", path) for path, _ in signed.site.requests)
    return [int(each[1]) for each in found if each]


def test_a_host_that_was_off_for_years_follows_four_hundred_roots_also_in_parts(
    signed: SignedSite, tmp_path: Path
) -> None:
    for _ in range(398):
        signed.rotate()
    signed.rotate("timestamp", "snapshot")
    signed.write()
    # The server goes away half-way, three times.
    for last in (100, 101, 300):
        path = f"/metadata/{last + 1}.root.json"
        signed.site.status[path] = [503] * 9
        with pytest.raises(FetchError, match=f"/metadata/{last + 1}.root.json"):
            refreshed(signed, tmp_path)
        del signed.site.status[path]
    assert roots_asked_for(signed)[-3:] == [301] * 3
    assert refreshed(signed, tmp_path).channel("stable") == CHANNEL
    # What was followed before is not asked for again.
    assert sorted(set(roots_asked_for(signed))) == list(range(2, 402))
    assert len(roots_asked_for(signed)) == 400 + 3 * 3
    signed.site.requests.clear()
    refreshed(signed, tmp_path)
    assert roots_asked_for(signed) == [401]


def test_a_root_that_the_one_before_did_not_sign_ends_the_chain(signed: SignedSite, tmp_path: Path) -> None:
    honest = signed.signers["root"]
    signed.rotate()
    signed.signers["root"] = signed.trusted["root"] = CryptoSigner.generate_ed25519()
    signed.rotate("root")
    signed.write()
    with pytest.raises(RefusedError, match="root was signed by 0/1 keys"):
        refreshed(signed, tmp_path)
    assert honest is not signed.signers["root"]
    assert roots_asked_for(signed) == [2, 3]


@pytest.mark.parametrize(
    ("make", "write"),
    [
        (CryptoSigner.generate_ed25519, str),
        (CryptoSigner.generate_ed25519, str.upper),
        (CryptoSigner.generate_ed25519, lambda public: f" {public[:10]} {public[10:]}"),
        (CryptoSigner.generate_ecdsa, lambda public: f"a word first\n{public}\n\n"),
    ],
)
def test_one_key_under_two_names_counts_once(
    signed: SignedSite, tmp_path: Path, make: Callable[[], CryptoSigner], write: Callable[[str], str]
) -> None:
    signed.signers["timestamp"] = signed.trusted["timestamp"] = make()
    twin = under_another_name(signed.signers["timestamp"], write)

    def twice(root: Root) -> None:
        root.add_key(twin.public_key, "timestamp")
        root.roles["timestamp"].threshold = 2

    signed.rotate(change=twice)
    signed.more_signers["timestamp"] = [twin]
    signed.write()
    with pytest.raises(RefusedError, match="names 2 keys, of which 1 are different"):
        refreshed(signed, tmp_path)


def test_one_key_under_two_names_counts_once_where_a_role_is_delegated_too(signed: SignedSite, tmp_path: Path) -> None:
    twin = under_another_name(signed.signers["releases"])

    def twice(targets: Targets) -> None:
        assert targets.delegations is not None
        assert targets.delegations.roles is not None
        targets.add_key(twin.public_key, "releases")
        targets.delegations.roles["releases"].threshold = 2

    signed.more_signers["releases"] = [twin]
    signed.write(targets=twice)
    with pytest.raises(RefusedError, match=r"targets\.json: the role releases has the threshold 2"):
        refreshed(signed, tmp_path)


def test_a_threshold_that_is_no_number_is_refused(signed: SignedSite, tmp_path: Path) -> None:
    signed.rotate(change=lambda root: setattr(root.roles["timestamp"], "threshold", True))
    signed.write()
    assert b'"threshold":true' in signed.site.files["/metadata/2.root.json"]
    with pytest.raises(RefusedError, match="has the threshold True"):
        refreshed(signed, tmp_path)


def test_two_different_keys_are_two(signed: SignedSite, tmp_path: Path) -> None:
    second = CryptoSigner.generate_ed25519()

    def both(root: Root) -> None:
        root.add_key(second.public_key, "timestamp")
        root.roles["timestamp"].threshold = 2

    signed.rotate(change=both)
    signed.more_signers["timestamp"] = [second]
    signed.write()
    refreshed(signed, tmp_path)
