"""Faults between us and a server as errors of ours, whichever library speaks to it.

The libraries of the clouds each have errors of their own, mostly without a common base; here they are known by name, so
that none of them is imported.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from easydata_sources.errors import DataAccessError, DataError, DataUnreachableError

_NO_CREDENTIALS = {
    "NoCredentialsError",  # botocore
    "PartialCredentialsError",
    "TokenRetrievalError",
    "DefaultCredentialsError",  # google.auth
    "RefreshError",
    "ClientAuthenticationError",  # azure
    "CredentialUnavailableError",
}
_NO_CREDENTIALS_TEXTS = ("Must provide either a connection_string or account_name",)  # adlfs, as a ValueError

_UNREACHABLE = {
    "EndpointConnectionError",  # botocore
    "ConnectTimeoutError",
    "ProxyConnectionError",
    "ClientError",  # aiohttp
    "ServiceRequestError",  # azure
    "TransportError",  # google.auth, httpx
    "ConnectError",
    "ConnectTimeout",
    "ConnectionRefusedError",
}

# (module, class): errors that may go away, but are no OSError
_TRANSIENT = (
    ("aiohttp", "ClientError"),
    ("botocore.exceptions", "HTTPClientError"),
    ("botocore.exceptions", "ConnectionError"),
    ("azure.core.exceptions", "HttpResponseError"),
    ("azure.core.exceptions", "ServiceRequestError"),
    ("azure.core.exceptions", "ServiceResponseError"),
    ("google.auth.exceptions", "TransportError"),
    ("httpx", "TransportError"),
    ("httpx2", "TransportError"),
)

_CREDENTIALS_OF = {
    "s3": "storage_options={'key': …, 'secret': …}, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, `aws configure`, or "
    "{'anon': True} for public buckets",
    "gs": "storage_options={'token': …}, `gcloud auth application-default login`, or {'token': 'anon'} for public "
    "buckets",
    "az": "storage_options={'connection_string': …} or {'account_name': …, 'account_key': …}, "
    "AZURE_STORAGE_CONNECTION_STRING, or {'account_name': …, 'anon': True} for public containers",
    "hf": "`hf auth login`, or HF_TOKEN",
}
_SAME = {"s3a": "s3", "gcs": "gs", "abfs": "az", "abfss": "az", "adl": "az"}


def transient_errors() -> tuple[type[Exception], ...]:
    """Returns the errors that may go away: the system's, and those of the clients that are in use."""
    clients = [(sys.modules.get(module), name) for module, name in _TRANSIENT]
    return (OSError, *(getattr(module, name) for module, name in clients if hasattr(module, name)))


def as_data_error(error: BaseException, url: str, options: Mapping[str, Any] | None = None) -> DataError | None:
    """Returns an error of ours for one of a cloud's library; None if it says something else.

    Args:
        error: What the library raised.
        url: What was to be read.
        options: Arguments of the file system, whose values the message must not repeat.
    """
    if isinstance(error, DataError):
        return None
    for cause in _causes(error):
        names = {kind.__name__ for kind in type(cause).__mro__}
        if names & _NO_CREDENTIALS or any(text in str(cause) for text in _NO_CREDENTIALS_TEXTS):
            protocol = url.partition("://")[0]
            give = _CREDENTIALS_OF.get(_SAME.get(protocol, protocol), "storage_options")
            return DataAccessError(
                f"Reading {url!r} needs credentials, and none were found that count: {_said(cause, options)}\n"
                f"  mend: {give}"
            )
        if "ClientResponseError" in names:  # aiohttp; its own text repeats the address, and what signs it
            return _error_of_status(getattr(cause, "status", None), url)
        if names & _UNREACHABLE:
            return DataUnreachableError(
                f"The server that holds {url!r} cannot be reached: {_said(cause, options)}\n"
                "  mend: check the network and the address of the server (storage_options or the environment)"
            )
    if isinstance(error, (*transient_errors()[1:], TimeoutError, ConnectionError)):
        return reading_failed(error, url, options)
    return None


def _error_of_status(status: Any, url: str) -> DataError:
    if status in (401, 403):
        return DataAccessError(
            f"The server that holds {url!r} does not show it (HTTP {status}).\n"
            "  mend: give what it asks for: storage_options={'headers': {'Authorization': …}}, or an address that is "
            "signed and has not run out"
        )
    return DataUnreachableError(
        f"The server that holds {url!r} answers nothing that can be read (HTTP {status}).\n"
        "  mend: check the address in a browser, and try again later where the server is busy"
    )


def reading_failed(error: BaseException, url: str, options: Mapping[str, Any] | None = None) -> DataUnreachableError:
    """Returns the error for a server that does not give what was asked for."""
    said = _said(error, options)
    return DataUnreachableError(
        f"Reading {url!r} failed: {type(error).__name__}{said and f': {said}'}\n"
        "  mend: try again later, or copy the file to this machine and read it there"
    )


@contextmanager
def raising_data_errors(url: str, options: Mapping[str, Any] | None = None) -> Iterator[None]:
    """Turns the errors of clouds' libraries inside the block into ours."""
    try:
        yield
    except Exception as error:  # whatever it is: all but the known ones go on unchanged
        translated = as_data_error(error, url, options)
        if translated is None:
            raise
        raise translated from error


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    present: BaseException | None = error
    while present is not None and id(present) not in seen:
        seen.add(id(present))
        yield present
        present = present.__cause__ or present.__context__


def _said(error: BaseException, options: Mapping[str, Any] | None) -> str:
    text = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
    for secret in _texts(options or {}):
        text = text.replace(secret, "…")
    return text


def _texts(options: Mapping[str, Any]) -> Iterator[str]:
    for value in options.values():
        if isinstance(value, Mapping):
            continue  # clients' settings, such as an address
        if isinstance(value, str) and len(value) > 5 and "://" not in value:
            yield value
