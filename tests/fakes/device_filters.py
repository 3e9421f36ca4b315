"""The kernel's device programs, in memory."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class MemoryFilters:
    """The programs of a kernel, which may refuse."""

    attached: list[bytes] = field(default_factory=list)
    error: OSError | None = None

    def attach(self, program: bytes) -> None:
        if self.error is not None:
            raise self.error
        self.attached.append(program)

    def detach(self) -> bool:
        if self.error is not None:
            raise self.error
        found = bool(self.attached)
        self.attached.clear()
        return found
