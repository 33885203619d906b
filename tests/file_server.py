"""A web server on 127.0.0.1 with files in memory, for what is fetched from URLs."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class FileServer:
    """``files`` and ``redirects`` by path; ``asked`` is what was asked for. Of a file in ``cut`` the last byte is kept back.

    After a file in ``stalled`` the connection stays open, and no length is announced.
    """

    port: int = 0
    files: dict[str, bytes] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    cut: set[str] = field(default_factory=set)
    stalled: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def file_server() -> Iterator[FileServer]:
    """A running one; its port is on every address of this machine."""
    served = FileServer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.asked.append(self.path)
            if self.path in served.redirects:
                self.send_response(302)
                self.send_header("Location", served.redirects[self.path])
                self.end_headers()
                return
            data = served.files.get(self.path)
            self.send_response(404 if data is None else 200)
            if self.path not in served.stalled:
                self.send_header("Content-Length", str(len(data or b"")))
            self.end_headers()
            self.wfile.write((data or b"")[: -1 if self.path in served.cut else None])
            if self.path in served.stalled:
                self.wfile.flush()
                served.ended.wait()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("0.0.0.0", 0), Handler) as server:
        served.port = server.server_port
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield served
        served.ended.set()
        server.shutdown()
        thread.join()
