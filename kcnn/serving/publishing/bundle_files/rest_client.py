"""Asks TensorFlow Serving, or `python main.py serve`, by REST. Needs nothing but Python.

    python rest_client.py a.jpg b.png [--server http://localhost:8501] [--label stable]

The API: https://www.tensorflow.org/tfx/serving/api_rest
"""

import argparse
import base64
import json
import sys
import urllib.error
import urllib.request
from pathlib import Path


def classify(server: str, model: str, label: str | None, files: list[str]) -> list[dict]:
    """Send one request and return the answer for each file: a dict of probabilities, top_classes and more."""
    version = f"/labels/{label}" if label else ""
    instances = [{"b64": base64.b64encode(Path(file).read_bytes()).decode()} for file in files]
    body = json.dumps({"signature_name": "serving_default", "instances": instances}).encode()
    request = urllib.request.Request(
        f"{server}/v1/models/{model}{version}:predict", body, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.load(response)["predictions"]


def printable(text: str) -> str:
    """Return a text without what acts on a terminal, which names of files and classes may hold."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def main() -> None:
    """Print a line for each file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", metavar="IMAGE")
    parser.add_argument("--server", default="http://localhost:8501")
    parser.add_argument("--model", default="@NAME@")
    parser.add_argument("--label", help="stable or canary; without it, the highest version answers")
    arguments = parser.parse_args()
    try:
        answers = classify(arguments.server, arguments.model, arguments.label, arguments.files)
    except urllib.error.HTTPError as error:
        sys.exit(printable(f"{error.code}: {error.read().decode(errors='replace')}"))
    except OSError as error:
        sys.exit(printable(str(error)))
    for file, answer in zip(arguments.files, answers, strict=True):
        if answer.get("status"):
            print(printable(f"{file}: {answer['status']}"))
        else:
            print(printable(f"{file}: {answer['top_classes'][0]} {answer['top_probabilities'][0]:.1%}"))


if __name__ == "__main__":
    main()
