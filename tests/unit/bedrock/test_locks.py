from __future__ import annotations

import threading
from pathlib import Path

from bedrock.locks import held_folder, only_one


def test_the_second_is_told_once_and_waits_for_the_first(tmp_path: Path) -> None:
    lock, told, order = tmp_path / "deep/lock", threading.Event(), list[str]()

    def second() -> None:
        with only_one(lock, on_wait=told.set):
            order.append("second")

    waiting = threading.Thread(target=second)
    with only_one(lock, on_wait=lambda: order.append("waited")):
        waiting.start()
        assert told.wait(60)
        order.append("first")
    waiting.join(60)
    assert order == ["first", "second"]


def test_a_lock_that_is_free_is_taken_without_a_word(tmp_path: Path) -> None:
    told: list[str] = []
    for _ in range(2):
        with only_one(tmp_path / "lock", on_wait=lambda: told.append("waited")):
            pass
    assert told == []


def test_a_folder_is_held_by_one_at_a_time(tmp_path: Path) -> None:
    with held_folder(tmp_path) as first, held_folder(tmp_path) as second:
        assert (first, second) == (True, False)
    with held_folder(tmp_path) as later:
        assert later
