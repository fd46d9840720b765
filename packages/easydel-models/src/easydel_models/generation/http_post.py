"""Sending JSON to a server that may be busy, restarting or wrong: retries with growing pauses, errors that say which.

What is tried again: connections that fail or time out, and answers 408, 429 and 5xx. Everything else is an answer.
"""

import dataclasses
import http.client
import json
import random
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from easydel_models.errors import EngineError

_AGAIN = {408, 429, 500, 502, 503, 504}
_LONGEST_PAUSE = 30.0
_EXCERPT = 300


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Patience:
    """How long to wait for a server, and how often."""

    timeout: float = 600.0
    """Seconds without a byte before an attempt counts as failed: a long completion answers only at its end."""
    retries: int = 4
    """Attempts after the first."""
    first_pause: float = 0.5
    """Seconds before the first retry; each pause is about twice the one before, at most half a minute."""

    def pause(self, attempt: int, asked: str | None) -> float:
        """Seconds before retry number ``attempt`` (from 0); what the server asked for, if that is longer."""
        # Shifted at random, so that requests refused together do not come back together.
        own = self.first_pause * 2**attempt * random.uniform(0.75, 1.25)
        return min(max(own, float(asked) if asked and asked.isdigit() else 0.0), _LONGEST_PAUSE)


def post_json(url: str, body: dict[str, Any], headers: dict[str, str], patience: Patience) -> Any:
    """Returns the parsed answer.

    Raises:
        EngineError: If the server refuses the request, answers something that is no JSON, or cannot be reached after
            all retries. Headers, which may hold a key, are never quoted.
    """
    request = urllib.request.Request(
        url, json.dumps(body).encode(), {"Content-Type": "application/json", **headers}, method="POST"
    )
    failure = ""
    for attempt in range(patience.retries + 1):
        asked = None
        try:
            with urllib.request.urlopen(request, timeout=patience.timeout) as answer:
                return _parsed(url, answer.read())
        except urllib.error.HTTPError as error:
            with error:
                failure, asked = f"HTTP {error.code}: {_excerpt(error.read())}", error.headers.get("Retry-After")
            if error.code not in _AGAIN:
                raise EngineError(f"{_shown(url)} refused the request with {failure}") from None
        except (OSError, http.client.HTTPException) as error:
            failure = str(error) or type(error).__name__
        if attempt < patience.retries:
            time.sleep(patience.pause(attempt, asked))
    raise EngineError(
        f"{_shown(url)} gave no answer in {patience.retries + 1} attempts; the last one: {failure}. "
        "Is the server up, and does the address end where its API begins, as in http://host:8000/v1?"
    )


def _parsed(url: str, answer: bytes) -> Any:
    try:
        return json.loads(answer)
    except ValueError:
        raise EngineError(f"{_shown(url)} answered something that is no JSON: {_excerpt(answer)}") from None


def _excerpt(answer: bytes) -> str:
    return answer[:_EXCERPT].decode(errors="replace").strip() or "(nothing)"


def _shown(url: str) -> str:
    parts = urllib.parse.urlsplit(url)
    return urllib.parse.urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
