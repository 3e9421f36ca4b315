"""A web server on loopback whose answers a test writes itself: status, headers and body by request."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class WebAnswer:
    """One answer; `cut` breaks the connection after that many bytes of the body, and `length` misstates it."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: int | None = None
    length: int | None = None


Answering = Callable[[str, Mapping[str, str]], WebAnswer]


@dataclass
class WebServer:
    """Where it listens, and what it was asked: paths with their headers (names in small letters)."""

    url: str = ""
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)


def answering(files: Mapping[str, bytes]) -> Answering:
    """Files by path, with ranges."""

    def answer(path: str, headers: Mapping[str, str]) -> WebAnswer:
        if path not in files:
            return WebAnswer(404)
        content, wanted = files[path], headers.get("range")
        if wanted is None:
            return WebAnswer(body=content)
        start = int(wanted.removeprefix("bytes=").rstrip("-"))
        part = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
        return WebAnswer(206, content[start:], part)

    return answer


@contextmanager
def web_server(answer: Answering) -> Iterator[WebServer]:
    """Serve on a free port of loopback for as long as the block runs."""
    made = WebServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            made.asked.append((self.path, headers))
            found = answer(self.path, headers)
            self.send_response(found.status)
            for name, value in found.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(found.body) if found.length is None else found.length))
            self.end_headers()
            self.wfile.write(found.body[: found.cut])
            self.close_connection = self.close_connection or found.cut is not None or found.length is not None

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    made.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
