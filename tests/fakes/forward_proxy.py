"""The smallest forward proxy on loopback: requests and tunnels, and what it was asked."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

_READ_BYTES = 65536


@dataclass
class ForwardProxy:
    """What it was asked (`GET http://…`, `CONNECT host:port`), and the credentials that came with each."""

    url: str = ""
    asked: list[str] = field(default_factory=list)
    secrets: list[str | None] = field(default_factory=list)

    def serve(self, client: socket.socket) -> None:
        """Forward the one request of a connection."""
        head = b""
        while b"\r\n\r\n" not in head:
            data = client.recv(_READ_BYTES)
            if not data:
                return
            head += data
        lines = head.decode().split("\r\n")
        verb, target, _ = lines[0].split(" ")
        fields = {line.partition(":")[0].lower(): line.partition(":")[2].strip() for line in lines[1:]}
        self.asked.append(f"{verb} {target}")
        self.secrets.append(fields.get("proxy-authorization"))
        host, _, port = (target if verb == "CONNECT" else fields["host"]).partition(":")
        with socket.create_connection((host, int(port))) as server:
            if verb == "CONNECT":
                client.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
                onward = threading.Thread(target=_pump, args=(client, server), daemon=True)
                onward.start()
            else:
                server.sendall(head.replace(target.encode(), b"/" + target.split("/", 3)[3].encode(), 1))
            _pump(server, client)


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(_READ_BYTES):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


@contextmanager
def forward_proxy() -> Iterator[ForwardProxy]:
    """A proxy for as long as the block runs."""
    proxy = ForwardProxy()
    listener = socket.create_server(("127.0.0.1", 0))
    proxy.url = f"http://127.0.0.1:{listener.getsockname()[1]}"

    def one(client: socket.socket) -> None:
        with client:
            proxy.serve(client)

    def accept() -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                threading.Thread(target=one, args=(client,), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()
