"""A stand-in for the Hugging Face Hub on loopback: serves `ROOT/<namespace>/<name>/<files>` as model repositories, and
`ROOT/datasets/<namespace>/<name>/<files>` as data sets.

Read side only: what `snapshot_download`, `AutoConfig`, `AutoTokenizer`, `load_dataset` and `hf://` ask for.
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


@contextmanager
def hub(root: Path) -> Iterator[str]:
    """Serve `root`; gives the address for HF_ENDPOINT."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(body=True)

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def log_message(self, *_: object) -> None: ...

        def do_POST(self) -> None:
            asked = self.rfile.read(int(self.headers["Content-Length"])).decode()
            self._answer(body=True, asked=asked)

        def _answer(self, *, body: bool, asked: str | None = None) -> None:
            parts = unquote(urlsplit(self.path).path).strip("/").split("/")
            place, parts = self._split(parts)
            if parts[:1] == ["api"]:
                self._describe(place, parts[1:], body=body, asked=asked)
            elif parts[2:3] == ["resolve"]:
                self._send_file(place / "/".join(parts[:2]) / "/".join(parts[4:]), body=body)
            else:
                self._send(404, b"", {"X-Error-Code": "RepoNotFound"}, body=body)

        def _split(self, parts: list[str]) -> tuple[Path, list[str]]:
            """Return the folder of this kind of repository, and the address without the kind."""
            for kind, place in (("models", root), ("datasets", root / "datasets")):
                if parts[:2] == ["api", kind]:
                    return place, ["api", *parts[2:]]
            return (root / "datasets", parts[1:]) if parts[:1] == ["datasets"] else (root, parts)

        def _describe(self, place: Path, parts: list[str], *, body: bool, asked: str | None) -> None:
            folder = place / "/".join(parts[:2])
            if not folder.is_dir():
                self._send(404, b"", {"X-Error-Code": "RepoNotFound"}, body=body)
                return
            what = parts[2] if len(parts) > 2 else ""
            if what == "tree":
                inner = folder / "/".join(parts[4:])
                if not inner.is_dir():
                    self._send(404, b"", {"X-Error-Code": "EntryNotFound"}, body=body)
                    return
                recursive = "recursive=true" in self.path.lower()
                answer: object = [
                    _entry(path, folder) for path in sorted(inner.rglob("*") if recursive else inner.iterdir())
                ]
            elif what == "paths-info":
                names = (
                    json.loads(asked)["paths"] if asked and asked.startswith("{") else parse_qs(asked or "")["paths"]
                )
                answer = [_entry(folder / name, folder) for name in names if (folder / name).exists()]
            elif what == "refs":
                branch = {"name": "main", "ref": "refs/heads/main", "targetCommit": COMMIT}
                answer = {"branches": [branch], "tags": [], "converts": []}
            else:
                files = sorted(path for path in folder.rglob("*") if path.is_file())
                names = [{"rfilename": str(path.relative_to(folder))} for path in files]
                answer = {"id": "/".join(parts[:2]), "sha": COMMIT, "siblings": names, "private": False, "gated": False}
                answer |= {"tags": [], "downloads": 0, "likes": 0, "lastModified": "2026-01-01T00:00:00.000Z"}
            self._send(200, json.dumps(answer).encode(), {"Content-Type": "application/json"}, body=body)

        def _send_file(self, path: Path, *, body: bool) -> None:
            if not path.is_file():
                self._send(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT}, body=body)
                return
            content, headers = path.read_bytes(), {"ETag": f'"{_etag(path)}"', "X-Repo-Commit": COMMIT}
            wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            if wanted is None:
                self._send(200, content, headers | {"Accept-Ranges": "bytes"}, body=body)
                return
            first, last = int(wanted[1]), min(int(wanted[2] or len(content)), len(content) - 1)
            headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
            self._send(206, content[first : last + 1], headers, body=body)

        def _send(self, status: int, content: bytes, headers: dict[str, str], *, body: bool) -> None:
            self.send_response(status)
            for name, value in (headers | {"Content-Length": str(len(content))}).items():
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


def _entry(path: Path, folder: Path) -> dict[str, object]:
    entry: dict[str, object] = {"path": str(path.relative_to(folder)), "oid": _etag(path) if path.is_file() else COMMIT}
    return entry | (
        {"type": "file", "size": path.stat().st_size} if path.is_file() else {"type": "directory", "size": 0}
    )


def _etag(path: Path) -> str:
    return hashlib.sha1(path.read_bytes()).hexdigest()
