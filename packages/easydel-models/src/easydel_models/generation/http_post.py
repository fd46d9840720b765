"""Sending JSON to a server that may be busy, restarting, wrong or hostile: retries with growing pauses, and bounds.

What is tried again: connections that fail or time out, and answers 408, 429 and 5xx. Everything else is an answer. No
redirect is followed: it would take the headers, and a key among them, to a host that nobody named.
"""

import dataclasses
import functools
import http.client
import json
import random
import socket
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from easydel_models.errors import EngineError
from easydel_models.safe_text import readable

_AGAIN = {408, 429, 500, 502, 503, 504}
_REDIRECTS = {301, 302, 303, 307, 308}
_LONGEST_PAUSE = 30.0
_EXCERPT = 300
_CHUNK = 1 << 16


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Patience:
    """How long to wait for a server, how often, and how much to take from it."""

    timeout: float = 600.0
    """Seconds without a byte before an attempt counts as failed: a long completion answers only at its end."""
    total_timeout: float = 3600.0
    """Seconds that one attempt may take in all, however its bytes come."""
    max_bytes: int = 256 << 20
    """Most bytes of an answer; a longer one is refused."""
    retries: int = 4
    """Attempts after the first."""
    first_pause: float = 0.5
    """Seconds before the first retry; each pause is about twice the one before, at most half a minute."""

    def pause(self, attempt: int, asked: str | None) -> float:
        """Returns seconds before retry number ``attempt`` (from 0); what the server asked for, if that is longer."""
        # Shifted at random, so that requests refused together do not come back together.
        own = self.first_pause * 2**attempt * random.uniform(0.75, 1.25)
        wanted = float(asked) if asked and asked.isascii() and asked.isdigit() else 0.0
        return min(max(own, wanted), _LONGEST_PAUSE)


def post_json(url: str, body: dict[str, Any], headers: dict[str, str], patience: Patience) -> Any:
    """Returns the parsed answer.

    Raises:
        EngineError: If the server refuses the request, redirects it, answers something that is no JSON or is larger
            than `patience` allows, or cannot be reached after all retries. Headers, which may hold a key, are never
            quoted, not even where the server repeats them.
    """
    request = urllib.request.Request(
        url, json.dumps(body).encode(), {"Content-Type": "application/json", **headers}, method="POST"
    )
    failure = ""
    for attempt in range(patience.retries + 1):
        asked = None
        try:
            status, content, asked = _answer(request, patience)
        except (OSError, http.client.HTTPException) as error:
            failure = str(error) or type(error).__name__
        else:
            if 200 <= status < 300:
                return _parsed(url, content, headers)
            if status in _REDIRECTS:
                raise EngineError(
                    f"{_shown(url)} redirects to {_shown(asked or '')}, and keys are sent to no host that was not "
                    "named; give that address, if you trust it"
                )
            failure = f"HTTP {status}: {_excerpt(content, headers)}"
            if status not in _AGAIN:
                raise EngineError(f"{_shown(url)} refused the request with {failure}")
        if attempt < patience.retries:
            time.sleep(patience.pause(attempt, asked))
    raise EngineError(
        f"{_shown(url)} gave no answer in {patience.retries + 1} attempts; the last one: {_without(failure, headers)}. "
        "Is the server up, and does the address end where its API begins, as in http://host:8000/v1?"
    )


def _answer(request: urllib.request.Request, patience: Patience) -> tuple[int, bytes, str | None]:
    """Status, content, and what Retry-After or Location says."""
    with _limited(patience.total_timeout) as opener:
        answer: Any  # typeshed says that an opener may return nothing; over HTTP it does not
        try:
            answer = opener.open(request, timeout=patience.timeout)
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            header = "Location" if answer.status in _REDIRECTS else "Retry-After"
            return answer.status, _content(answer, patience.max_bytes), answer.headers.get(header)


def _content(answer: Any, most: int) -> bytes:
    chunks, size = [], 0
    while chunk := answer.read(_CHUNK):
        chunks.append(chunk)
        size += len(chunk)
        if size > most:
            raise EngineError(f"the server's answer has more than {most:,} bytes (`max_bytes`); it was not read on")
    return b"".join(chunks)


class _Unfollowed(urllib.request.HTTPRedirectHandler):
    """Hands a redirect back as the answer that it is."""

    # urllib's own signature
    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> None:  # noqa: PLR0917
        return None


class _Deadline:
    """Ends a connection when its time is up: the timeout of a socket begins anew with every byte."""

    def __init__(self, seconds: float):
        self.passed = False
        self._sockets: list[socket.socket] = []
        self._timer = threading.Timer(seconds, self._end)
        self._timer.daemon = True
        self._timer.start()

    def watch(self, connection: socket.socket) -> None:
        self._sockets.append(connection)

    def close(self) -> None:
        self._timer.cancel()

    def _end(self) -> None:
        self.passed = True
        for connection in self._sockets:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # it has ended by itself


@contextmanager
def _limited(seconds: float) -> Iterator[urllib.request.OpenerDirector]:
    """An opener whose connections end after so many seconds in all."""
    deadline = _Deadline(seconds)

    class Plain(urllib.request.HTTPHandler):
        def http_open(self, req: Any) -> Any:
            return self.do_open(functools.partial(_connection, http.client.HTTPConnection, deadline), req)

    class Secure(urllib.request.HTTPSHandler):
        def https_open(self, req: Any) -> Any:
            return self.do_open(functools.partial(_connection, http.client.HTTPSConnection, deadline), req)

    try:
        yield urllib.request.build_opener(_Unfollowed, Plain, Secure)
    finally:
        deadline.close()
        if deadline.passed:  # whatever came of it: a connection that was ended reads like an answer that has
            raise TimeoutError(f"it took longer than {seconds:g} seconds in all (`total_timeout`)")


def _connection(kind: Any, deadline: _Deadline, host: str, **options: Any) -> http.client.HTTPConnection:
    connection = kind(host, **options)
    connect = connection.connect

    def watched() -> None:
        connect()
        deadline.watch(connection.sock)

    connection.connect = watched
    return connection


def _parsed(url: str, answer: bytes, headers: dict[str, str]) -> Any:
    try:
        return json.loads(answer)
    except (ValueError, RecursionError):
        excerpt = _excerpt(answer, headers)
        raise EngineError(f"{_shown(url)} answered something that is no JSON: {excerpt}") from None


def _excerpt(answer: bytes, headers: dict[str, str]) -> str:
    # Hidden before it is cut: a key in two parts would no longer be found.
    text = _without(answer[: 100 * _EXCERPT].decode(errors="replace"), headers)
    return readable(text[:_EXCERPT].strip()) or "(nothing)"


def _without(text: str, headers: dict[str, str]) -> str:
    for value in headers.values():
        for secret in (value, value.rpartition(" ")[2]):
            text = text.replace(secret, "…") if secret else text
    return text


def _shown(url: str) -> str:
    """Returns an address without what it may hold of secrets: the user's part and the query."""
    try:
        parts = urllib.parse.urlsplit(url)
    except ValueError:
        return "an address that is none"
    return urllib.parse.urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
