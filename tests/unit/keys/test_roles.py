from __future__ import annotations

import pytest

from keys.roles import BootRole, Profile, Quorum, TufRole, certificate_lifetime, must_be_encrypted, quorum


def test_values_are_the_names_used_in_metadata_and_firmware() -> None:
    assert [role.value for role in TufRole] == ["root", "targets", "snapshot", "timestamp", "releases", "channels"]
    assert [role.value for role in BootRole] == ["PK", "KEK", "db", "pcr"]


def test_only_snapshot_and_timestamp_are_online() -> None:
    assert {role for role in TufRole if role.online} == {TufRole.SNAPSHOT, TufRole.TIMESTAMP}


@pytest.mark.parametrize("profile", list(Profile))
@pytest.mark.parametrize("role", list(TufRole))
def test_only_the_production_root_takes_more_than_one_key(profile: Profile, role: TufRole) -> None:
    special = profile is Profile.PRODUCTION and role is TufRole.ROOT
    assert quorum(profile, role) == (Quorum(3, 2) if special else Quorum(1, 1))


def test_production_lasts_longer_and_must_be_encrypted() -> None:
    assert certificate_lifetime(Profile.PRODUCTION) > certificate_lifetime(Profile.DEV)
    assert must_be_encrypted(Profile.PRODUCTION)
    assert not must_be_encrypted(Profile.DEV)
