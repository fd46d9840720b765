"""What was given for one host is sent to no other: keys in headers follow no redirect there.

The client drops `Authorization` by itself when a redirect leaves a host, and sends every other header along. A server,
or whoever speaks in its name, could so collect keys.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Mapping
from typing import Any

from easydata_sources.errors import DataAccessError

_WITH_SECRETS = {"headers", "auth", "cookies"}


def followed_without_secrets(options: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the arguments of an HTTP file system, so that it refuses a redirect that would take secrets elsewhere.

    Args:
        options: As the user gave them. Without headers, cookies or credentials among them they are returned as they
            are: then every redirect may be followed.
    """
    client = dict(options.get("client_kwargs") or {})
    if not _WITH_SECRETS & (options.keys() | client.keys()):
        return options
    return {**options, "client_kwargs": {**client, "trace_configs": [_tracing(), *client.get("trace_configs", ())]}}


@functools.cache  # one object, so that the file system is known as the same one again
def _tracing() -> Any:
    # By name: it comes with fsspec's own extra, and where that is missing nothing of the web is read.
    tracing = importlib.import_module("aiohttp").TraceConfig()
    tracing.on_request_redirect.append(_refuse_other_host)
    return tracing


async def _refuse_other_host(session: Any, context: Any, redirect: Any) -> None:
    del session, context
    here = redirect.response.url
    target = here.join(type(here)(_location(redirect.response.headers)))
    if target.origin() != redirect.url.origin():
        raise DataAccessError(
            f"{redirect.url.origin()} redirects to {target.origin()}, and the headers and credentials given for the "
            "one are not sent to the other.\n  mend: give the address that it redirects to, if you trust that host"
        )


def _location(headers: Any) -> str:
    return headers.get("Location") or headers.get("URI") or ""
