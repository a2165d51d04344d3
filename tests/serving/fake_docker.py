"""A stand-in for Docker with TensorFlow Serving: a `docker` on the path that starts nothing.

A server in this process answers at its port, with the REST API of
https://www.tensorflow.org/tfx/serving/api_rest.
"""

import base64
import contextlib
import http.server
import json
import os
import threading

DOCKER = """#!/bin/sh
echo "$@" >> {state}/calls
case "$1" in
    image) cat {state}/image ;;
    run) if [ -e {state}/broken ]; then echo "docker: no space left on device" >&2; exit 125; fi; echo c0ffee ;;
    port) echo "127.0.0.1:$(cat {state}/port)" ;;
    inspect) cat {state}/running ;;
    logs) echo "terminate called" ;;
    rm) ;;
    *) exit 64 ;;
esac
"""


class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self, content, status=200):
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        if self.path == "/v1/models/candidate":
            state = self.server.states.pop(0) if len(self.server.states) > 1 else self.server.states[0]
            if state == "404":
                self.answer({"error": "Servable not found for request: Latest(candidate)"}, 404)
                return
            status = {"error_code": "OK", "error_message": "" if state == "AVAILABLE" else "bad graph"}
            self.answer({"model_version_status": [{"version": "1", "state": state, "status": status}]})
        elif self.path == "/v1/models/candidate/metadata":
            defs = {name: {"method_name": "tensorflow/serving/predict"} for name in self.server.signatures}
            defs["__saved_model_init_op"] = {"method_name": ""}
            spec = {"name": "candidate", "signature_name": "", "version": "1"}
            self.answer({"model_spec": spec, "metadata": {"signature_def": {"signature_def": defs}}})
        else:
            self.answer({"error": f"Malformed request: GET {self.path}"}, 400)

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path != "/v1/models/candidate:predict" or request["signature_name"] not in self.server.signatures:
            self.answer({"error": f"Malformed request: POST {self.path}"}, 400)
            return
        (batch,) = request["inputs"].values()
        values = [base64.b64decode(value["b64"]) if isinstance(value, dict) else value for value in batch]
        outputs = self.server.signatures[request["signature_name"]](values)
        self.answer({"outputs": outputs if len(outputs) > 1 else next(iter(outputs.values()))})

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def fake_docker(folder, monkeypatch, signatures, states=("404", "LOADING", "AVAILABLE")):
    """Put the fake on the path; give its folder, with `calls`, and `image`, `port` and `running` to write.

    Args:
        folder: where it is made.
        monkeypatch: pytest's, which puts it on the path.
        signatures: name → function of a batch of bytes, or of nested lists, to output → nested lists.
        states: of the model, one a request; the last stays.
    """
    state = folder / "docker"
    state.mkdir()
    program = state / "docker"
    program.write_text(DOCKER.format(state=state))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{state}{os.pathsep}{os.environ['PATH']}")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.signatures, server.states = signatures, list(states)
    (state / "image").write_text("sha256:1234\n")
    (state / "port").write_text(str(server.server_port))
    (state / "running").write_text("true\n")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
