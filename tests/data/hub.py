"""A hub on this machine: one dataset or model, `owner/name`, served over HTTP as the Hugging Face hub serves it."""

import hashlib
import json
import threading
import urllib.parse
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "a" * 40


@contextmanager
def serving(folder: Path, kind: str = "datasets"):
    """The address of a hub that holds `folder` as owner/name, of datasets or models, as of COMMIT and main."""
    handler = type("Handler", (_Handler,), {"folder": folder, "kind": kind})
    with serve(handler) as address:
        yield address


@contextmanager
def serve(handler):
    """The address of a server on loopback."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    folder: Path
    kind: str

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        names = [file.relative_to(self.folder).as_posix() for file in self.folder.rglob("*") if file.is_file()]
        api = f"/api/{self.kind}/owner/name"
        page = "/owner/name" if self.kind == "models" else f"/{self.kind}/owner/name"
        if not path.startswith((api, page)):
            return self.answer(404, {"X-Error-Code": "RepoNotFound"})
        if path in (api, f"{api}/revision/main", f"{api}/revision/{COMMIT}"):
            siblings = [{"rfilename": name} for name in sorted(names)]
            return self.answer(200, {}, {"id": "owner/name", "sha": COMMIT, "siblings": siblings, "tags": []})
        if path.startswith(f"{api}/revision/"):
            return self.answer(404, {"X-Error-Code": "RevisionNotFound"})
        for commit in (COMMIT, "main"):
            if path.startswith(f"{api}/tree/{commit}"):
                return self.tree(path.removeprefix(f"{api}/tree/{commit}").strip("/"), names)
            if (name := path.removeprefix(f"{page}/resolve/{commit}/")) in names:
                return self.file((self.folder / name).read_bytes())
        return self.answer(404, {"X-Error-Code": "EntryNotFound"})

    def tree(self, folder: str, names: list[str]):
        start = f"{folder}/" if folder else ""
        inside = [name.removeprefix(start) for name in sorted(names) if name.startswith(start)]
        entries = [
            {"type": "directory", "path": start + name, "size": 0, "oid": "d" * 40}
            for name in sorted({name.split("/")[0] for name in inside if "/" in name})
        ]
        for name in inside:
            if "/" not in name:
                data = (self.folder / start / name).read_bytes()
                digest = hashlib.sha1(data).hexdigest()
                entries.append({"type": "file", "path": start + name, "size": len(data), "oid": digest})
        return self.answer(200, {}, entries)

    def file(self, data: bytes):
        headers = {"ETag": f'"{hashlib.sha1(data).hexdigest()}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        if asked := self.headers.get("Range"):
            start, stop = asked.removeprefix("bytes=").split("-")
            start, stop = int(start), min(int(stop or len(data) - 1), len(data) - 1)
            headers["Content-Range"] = f"bytes {start}-{stop}/{len(data)}"
            return self.answer(206, headers, data[start : stop + 1])
        return self.answer(200, headers, data)

    def answer(self, status: int, headers: dict[str, str], body: bytes | list | dict = b""):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)
