"""A small client of QEMU's control protocol (QEMU documentation, "QEMU Machine Protocol Specification")."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from imagebuild.errors import VmError

_TIMEOUT_S = 20.0
_MAX_LINE_BYTES = 1 << 20


class Qmp:
    """A connection to one QEMU; commands are answered in order, events are passed over."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._socket.settimeout(_TIMEOUT_S)
        self._lines = connection.makefile("rb")
        try:
            self._read()  # the greeting
            self.execute("qmp_capabilities")
        except BaseException:
            self.close()
            raise

    @classmethod
    def connect(cls, path: Path) -> Qmp:
        """Connect to a control socket.

        Raises:
            OSError: Nobody listens there (yet).
            VmError: It does not speak the protocol.
        """
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(str(path))
        except OSError:
            connection.close()
            raise
        return cls(connection)

    def execute(self, command: str, arguments: dict[str, Any] | None = None) -> Any:
        """Run a command and return what it returns.

        Raises:
            VmError: QEMU refused it, or is gone.
        """
        request: dict[str, Any] = {"execute": command}
        if arguments:
            request["arguments"] = arguments
        try:
            self._socket.sendall(json.dumps(request).encode() + b"\n")
        except OSError as error:
            raise VmError(f"QEMU did not receive {command}: {error.strerror}") from error
        while True:
            answer = self._read()
            if "error" in answer:
                raise VmError(f"QEMU refused {command}: {answer['error'].get('desc', answer['error'])}")
            if "return" in answer:
                return answer["return"]

    def close(self) -> None:
        """End the connection; the machine goes on."""
        self._lines.close()
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read(self) -> dict[str, Any]:
        try:
            line = self._lines.readline(_MAX_LINE_BYTES)
            answer = json.loads(line) if line else None
        except (OSError, ValueError) as error:
            raise VmError(f"QEMU's control socket failed: {error}") from error
        if not isinstance(answer, dict):
            raise VmError("QEMU closed its control socket")
        return answer
