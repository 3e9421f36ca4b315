"""A web server on loopback that misbehaves on request."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Site:
    """Files by path, and how to misbehave.

    `break_after` ends that many transfers of a path after so many bytes; `status` answers with that code;
    `hide_length` sends no length; `no_ranges` ignores Range.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    break_after: dict[str, list[int]] = field(default_factory=dict)
    status: dict[str, list[int]] = field(default_factory=dict)
    hide_length: bool = False
    no_ranges: bool = False
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    sent_bytes: int = 0
    url: str = ""


@contextmanager
def serving(site: Site) -> Iterator[Site]:
    """Serve the site on a free port of loopback for as long as the block runs."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(site))
    server.daemon_threads = True
    site.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _handler(site: Site) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            site.requests.append((self.path, wanted))
            planned = site.status.get(self.path, [])
            if planned:
                self.send_error(planned.pop(0))
                return
            if self.path not in site.files:
                self.send_error(404)
                return
            self._send(site.files[self.path], wanted)

        def _send(self, content: bytes, wanted: str | None) -> None:
            start = 0
            if wanted and not site.no_ranges:
                first, _, last = wanted.removeprefix("bytes=").partition("-")
                start, end = int(first), min(int(last or len(content)), len(content) - 1)
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{end}/{len(content)}")
                content = content[: end + 1]
            else:
                self.send_response(200)
            body = content[start:]
            if not site.hide_length:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            breaks = site.break_after.get(self.path, [])
            limit = breaks.pop(0) if breaks else len(body)
            try:
                for offset in range(0, min(limit, len(body)), 65536):
                    part = body[offset : min(offset + 65536, limit)]
                    self.wfile.write(part)
                    site.sent_bytes += len(part)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    return Handler
