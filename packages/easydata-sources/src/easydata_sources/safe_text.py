"""The one place through which text leaves: without secrets, without control characters, no longer than a screen.

Errors, quarantine files, pages, `run.yaml`, reports and what a command prints pass through one of these functions.

>>> without_secrets("https://me:password@host/a.jsonl?X-Amz-Signature=abc&part=2")
'https://…@host/a.jsonl?X-Amz-Signature=…&part=2'
"""

from __future__ import annotations

import os
import re
import unicodedata

_WORD = 600  # characters; signed addresses have several hundred
_LINES = 32
_CHARACTERS = 3_000
_HIDDEN = "…"
_SHORTEST_SECRET = 8  # characters of a variable's value; shorter ones are ordinary words too often

_SIGNING = r"(?:sig|signature|token|secret|passw(?:or)?d|passphrase|pwd|credentials?|api_?key|access_?key_?(?:id)?)"
_SAID = rf"(?:{_SIGNING}|key|auth|authorization|code|session)"  # which may also be the name of a file: hidden in texts
_USER = re.compile(r"(?<=://)[^\s/?#'\"<>|]*@")
_SIGNED = re.compile(rf"([?&;][\w.%~-]*?{_SIGNING}[\w.%~-]*=)[^&\s#'\"<>|]+", re.IGNORECASE)
_QUERY = re.compile(r"\?[^\s#'\"<>|]+")
_PARAMETER = re.compile(rf"([?&;][\w.%~-]*?{_SAID}[\w.%~-]*=)[^&\s#'\"<>|]+", re.IGNORECASE)
_BEARER = re.compile(r"\b(Bearer|Basic) +[\w.~+/=-]{6,}")
_FIELD = re.compile(
    r"\b(AccountKey|SharedAccessKey|SharedAccessSignature|aws_secret_access_key) *= *[^\s;,'\"]+", re.IGNORECASE
)
_TOKEN = re.compile(
    r"\b(?:hf_[A-Za-z0-9]{8,}|sk-[\w-]{16,}|gh[pousr]_[A-Za-z0-9]{16,}|github_pat_\w{16,}|glpat-[\w-]{16,}"
    r"|xox[abprs]-[\w-]{8,}|(?:AKIA|ASIA)[A-Z0-9]{16}|AIza[\w-]{30,}|eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]+)"
)
_UNUSUAL = re.compile(r"[^ -~\n\t]")
_VARIABLE = re.compile(r"(?:TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|(?:API|ACCESS|PRIVATE)_?KEY|CREDENTIALS?)\w*$")


def without_secrets(text: str) -> str:
    """Returns the text with users and passwords, signatures and tokens replaced by `…`.

    Known are: the user's part of an address; its parameters whose names speak of a key, token, signature or password;
    tokens of well-known forms; and the values of this process' environment variables that are named like secrets.
    """
    text = _PARAMETER.sub(rf"\1{_HIDDEN}", _USER.sub(f"{_HIDDEN}@", text))
    text = _BEARER.sub(rf"\1 {_HIDDEN}", text)
    text = _FIELD.sub(rf"\1={_HIDDEN}", text)
    text = _TOKEN.sub(_HIDDEN, text)
    for secret in _of_environment():
        text = text.replace(secret, _HIDDEN)
    return text


def without_secrets_of_addresses(text: str) -> str:
    """Returns the text without the users and signed queries of its addresses: the same whenever one is signed anew."""
    if "://" not in text:
        return text
    return _QUERY.sub(_without_signature, _USER.sub(f"{_HIDDEN}@", text))


def printable(text: str) -> str:
    """Returns the text with every character escaped that moves a cursor, or hides or reverses what is written."""
    return _UNUSUAL.sub(lambda match: match[0] if _is_plain(match[0]) else _escaped(match[0]), text)


def readable(text: str) -> str:
    """Returns the text as an error shows it: both of the above, endless words cut, and no longer than a screen."""
    lines = [" ".join(map(_shortened, line.split(" "))) for line in without_secrets(text).split("\n")]
    if len(lines) > _LINES:
        lines = [*lines[: _LINES - 2], f"… {len(lines) - _LINES + 1} more lines …", lines[-1]]
    text = "\n".join(lines)
    if len(text) > _CHARACTERS:
        text = f"{text[: _CHARACTERS * 3 // 4]} … {text[-_CHARACTERS // 4 :]}"
    return printable(text)


def _without_signature(query: re.Match[str]) -> str:
    # A date and a term stand beside a signature, and change with it.
    return f"?{_HIDDEN}" if _SIGNED.search(query[0]) else query[0]


def _of_environment() -> list[str]:
    named = (value for name, value in os.environ.items() if _VARIABLE.search(name.upper()))
    # Paths to files of credentials are no secrets, and say which file is wrong.
    secrets = [value for value in named if len(value) >= _SHORTEST_SECRET and not os.path.exists(value)]
    return sorted(secrets, key=len, reverse=True)


def _shortened(word: str) -> str:
    return word if len(word) <= _WORD else f"{word[: _WORD // 2]}…{word[-_WORD // 2 :]}"


def _is_plain(character: str) -> bool:
    # Controls, what reverses the direction of writing, halves of pairs, and the separators that end a line for some.
    # The joiners of emoji and of several scripts are no harm.
    return character in "\n\t\u200c\u200d" or unicodedata.category(character) not in {"Cc", "Cf", "Cs", "Zl", "Zp"}


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
