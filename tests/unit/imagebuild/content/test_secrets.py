from __future__ import annotations

from imagebuild.content.secrets import secret_problems
from imagebuild.definition.host import Secrets
from imagebuild.definition.image import BuildProfile
from imagebuild.definition.paths import AbsolutePath

KEY = ("/etc/ssl/private/web.key", "a private key")


def allow(*paths: str) -> Secrets:
    return Secrets(tuple(map(AbsolutePath, paths)))


def test_a_secret_that_nobody_asked_for_is_a_problem() -> None:
    assert secret_problems([KEY], Secrets(), None) == ("/etc/ssl/private/web.key holds a private key",)


def test_one_that_was_asked_for_is_none() -> None:
    assert secret_problems([KEY], allow("/etc/ssl/private/web.key"), None) == ()


def test_it_is_named_by_its_path_on_the_host() -> None:
    found = [("/usr/share/factory/var/lib/app/key", "a private key")]
    assert secret_problems(found, allow("/var/lib/app/key"), None) == ()


def test_a_permission_that_nothing_needs_is_a_problem() -> None:
    assert secret_problems([], allow("/etc/x"), None) == ("secrets.allow names /etc/x, which holds no secret",)


def test_only_the_debug_profile_lets_root_in_without_a_password() -> None:
    found = [
        ("/etc/shadow", "root without a password, so that anybody can log in"),
        ("/etc/shadow", "me without a password"),
    ]
    assert len(secret_problems(found, Secrets(), None)) == 2
    assert secret_problems(found, Secrets(), BuildProfile.DEBUG) == ("/etc/shadow holds me without a password",)
