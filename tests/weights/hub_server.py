"""A hub for tests: the few endpoints that its client asks for weights, on localhost, with faults on demand."""

import gzip
import hashlib
import http.server
import json
import threading
import time

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """A server of repositories and of the storage that it redirects large files to.

    Attributes:
        repos: "owner/name" → file → content, or a fault: an HTTP status, or seconds to hang.
        faults: "owner/name" → what happens to the first request for a weights file's whole content: "drop" it before
            its end, "flip" a byte, "swell" it by a hundred megabytes that are compressed on the way.
        gated: repositories whose files need a login.
        requests: (method, path, Range or "", whether a token came along), of all that were asked.
        sent: path → bytes of content that were sent.
    """

    def __init__(self):
        self.repos, self.faults, self.gated, self.requests, self.sent = {}, {}, set(), [], {}
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        port = self.server.server_address[1]
        # Two hosts, as the hub and its storage are.
        self.endpoint, self.storage = f"http://127.0.0.1:{port}", f"http://localhost:{port}"

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_):
        """Write nothing."""

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        token = "authorization" in self.headers
        self.hub.requests.append((self.command, self.path, self.headers.get("Range", ""), token))
        parts = self.path.partition("?")[0].strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            return self.describe("/".join(parts[2:4]), parts[5] if parts[4:5] == ["revision"] else "main")
        if parts[0] == "storage":
            return self.send_content("/".join(parts[1:3]), "/".join(parts[3:]))
        if parts[2:3] == ["resolve"]:
            return self.resolve("/".join(parts[:2]), parts[3], "/".join(parts[4:]))
        return self.fail(404)

    def fail(self, status, code=None):
        self.send_response(status)
        if code is not None:
            self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def find(self, repo, revision):
        """Return the files of a repository, or None once the fault is answered."""
        found = self.hub.repos.get(repo)
        if found is None:
            self.fail(401, "RepoNotFound")  # as the hub does, which does not tell what is private
        elif isinstance(found, float):
            time.sleep(found)
        elif isinstance(found, int):
            self.fail(found)
        elif revision not in ("main", COMMIT):
            self.fail(404, "RevisionNotFound")
        else:
            return found
        return None

    def describe(self, repo, revision):
        if (files := self.find(repo, revision)) is None:
            return
        siblings = []
        for name, content in files.items():
            digest = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
            lfs = {"lfs": digest} if name.endswith(".safetensors") else {}
            siblings.append({"rfilename": name, "size": len(content), "blobId": "0" * 40, **lfs})
        body = json.dumps({"_id": "1", "id": repo, "sha": COMMIT, "siblings": siblings, "tags": []}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def resolve(self, repo, revision, name):
        if (files := self.find(repo, revision)) is None:
            return
        if repo in self.hub.gated:
            self.fail(403, "GatedRepo")
        elif name not in files:
            self.fail(404, "EntryNotFound")
        elif not name.endswith(".safetensors"):
            self.send_content(repo, name)
        else:
            content = files[name]
            self.send_response(302)
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("X-Linked-Size", str(len(content)))
            self.send_header("X-Linked-Etag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("Location", f"{self.hub.storage}/storage/{repo}/{name}")
            self.send_header("Content-Length", "0")
            self.end_headers()

    def send_content(self, repo, name):
        content = self.hub.repos[repo][name]
        first, end = 0, len(content)
        if asked := self.headers.get("Range"):
            start, _, last = asked.removeprefix("bytes=").partition("-")
            first, end = int(start), min(int(last) + 1 if last else end, end)
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {first}-{end - 1}/{len(content)}")
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        whole = self.command == "GET" and not asked and name.endswith(".safetensors")
        fault = self.hub.faults.pop(repo, None) if whole else None
        body = content[first:end]
        if fault == "swell":
            body = gzip.compress(body + bytes(10**8))
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if fault == "flip":
            body = body[:-1] + bytes([body[-1] ^ 1])
        elif fault == "drop":
            body = body[:-1000]
        self.hub.sent[self.path] = self.hub.sent.get(self.path, 0) + len(body)
        self.wfile.write(body)
        if fault == "drop":
            self.close_connection = True
