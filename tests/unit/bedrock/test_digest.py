from __future__ import annotations

import hashlib
from pathlib import Path

from bedrock.digest import file_sha256, files_sha256, texts_sha256


def test_a_file_is_hashed_whole(tmp_path: Path) -> None:
    content = bytes(range(256)) * 10_000
    (tmp_path / "file").write_bytes(content)
    assert file_sha256(tmp_path / "file") == hashlib.sha256(content).hexdigest()


def test_names_contents_and_links_count_and_order_does_not(tmp_path: Path) -> None:
    one, two, link = (tmp_path / name for name in ("one", "two", "link"))
    one.write_text("1")
    two.write_text("2")
    link.symlink_to("one")
    seen = {files_sha256({"a": one}), files_sha256({"b": one}), files_sha256({"a": two}), files_sha256({"a": link})}
    link.unlink()
    link.symlink_to("nowhere")
    seen.add(files_sha256({"a": link}))
    assert len(seen) == 5
    assert files_sha256({"a": one, "b": two}) == files_sha256({"b": two, "a": one})


def test_where_one_text_ends_and_the_next_begins_counts() -> None:
    assert texts_sha256(("ab", "c")) != texts_sha256(("a", "bc"))
