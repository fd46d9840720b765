"""How files are asked for over HTTP: keys go to no other host, and a server may be slow but not silent.

The client drops `Authorization` by itself when a redirect leaves a host, and sends every other header along. A server,
or whoever speaks in its name, could so collect keys. Its own time limit is five minutes for a whole answer, which ends
the download of a large file in its middle and lets a server that says nothing keep a run waiting as long.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Mapping
from typing import Any

from easydata_sources.errors import DataAccessError

LONGEST_SILENCE = 60.0
"""Seconds a server may say nothing before the read is tried again; how long a whole answer takes is not bounded."""

_CONNECTING = 30.0
_WITH_SECRETS = {"headers", "auth", "cookies"}


def web_options(options: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns the arguments of an HTTP file system with a time limit, and with a guard where secrets are among them.

    Args:
        options: As the user gave them; a `timeout` in their `client_kwargs` is kept. With headers, cookies or
            credentials among them, a redirect to another host is refused; without, all are followed.

    Raises:
        ImportError: If the client for the web, which comes with an extra, is not installed.
    """
    client = {"timeout": _patience(LONGEST_SILENCE), **(options.get("client_kwargs") or {})}
    if _WITH_SECRETS & (options.keys() | client.keys()):
        client["trace_configs"] = [_tracing(), *client.get("trace_configs", ())]
    return {**options, "client_kwargs": client}


def _aiohttp() -> Any:
    # By name: it comes with fsspec's own extra, and type checkers run without it.
    return importlib.import_module("aiohttp")


@functools.cache
def _patience(silence: float) -> Any:
    return _aiohttp().ClientTimeout(total=None, sock_connect=_CONNECTING, sock_read=silence)


@functools.cache  # one object, so that the file system is known as the same one again
def _tracing() -> Any:
    tracing = _aiohttp().TraceConfig()
    tracing.on_request_redirect.append(_refuse_other_host)
    return tracing


async def _refuse_other_host(session: Any, context: Any, redirect: Any) -> None:
    del session, context
    here, asked = redirect.url.origin(), redirect.response.url
    target = asked.join(type(asked)(_location(redirect.response.headers)))
    # What is no address of the web has no host, and the client itself would follow it nowhere.
    there = target.origin() if target.host else target.with_query(None)
    if there != here:
        raise DataAccessError(
            f"{here} redirects to {there}, and the headers and credentials given for the one are not sent to the "
            "other.\n  mend: give the address that it redirects to, if you trust that host"
        )


def _location(headers: Any) -> str:
    return headers.get("Location") or headers.get("URI") or ""
