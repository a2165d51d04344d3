"""Requests a second and their latency, of one image each, with batching off and on.

    python tests/benchmarks/serving.py saved_models/mobilenetv2 PHOTO [--clients 16] [--seconds 10] [--runtime openvino]

Starts `main.py serve` twice in a row on this machine, clients and server on the same cores. A client asks as soon as it
has its last answer.
"""

import argparse
import base64
import concurrent.futures
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent / "serving"))
from serving_process import Client, serve

MODES = {"batching off": ["--noenable_batching"], "batching on": []}
QUEUE = "--max_enqueued_batches=64"  # nothing is to be refused


def measure(server, path, body, clients, seconds):
    """Return the latencies in seconds of all requests within the time."""
    end = time.monotonic() + seconds

    def work(_):
        client, found = Client(server), []
        while (start := time.monotonic()) < end:
            status, answer = client.ask(path, body)
            assert status == 200, answer
            found.append(time.monotonic() - start)
        return found

    with concurrent.futures.ThreadPoolExecutor(clients) as threads:
        return [latency for found in threads.map(work, range(clients)) for latency in found]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("photo", type=Path)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--runtime", default="tensorflow")
    options = parser.parse_args()
    image = {"b64": base64.b64encode(options.photo.read_bytes()).decode()}
    body = json.dumps({"instances": [image]}).encode()
    path = f"/v1/models/{options.model.name}:predict"
    print(f"{options.photo.stat().st_size} bytes an image, {options.seconds:g} s each")
    for mode, flags in MODES.items():
        with tempfile.TemporaryDirectory() as folder:
            base = f"--model_base_path={options.model.resolve()}"
            with serve(Path(folder), options.model.name, base, f"--runtime={options.runtime}", QUEUE, *flags) as server:
                for clients in (1, options.clients):
                    measure(server, path, body, clients, options.seconds / 5)
                    found = measure(server, path, body, clients, options.seconds)
                    middle, late = (1000 * value for value in np.percentile(found, [50, 99]))
                    rate = len(found) / options.seconds
                    print(f"{mode}, {clients} clients: {rate:.0f} requests/s, p50 {middle:.1f} ms, p99 {late:.1f} ms")


if __name__ == "__main__":
    main()
