"""A web server on loopback that misbehaves on request."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

Special = Callable[[BaseHTTPRequestHandler], None]


@dataclass
class Site:
    """Files by path, and how to misbehave.

    `break_after` ends that many transfers of a path after so many bytes; `status` answers with that code;
    `hide_length` sends no length; `no_ranges` ignores Range; `special` answers a path in a way of its own, and may wait
    until `over`.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    break_after: dict[str, list[int]] = field(default_factory=dict)
    status: dict[str, list[int]] = field(default_factory=dict)
    special: dict[str, Special] = field(default_factory=dict)
    hide_length: bool = False
    no_ranges: bool = False
    over: threading.Event = field(default_factory=threading.Event)
    seen_headers: list[Message] = field(default_factory=list)
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    sent_bytes: int = 0
    url: str = ""


@contextmanager
def serving(site: Site, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> Iterator[Site]:
    """Serve the site on a free port of loopback for as long as the block runs."""
    server = (_Ipv6Server if ":" in host else ThreadingHTTPServer)((host, 0), _handler(site))
    server.daemon_threads = True
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    shown = f"[{host}]" if ":" in host else host
    site.url = f"http{'s' if tls else ''}://{shown}:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield site
    finally:
        site.over.set()
        server.shutdown()
        thread.join()
        server.server_close()


class _Ipv6Server(ThreadingHTTPServer):
    address_family = socket.AF_INET6


def raw(*parts: bytes) -> Special:
    """An answer of these bytes as they are."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        for part in parts:
            handler.wfile.write(part)

    return answer


def redirect(location: str, status: int = 302) -> Special:
    """An answer that leads somewhere else."""
    return raw(f"HTTP/1.1 {status} Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode())


def trickled(site: Site, first: bytes, part: bytes, pause_s: float = 0.01) -> Special:
    """An answer that begins, and then goes on with one part after the other for as long as somebody takes them."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(first)
        while not site.over.wait(pause_s):
            handler.wfile.write(part)

    return answer


def silent(site: Site, first: bytes = b"") -> Special:
    """An answer that begins, and then nothing comes any more."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(first)
        site.over.wait()

    return answer


def _handler(site: Site) -> type[BaseHTTPRequestHandler]:
    return type("Handler", (_Handler,), {"site": site})


class _Handler(BaseHTTPRequestHandler):
    site: ClassVar[Site]

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.site.requests.append((self.path, wanted))
        self.site.seen_headers.append(self.headers)
        if self.path in self.site.special:
            self._answer_specially(self.site.special[self.path])
            return
        planned = self.site.status.get(self.path, [])
        if planned:
            self.send_error(planned.pop(0))
            return
        if self.path not in self.site.files:
            self.send_error(404)
            return
        self._send(self.site.files[self.path], wanted)

    def _answer_specially(self, answer: Special) -> None:
        self.close_connection = True
        with suppress(BrokenPipeError, ConnectionResetError):
            answer(self)

    def _send(self, content: bytes, wanted: str | None) -> None:
        start = 0
        if wanted and not self.site.no_ranges:
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            start, end = int(first), min(int(last or len(content)), len(content) - 1)
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{end}/{len(content)}")
            content = content[: end + 1]
        else:
            self.send_response(200)
        body = content[start:]
        if not self.site.hide_length:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        breaks = self.site.break_after.get(self.path, [])
        limit = breaks.pop(0) if breaks else len(body)
        try:
            for offset in range(0, min(limit, len(body)), 65536):
                part = body[offset : min(offset + 65536, limit)]
                # Counted first: whoever reads the last part may look at once.
                self.site.sent_bytes += len(part)
                self.wfile.write(part)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass
