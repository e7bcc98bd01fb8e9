"""The viewer's server: on this machine alone, for whoever has the address that was printed.

It listens on 127.0.0.1. Every address under it begins with a random token, and the header Host must be of
this machine: a page of another site that has its name point here (DNS rebinding) gets nothing. What can be
asked for is a fixed list; no part of an address becomes a path.
"""

import json
import logging
import re
import secrets
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import urlsplit

from pathprep.errors import PathprepError

log = logging.getLogger(__name__)

HOSTS = ("127.0.0.1", "localhost", "[::1]")
TILE = re.compile(r"slide_files/(\d{1,2})/(\d{1,7})_(\d{1,7})\.jpg", re.ASCII)
FIGURES = re.compile(r"figures/(\d{1,8})_(\d{1,8})\.json", re.ASCII)
ENDED = "the viewer's server has ended; start `pathprep view` again"
# Nothing of the page may come from elsewhere, or be sent elsewhere; the style is that of elements it makes
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class Answer:
    """What is sent: bytes and their kind; ``keep``: a browser may keep it while it runs."""

    def __init__(self, data: bytes, kind: str, *, keep: bool = False) -> None:
        self.data, self.kind, self.keep = data, kind, keep

    @classmethod
    def of_json(cls, value: Any) -> "Answer":
        """Of a JSON value; NaN stands in no page."""
        return cls(json.dumps(value, allow_nan=False, separators=(",", ":")).encode(), "application/json")


class Pages:
    """What a viewer serves.

    Attributes:
        files: answers by name. made: answers by name that take time, made when they are asked for.
        tile: of the Deep Zoom pyramid: level, column, row. figures: quality of the tile at x, y.
    """

    def __init__(
        self,
        files: dict[str, Answer],
        made: dict[str, Callable[[], Answer]],
        tile: Callable[[int, int, int], bytes | None],
        figures: Callable[[int, int], Any],
    ) -> None:
        self.files, self.made, self.tile, self.figures = files, made, tile, figures

    def answer(self, name: str) -> Answer | None:
        """What is at an address; None if nothing is.

        Raises:
            PathprepError: it cannot be made.
        """
        if name in self.files:
            return self.files[name]
        if name in self.made:
            return self.made[name]()
        found = TILE.fullmatch(name)
        if found:
            data = self.tile(*map(int, found.groups()))
            return None if data is None else Answer(data, "image/jpeg", keep=True)
        found = FIGURES.fullmatch(name)
        return Answer.of_json(self.figures(*map(int, found.groups()))) if found else None


class Server(ThreadingHTTPServer):
    """Serves ``pages`` under ``url``."""

    daemon_threads = True
    allow_reuse_address = False  # two viewers on one port would take each other's questions

    def __init__(self, pages: Pages, port: int = 0) -> None:
        self.pages, self.token, self.has_ended = pages, secrets.token_urlsafe(24), False
        super().__init__(("127.0.0.1", port), Handler)

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://127.0.0.1:{self.server_address[1]}/{self.token}/"

    def server_close(self) -> None:
        """Take no more; connections that are open are told at their next question."""
        self.has_ended = True
        super().server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that went away is no error; another one is told in the log."""
        log.debug("a request was broken off", exc_info=True)


class Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD."""

    server: Server
    server_version, sys_version = "pathprep", ""
    protocol_version = "HTTP/1.1"
    timeout = 30  # seconds that a connection may be silent: else each would keep a thread
    _no_body: ClassVar[set[str]] = {"HEAD"}

    def do_GET(self) -> None:
        """See ``Pages.answer``."""
        try:
            host = urlsplit(f"//{self.headers.get('Host', '')}").netloc
            name = host.rpartition(":")[0] if re.search(r":\d+$", host) else host
            if name not in HOSTS:
                self._send(HTTPStatus.FORBIDDEN, _text("not the address of this viewer"))
                return
            path = urlsplit(self.path).path
            token, slash, wanted = path.removeprefix("/").partition("/")
            if not (slash and token.isascii() and secrets.compare_digest(token, self.server.token)):
                self._send(
                    HTTPStatus.NOT_FOUND, _text("use the whole address that `pathprep view` has printed")
                )
                return
            if self.server.has_ended:
                self.close_connection = True
                self._send(HTTPStatus.SERVICE_UNAVAILABLE, _text(ENDED))
                return
            answer = self.server.pages.answer(wanted)
            if answer is None:
                self._send(HTTPStatus.NOT_FOUND, _text("nothing here"))
            else:
                self._send(HTTPStatus.OK, answer)
        except PathprepError as error:
            log.warning("%s", error)
            self._send(HTTPStatus.INTERNAL_SERVER_ERROR, _text(str(error)))
        except ConnectionError:
            self.close_connection = True  # the browser has moved on

    do_HEAD = do_GET

    def _send(self, status: HTTPStatus, answer: Answer) -> None:
        self.send_response(status)
        self.send_header("Content-Type", answer.kind)
        self.send_header("Content-Length", str(len(answer.data)))
        keep = answer.keep and status == HTTPStatus.OK
        self.send_header("Cache-Control", "private, max-age=86400" if keep else "no-store")
        self.send_header("Content-Security-Policy", POLICY)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.end_headers()
        if self.command not in self._no_body:
            self.wfile.write(answer.data)

    def log_message(self, format: str, *args: Any) -> None:
        """Every tile is a request: none is told."""


def _text(words: str) -> Answer:
    return Answer(words.encode(), "text/plain; charset=utf-8")
