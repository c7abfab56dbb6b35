"""The page's server: this machine alone, and only for whoever knows the address.

It listens on 127.0.0.1. Every address begins with a random word, so that no other page and no other user can guess one.
A ``Host`` other than its own is refused, so that no name that somebody else points at 127.0.0.1 reaches it (DNS
rebinding), and so is a call that another page makes (``Origin``, ``Sec-Fetch-Site``). Nothing allows cross-origin
reading. The page may load nothing but its own files. The calls that it may make are read strictly: anything unforeseen
is refused.
"""

from __future__ import annotations

import hmac
import json
import secrets
import sys
from collections.abc import Callable
from functools import cache
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from typing import Any
from urllib.parse import urlsplit

from foresee.core.errors import ForeseeError, RequestError
from foresee.explore.session import Json, Session

ADDRESS = "127.0.0.1"
LARGEST_BODY = 256 * 1024
KINDS = {
    "html": "text/html; charset=utf-8", "css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}  # fmt: skip
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY, "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin", "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store",
}  # fmt: skip


@cache
def page_files() -> dict[str, bytes]:
    """Every file of the page by its name; ``index.html`` is also the one without a name."""
    folder = resources.files("foresee.explore") / "page"
    found = {each.name: each.read_bytes() for each in folder.iterdir() if each.name.rpartition(".")[2] in KINDS}
    return found | {"": found["index.html"]}


class Server(ThreadingHTTPServer):
    """Serves one session from construction on; ``serve_forever`` answers. ``url`` is where the page is."""

    daemon_threads = True
    allow_reuse_address = False

    def __init__(self, session: Session, port: int = 0) -> None:
        """``port`` 0 takes any free one. Raises ``RequestError`` where it cannot be had."""
        self.session, self.word = session, secrets.token_urlsafe(24)
        try:
            super().__init__((ADDRESS, port), Handler)
        except (OSError, OverflowError) as error:
            raise RequestError(f"port {port} of {ADDRESS} cannot be used ({error}); 0 takes any free one") from None
        self.hosts = tuple(f"{name}:{self.server_port}" for name in (ADDRESS, "localhost"))
        self.url = f"http://{self.hosts[0]}/{self.word}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A page that goes away in the middle is no error."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """One connection, closed after half a minute of silence."""

    server: Server
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "foresee", ""
    timeout = 30

    def do_GET(self) -> None:
        name = self._own_name()
        if name is None:
            return
        if name in page_files():
            self._send(HTTPStatus.OK, page_files()[name], KINDS[(name or "index.html").rpartition(".")[2]])
        else:
            self._refuse(HTTPStatus.NOT_FOUND, "there is no such file")

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdecimal()) or len(length) > 9 or int(length) > LARGEST_BODY:
            self.close_connection = True  # what follows is the body, which was not read
            self._refuse(HTTPStatus.BAD_REQUEST, f"a call has a Content-Length of at most {LARGEST_BODY}")
            return
        body, name = self.rfile.read(int(length)), self._own_name()
        if name is None:
            return
        if not name.startswith("api/"):
            self._refuse(HTTPStatus.NOT_FOUND, "there is no such call")
        elif self.headers.get_content_type() != "application/json":
            self._refuse(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "a call has the Content-Type application/json")
        else:
            try:
                self._send_json(HTTPStatus.OK, answer(self.server.session, name.removeprefix("api/"), body))
            except RequestError as error:
                self._refuse(HTTPStatus.BAD_REQUEST, str(error))
            except ForeseeError as error:
                self._refuse(HTTPStatus.INTERNAL_SERVER_ERROR, str(error))

    def _own_name(self) -> str | None:
        """The name after the secret word; None, and an answer sent, where the request is not this page's own."""
        own = {None, *(f"http://{host}" for host in self.server.hosts)}
        origin, site = self.headers.get("Origin"), self.headers.get("Sec-Fetch-Site")
        hosts = self.headers.get_all("Host") or []
        if len(hosts) != 1 or hosts[0].lower() not in self.server.hosts:
            self._refuse(HTTPStatus.FORBIDDEN, "the Host of this request is not this server")
        elif origin not in own or site not in (None, "same-origin", "none"):
            self._refuse(HTTPStatus.FORBIDDEN, "this request comes from another page")
        else:
            word, slash, name = urlsplit(self.path).path.removeprefix("/").partition("/")
            if slash and hmac.compare_digest(word.encode(), self.server.word.encode()):
                return name
            self._refuse(HTTPStatus.NOT_FOUND, "there is nothing here; open the address that foresee explore printed")
        return None

    def _refuse(self, status: HTTPStatus, sentence: str) -> None:
        self._send_json(status, {"error": sentence})

    def _send_json(self, status: HTTPStatus, value: Any) -> None:
        self._send(status, json.dumps(value, allow_nan=False).encode(), "application/json")

    def _send(self, status: HTTPStatus, content: bytes, kind: str) -> None:
        self.send_response(status)
        for header, value in {**HEADERS, "Content-Type": kind, "Content-Length": str(len(content))}.items():
            self.send_header(header, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class calls it that
        """Nothing: an address holds the secret word, and standard error is for people."""


LARGEST = 2**31 - 1
LONGEST = 20_000
"""Characters of a line, and tokens of a list."""


def answer(session: Session, name: str, body: bytes) -> Json:
    """The answer to the call ``name`` with a JSON object. Raises ``RequestError`` on a wrong one."""
    if name not in CALLS:
        raise RequestError(f"there is no call {name!r}; the calls are {', '.join(CALLS)}")
    call, readers = CALLS[name]
    try:
        given = json.loads(body.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise RequestError("the body of a call must be one JSON object in UTF-8") from None
    if not isinstance(given, dict):
        raise RequestError("the body of a call must be a JSON object, as in {}")
    for key in given:
        if key not in readers:
            raise RequestError(f"{name} does not take {key!r}; it takes {', '.join(readers) or 'nothing'}")
    for key in readers:
        if key not in given:
            raise RequestError(f"{name} lacks {key!r}; it takes {', '.join(readers)}")
    with session.turn:
        return call(session, **{key: read(given[key], key, session) for key, read in readers.items()})


def _refuse_constant(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _number(value: Any, key: str, session: Session, most: int = LARGEST) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise RequestError(f"{key} must be a whole number from 0 to {most}")
    return value


def _token(value: Any, key: str, session: Session) -> int:
    return _number(value, key, session, len(session.vocab) - 1)


def _tokens(value: Any, key: str, session: Session) -> list[int]:
    if not isinstance(value, list) or len(value) > LONGEST:
        raise RequestError(f"{key} must be a list of at most {LONGEST} tokens")
    return [_token(token, f"every token in {key}", session) for token in value]


def _line(value: Any, key: str, session: Session) -> str:
    if not isinstance(value, str) or len(value) > LONGEST:
        raise RequestError(f"{key} must be a text of at most {LONGEST} characters")
    if any(each in "\n\r" or "\ud800" <= each <= "\udfff" for each in value):
        raise RequestError(f"{key} must be one line of Unicode text")
    return value


ReadArgument = Callable[[Any, str, Session], Any]
CALLS: dict[str, tuple[Callable[..., Json], dict[str, ReadArgument]]] = {
    "run": (Session.describe, {}),
    "draw": (Session.draw, {"number": _number}),
    "read": (Session.read, {"line": _line}),
    "goal": (Session.choose_goal, {"prompt": _tokens, "goal": _token}),
    "shuffle": (Session.shuffle, {"prompt": _tokens, "number": _number}),
    "decide": (Session.decide, {"prompt": _tokens, "begun": _tokens, "ahead": _number}),
}
