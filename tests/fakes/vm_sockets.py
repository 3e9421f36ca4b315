"""The other ends of a machine's sockets: QEMU's control protocol and the guest's shell, answered from a script."""

from __future__ import annotations

import base64
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

Handler = Callable[[socket.socket], None]


@contextmanager
def served(path: Path, handler: Handler) -> Iterator[None]:
    """Listen on a Unix socket and give the one connection to `handler`."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen(1)

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                handler(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield
        thread.join(60)


class ScriptedQemu:
    """Answers every command with what `answers` holds for it, else with an error, each after an event."""

    def __init__(self, answers: dict[str, object]) -> None:
        self.answers = {"qmp_capabilities": {}, **answers}
        self.heard: list[dict[str, object]] = []

    def __call__(self, connection: socket.socket) -> None:
        connection.sendall(b'{"QMP": {"version": {}}}\n')
        with connection.makefile("rb") as lines:
            for line in lines:
                self._answer(connection, json.loads(line))

    def _answer(self, connection: socket.socket, request: dict[str, object]) -> None:
        self.heard.append(request)
        connection.sendall(b'{"event": "NICE_WEATHER"}\n')
        name = str(request["execute"])
        if name in self.answers:
            answer: dict[str, object] = {"return": self.answers[name]}
        else:
            answer = {"error": {"class": "CommandNotFound", "desc": f"no command {name}"}}
        connection.sendall(json.dumps(answer).encode() + b"\n")


class ScriptedGuest:
    """The guest's side of the shell: `outcomes` maps a command to its exit code and output, or to what it says."""

    def __init__(self, outcomes: dict[str, tuple[int, str] | bytes], *, greeting: bytes = b"\nready boot-1\n") -> None:
        self.outcomes = outcomes
        self.greeting = greeting

    def __call__(self, connection: socket.socket) -> None:
        connection.sendall(self.greeting)
        with connection.makefile("rb") as lines:
            for line in lines:
                self._answer(connection, line.decode())

    def _answer(self, connection: socket.socket, line: str) -> None:
        request, _limit, payload = line.split()
        outcome = self.outcomes[base64.b64decode(payload).decode()]
        if isinstance(outcome, bytes):
            connection.sendall(outcome)
            return
        code, output = outcome
        encoded = base64.b64encode(output.encode()).decode()
        connection.sendall(f"end {request} {code} {encoded}\n".encode())
