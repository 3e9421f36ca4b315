"""Tokens that refuse, are locked or go away, played by objects of our own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from pkcs11 import TokenFlag
from pkcs11.exceptions import DeviceRemoved, FunctionFailed, KeyTypeInconsistent, PKCS11Error, TokenNotPresent

from keys.errors import KeyUriError, PassphraseError, TokenError
from keys.tokens import TokenKey, pin_state, reason, require_tries


@dataclass
class PlayedKey:
    """A private key of a token that answers or fails, and keeps what it was given."""

    answer: bytes | PKCS11Error
    pin: Any = None

    def sign(self, data: bytes, mechanism: Any = None, mechanism_param: Any = None, pin: Any = None) -> bytes:
        self.pin = pin
        if isinstance(self.answer, PKCS11Error):
            raise self.answer
        return self.answer


@pytest.mark.parametrize("error", [DeviceRemoved(), TokenNotPresent()])
def test_a_token_removed_while_it_signs_is_named_with_what_to_do(error: PKCS11Error) -> None:
    key = TokenKey(PlayedKey(error), "pkcs11:object=db")
    with pytest.raises(TokenError, match="the token was removed while it signed: pkcs11:object=db") as caught:
        key.sign(b"data", "ed25519")
    assert "plug it in" in caught.value.hints[0]


@pytest.mark.parametrize(
    ("error", "says"),
    [(FunctionFailed(), "function failed"), (KeyTypeInconsistent("x"), r"key type inconsistent \(x\)")],
)
def test_another_failure_is_said_in_words(error: PKCS11Error, says: str) -> None:
    with pytest.raises(TokenError, match=f"did not sign with pkcs11:object=db: {says}"):
        TokenKey(PlayedKey(error), "pkcs11:object=db").sign(b"data", "ed25519")
    assert "Error" not in reason(error)


def test_a_scheme_that_tokens_do_not_sign_with_is_refused() -> None:
    with pytest.raises(KeyUriError, match="do not sign with ml-dsa"):
        TokenKey(PlayedKey(b""), "pkcs11:object=db").sign(b"data", "ml-dsa-65/1")


def test_a_key_that_wants_its_pin_each_time_gets_it() -> None:
    private = PlayedKey(b"signature")
    TokenKey(private, "x", pin="1234").sign(b"data", "ed25519")
    assert private.pin == "1234"
    assert "1234" not in repr(TokenKey(private, "x", pin="1234"))


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (TokenFlag.USER_PIN_LOCKED | TokenFlag.USER_PIN_COUNT_LOW, "locked"),
        (TokenFlag.USER_PIN_FINAL_TRY | TokenFlag.USER_PIN_COUNT_LOW, "one try is left"),
        (TokenFlag.USER_PIN_COUNT_LOW, "few tries are left"),
        (TokenFlag.LOGIN_REQUIRED, "does not say"),
    ],
)
def test_tries_that_are_left_are_said_as_far_as_they_are_known(flags: TokenFlag, says: str) -> None:
    assert says in pin_state(flags)


@pytest.mark.parametrize(
    ("flag", "says"),
    [(TokenFlag.USER_PIN_LOCKED, "is locked"), (TokenFlag.USER_PIN_FINAL_TRY, "one try is left .* not spent here")],
)
def test_the_last_try_is_never_spent(flag: TokenFlag, says: str) -> None:
    with pytest.raises(PassphraseError, match=says) as caught:
        require_tries("release", flag)
    assert caught.value.hints
    require_tries("release", TokenFlag.USER_PIN_COUNT_LOW)
