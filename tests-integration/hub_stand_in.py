"""A stand-in for the Hugging Face Hub on loopback: the read side, for models and data sets.

Serves `ROOT/<namespace>/<name>/<files>` as model repositories and `ROOT/datasets/<namespace>/<name>/<files>` as data
sets: what `snapshot_download`, `AutoConfig`, `AutoTokenizer` and `load_dataset`, streaming too, ask for.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
KINDS = {"models": "", "datasets": "datasets"}


@contextmanager
def hub(root: Path) -> Iterator[str]:
    """Serve `root`; gives the address for HF_ENDPOINT."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(body=True)

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
            parts = self._parts()
            if parts[:1] == ["api"] and "paths-info" in parts:
                asked = json.loads(content)["paths"] if content.startswith("{") else parse_qs(content)["paths"]
                known = {entry["path"]: entry for entry in _entries(_folder(root, parts[1], parts[2:4]))}
                self._send_json([known[path] for path in asked if path in known], body=True)
            else:
                self._missing("RepoNotFound", body=True)

        def log_message(self, *_: object) -> None: ...

        def _parts(self) -> list[str]:
            return unquote(urlsplit(self.path).path).strip("/").split("/")

        def _answer(self, *, body: bool) -> None:
            parts = self._parts()
            kind = "datasets" if parts[0] == "datasets" else "models"
            file = parts[1:] if kind == "datasets" else parts
            if parts[0] == "api" and len(parts) > 3 and parts[1] in KINDS:
                self._describe(_folder(root, parts[1], parts[2:4]), parts[2:4], parts[4:], body=body)
            elif len(file) > 4 and file[2] == "resolve":
                self._send_file(_folder(root, kind, file[:2]) / "/".join(file[4:]), body=body)
            else:
                self._missing("RepoNotFound", body=body)

        def _describe(self, folder: Path, name: list[str], rest: list[str], *, body: bool) -> None:
            if not folder.is_dir():
                self._missing("RepoNotFound", body=body)
            elif rest[:1] == ["tree"]:
                if len(rest) > 2:  # a sub-folder; there is none
                    self._missing("EntryNotFound", body=body)
                else:
                    self._send_json(_entries(folder), body=body)
            else:
                names = [{"rfilename": entry["path"]} for entry in _entries(folder)]
                self._send_json(
                    {"id": "/".join(name), "sha": COMMIT, "siblings": names, "private": False, "gated": False},
                    body=body,
                )

        def _send_file(self, path: Path, *, body: bool) -> None:
            if not path.is_file():
                self._missing("EntryNotFound", body=body)
                return
            content, headers = path.read_bytes(), {"ETag": f'"{_etag(path)}"', "Accept-Ranges": "bytes"}
            wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
            if wanted is None:
                self._send(200, content, headers, body=body)
                return
            start, end = int(wanted[1]), min(int(wanted[2] or len(content)), len(content) - 1)
            headers["Content-Range"] = f"bytes {start}-{end}/{len(content)}"
            self._send(206, content[start : end + 1], headers, body=body)

        def _missing(self, code: str, *, body: bool) -> None:
            self._send(404, b"", {"X-Error-Code": code}, body=body)

        def _send_json(self, answer: object, *, body: bool) -> None:
            self._send(200, json.dumps(answer).encode(), {"Content-Type": "application/json"}, body=body)

        def _send(self, status: int, content: bytes, headers: dict[str, str], *, body: bool) -> None:
            self.send_response(status)
            length = {"Content-Length": str(len(content)), "X-Repo-Commit": COMMIT}
            for name, value in (headers | length).items():
                self.send_header(name, value)
            self.end_headers()
            if body:
                self.wfile.write(content)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _folder(root: Path, kind: str, name: list[str]) -> Path:
    return root / KINDS[kind] / "/".join(name)


def _entries(folder: Path) -> list[dict]:
    files = sorted(path for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else []
    return [
        {"type": "file", "path": str(path.relative_to(folder)), "size": path.stat().st_size, "oid": _etag(path)}
        for path in files
    ]


def _etag(path: Path) -> str:
    return hashlib.sha1(path.read_bytes()).hexdigest()
