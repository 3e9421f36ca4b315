"""`report.json` of the demo.  Every value was observed in that run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bedrock import strict


@dataclass(frozen=True)
class DemoReport:
    """The observations of the demo; `ok` follows from the rest."""

    first: str
    second: str
    slots: tuple[str, str]
    secure_boot: bool
    verity: bool
    blessed: bool
    rolled_back_from: str
    running_after_rollback: str
    stayed: bool
    container_ran: tuple[bool, bool]
    accelerator: str
    seconds: dict[str, float]
    size_bytes: dict[str, int]

    @property
    def ok(self) -> bool:
        """Whether everything went as it should."""
        return (
            self.secure_boot
            and self.verity
            and self.blessed
            and self.stayed
            and all(self.container_ran)
            and self.slots == ("a", "b")
            and self.running_after_rollback == self.second
            and bool(self.rolled_back_from)
        )

    def document(self) -> dict[str, Any]:
        """The report as it is written."""
        return {
            "ok": self.ok,
            "from": self.first,
            "to": self.second,
            "slots": list(self.slots),
            "secure_boot": self.secure_boot,
            "verity": self.verity,
            "blessed": self.blessed,
            "rolled_back_from": self.rolled_back_from,
            "running_after_rollback": self.running_after_rollback,
            "stayed": self.stayed,
            "container_ran": list(self.container_ran),
            "accelerator": self.accelerator,
            "seconds": {name: round(value, 1) for name, value in self.seconds.items()},
            "bytes": dict(self.size_bytes),
        }

    def to_bytes(self) -> bytes:
        """The report as JSON."""
        return strict.dump_json(self.document())
