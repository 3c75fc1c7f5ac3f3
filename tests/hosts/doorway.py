"""A way out for hosts that fetch Debian packages: a proxy on the run's own network, to where this machine gets its."""

from __future__ import annotations

import http.client
import select
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from urllib.parse import urlsplit

_BLOCK_BYTES = 65_536
_PATIENCE_S = 60.0
_OF_ONE_HOP = ("connection", "keep-alive", "proxy-connection", "transfer-encoding")


class Doorway:
    """Open while it is entered; `url` is what a host sets as its proxy."""

    def __init__(self, address: str) -> None:
        self._server = ThreadingHTTPServer((address, 0), _Passage)
        self._server.daemon_threads = True
        self.url = f"http://{address}:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever)

    def __enter__(self) -> Doorway:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Passage(BaseHTTPRequestHandler):
    """One request: fetched, or for TLS carried to and fro."""

    def do_GET(self) -> None:
        to = urlsplit(self.path)
        where = http.client.HTTPConnection(to.hostname or "", to.port or 80, timeout=_PATIENCE_S)
        passed_on = {name: value for name, value in self.headers.items() if name.lower() not in _OF_ONE_HOP}
        where.request("GET", f"{to.path}?{to.query}" if to.query else to.path, headers=passed_on)
        answer = where.getresponse()
        self.send_response_only(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in _OF_ONE_HOP:
                self.send_header(name, value)
        self.send_header("Connection", "close")
        self.end_headers()
        while block := answer.read(_BLOCK_BYTES):
            self.wfile.write(block)
        where.close()

    def do_CONNECT(self) -> None:
        host, _, port = self.path.rpartition(":")
        with socket.create_connection((host, int(port)), timeout=_PATIENCE_S) as far:
            self.send_response_only(200)
            self.end_headers()
            other = {self.connection: far, far: self.connection}
            while ready := select.select(list(other), [], [], _PATIENCE_S)[0]:
                for each in ready:
                    if not (block := each.recv(_BLOCK_BYTES)):
                        return
                    other[each].sendall(block)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: apt does."""
