"""An HTTP/1.1 server with Range and ETag, whose answers can be made to go wrong."""

import contextlib
import hashlib
import json
import re
import socket
import ssl
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


@dataclass
class Seen:
    """A request as it came: method, path with query, headers, body; and what was sent: status and body bytes."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    status: int = 0
    sent: int = 0


@dataclass
class Answer:
    """A right answer, before any fault: `ranged` ones honour Range and If-Range."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    ranged: bool = False
    etag: bool = True
    chunked: bool = False

    @classmethod
    def json(cls, value: Any, status: int = 200, **headers: str) -> "Answer":
        """A JSON answer."""
        return cls(json.dumps(value).encode(), status, {"Content-Type": "application/json", **headers})


@dataclass
class Fault:
    """What goes wrong with the requests whose path matches, `times` times (-1: always)."""

    match: str
    times: int = 1
    method: str = "GET"
    status: int | None = None  # this status and `body` in place of the answer
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    cut_after: int | None = None  # the connection is closed after so many bytes of the body
    drip: float | None = None  # seconds between single bytes
    drip_headers: float | None = None  # the same for the header lines
    flip: int | None = None  # the byte at this position is another one
    length: int | None = None  # so many bytes more are announced than come
    trim: int = 0  # so many bytes less than there are, announced as all
    no_range: bool = False  # Range is ignored
    shift_range: int = 0  # a part is sent that begins so much later than asked for
    range_status: int | None = None  # the answer to a Range, 416 for example
    silent: bool = False  # nothing is ever answered
    only_range: bool = False  # applies to requests with a Range only


class Server:
    """A server on a free port of `host`; subclasses say what the right answers are (`answer`)."""

    def __init__(self, host: str = "127.0.0.1", tls: tuple[Path, Path] | None = None) -> None:
        self.log: list[Seen] = []
        self.faults: list[Fault] = []
        self.delay, self.block = 0.0, 16 * 1024  # seconds before each block of a body, and its bytes
        self.busy = self.most_busy = 0  # answers being sent at this moment, and the most there ever were
        self.closing = threading.Event()
        self._lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"home": self})
        self._http = ThreadingHTTPServer((host, 0), handler)
        self._http.daemon_threads = True
        scheme = "http"
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            self._http.socket = context.wrap_socket(self._http.socket, server_side=True)
            scheme = "https"
        self.url = f"{scheme}://{host}:{self._http.server_port}"
        self.port = self._http.server_port

    def __enter__(self) -> "Server":
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.closing.set()
        self._http.shutdown()
        self._http.server_close()

    def answer(self, seen: Seen) -> Answer:
        """The right answer to a request."""
        raise AssertionError("a subclass says what the answers are")

    def asked(self, match: str, method: str = "GET") -> list[Seen]:
        """The requests so far whose path matches."""
        return [seen for seen in self.log if seen.method == method and re.search(match, seen.path)]

    def count(self, change: int) -> None:
        """An answer begins or ends."""
        with self._lock:
            self.busy += change
            self.most_busy = max(self.most_busy, self.busy)

    def take_fault(self, seen: Seen) -> Fault:
        """The fault that strikes a request, used up by that; one that does nothing where there is none."""
        with self._lock:
            for fault in self.faults:
                applies = not fault.only_range or "Range" in seen.headers
                if fault.times and fault.method == seen.method and applies and re.search(fault.match, seen.path):
                    fault.times -= 1
                    return fault
        return Fault("")


class _Handler(BaseHTTPRequestHandler):
    home: Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def handle(self) -> None:
        """A client that hangs up is no error here."""
        with contextlib.suppress(ConnectionError):
            super().handle()

    def log_message(self, *args: object) -> None:
        """Tests read `log` instead."""

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        seen = Seen(self.command, self.path, dict(self.headers.items()), self.rfile.read(length))
        self.home.log.append(seen)
        fault = self.home.take_fault(seen)
        with contextlib.suppress(OSError):
            if fault.silent:
                self.home.closing.wait(60)
                self._cut()
            elif fault.status:
                self._send(seen, fault, Answer(fault.body, fault.status, fault.headers))
            else:
                self._send(seen, fault, self.home.answer(seen))

    do_GET = do_POST = do_HEAD = _serve

    def _cut(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def _send(self, seen: Seen, fault: Fault, answer: Answer) -> None:
        body, status, headers = answer.body, answer.status, {**answer.headers, **fault.headers}
        if fault.trim:
            body = body[: -fault.trim]
        if fault.flip is not None:
            body = body[: fault.flip] + bytes([body[fault.flip] ^ 255]) + body[fault.flip + 1 :]
        if answer.ranged and status == 200:
            status, body = self._range(fault, body, headers, answer.etag)
        seen.status = status
        if answer.chunked:
            headers["Transfer-Encoding"] = "chunked"
        else:
            headers["Content-Length"] = str(len(body) + (fault.length or 0))
        self._send_head(status, headers, fault.drip_headers)
        if self.command != "HEAD":
            self._send_body(seen, body, fault, answer.chunked)
        if fault.length:
            self._cut()

    def _range(self, fault: Fault, body: bytes, headers: dict[str, str], etag: bool) -> tuple[int, bytes]:
        tag = f'"{hashlib.md5(body).hexdigest()}"'
        if etag:
            headers.setdefault("ETag", tag)
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        if not asked or fault.no_range or self.headers.get("If-Range", tag) != tag:
            return 200, body
        begin = int(asked[1])
        if fault.range_status:
            return fault.range_status, b""
        if begin >= len(body):
            headers["Content-Range"] = f"bytes */{len(body)}"
            return 416, b""
        begin += fault.shift_range
        headers["Content-Range"] = f"bytes {begin}-{len(body) - 1}/{len(body)}"
        return 206, body[begin:]

    def _send_head(self, status: int, headers: dict[str, str], drip: float | None) -> None:
        lines = [f"HTTP/1.1 {status} {'OK' if status < 300 else 'Other'}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")
        if drip is None:
            self.wfile.write(head)
        else:
            self._drip(head, drip)

    def _drip(self, data: bytes, pause: float) -> None:
        for byte in data:
            self.wfile.write(bytes([byte]))
            self.wfile.flush()
            if self.home.closing.wait(pause):
                return

    def _send_body(self, seen: Seen, body: bytes, fault: Fault, chunked: bool) -> None:
        if fault.drip is not None:
            self._drip(body, fault.drip)
            return
        end = len(body) if fault.cut_after is None else min(fault.cut_after, len(body))
        if end:
            self.home.count(1)
        for start in range(0, end, self.home.block):
            block = body[start : min(start + self.home.block, end)]
            if self.home.delay:
                time.sleep(self.home.delay)
            if start + self.home.block >= end:
                self.home.count(-1)  # before the client can know that this answer is whole
            self.wfile.write(b"%x\r\n%s\r\n" % (len(block), block) if chunked else block)
            seen.sent += len(block)
        if fault.cut_after is not None:
            self._cut()
        elif chunked:
            self.wfile.write(b"0\r\n\r\n")
