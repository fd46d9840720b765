"""A stand-in for the Hugging Face Hub on loopback: serves `ROOT/<namespace>/<name>/<files>` as model repositories.

Read side only: what `snapshot_download`, `AutoConfig` and `AutoTokenizer` ask for.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

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

        def _answer(self, *, body: bool) -> None:
            parts = unquote(urlsplit(self.path).path).strip("/").split("/")
            if parts[:2] == ["api", "models"]:
                self._describe(parts[2:], body=body)
            elif len(parts) > 4 and parts[2] == "resolve":
                self._send_file(root / parts[0] / parts[1] / "/".join(parts[4:]), body=body)
            else:
                self._send(404, b"", {"X-Error-Code": "RepoNotFound"}, body=body)

        def _describe(self, parts: list[str], *, body: bool) -> None:
            folder = root / "/".join(parts[:2])
            if not folder.is_dir():
                self._send(404, b"", {"X-Error-Code": "RepoNotFound"}, body=body)
                return
            files = sorted(path for path in folder.rglob("*") if path.is_file())
            if "tree" in parts:
                if len(parts) > parts.index("tree") + 2:  # a sub-folder; there is none
                    self._send(404, b"", {"X-Error-Code": "EntryNotFound"}, body=body)
                    return
                answer: object = [
                    {"type": "file", "path": path.name, "size": path.stat().st_size, "oid": _etag(path)}
                    for path in files
                ]
            else:
                names = [{"rfilename": str(path.relative_to(folder))} for path in files]
                answer = {"id": "/".join(parts[:2]), "sha": COMMIT, "siblings": names, "private": False}
            self._send(200, json.dumps(answer).encode(), {"Content-Type": "application/json"}, body=body)

        def _send_file(self, path: Path, *, body: bool) -> None:
            if not path.is_file():
                self._send(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT}, body=body)
                return
            self._send(200, path.read_bytes(), {"ETag": f'"{_etag(path)}"', "X-Repo-Commit": COMMIT}, body=body)

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


def _etag(path: Path) -> str:
    return hashlib.sha1(path.read_bytes()).hexdigest()
