"""A passphrase source that records its requests."""

from __future__ import annotations


class RecordingPassphrase:
    """Gives one text to everybody and keeps the subjects."""

    def __init__(self, text: str | None) -> None:
        self.text = text
        self.subjects: list[str] = []

    def passphrase(self, subject: str) -> str | None:
        self.subjects.append(subject)
        return self.text
