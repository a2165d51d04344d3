"""A server with the REST API and the gRPC services of TensorFlow Serving, for machines without it.

settings.py        the flags of `serve`, with their defaults
models_config.py   the models to serve
process.py         ports, signals, start and drain
rest.py            HTTP: TensorFlow Serving's REST API, health, metrics, the page
http1.py           HTTP/1.1 with limits on chunks and headers
rest_bodies.py     the bodies of REST requests
json_pieces.py     JSON of any size, built in pieces
rpc.py             gRPC: PredictionService, ModelService, health
requests.py        the work that both share: find the model, check the inputs, answer
tensors.py         JSON and TensorProto to arrays and back
image_headers.py   what it takes to decode the images of a request, from their headers
messages.py        the fields of protobuf messages, counted before they are built
batching.py        requests joined into batches, in a bounded queue
turns.py           whose turn it is in the queue
models.py          versions: found, loaded beside the old one, swapped, drained, freed
runtime.py         a version that is loaded
metrics.py         the metrics that Prometheus reads
status.py          errors: gRPC's codes and HTTP's
page.html          a page to try a model with
"""

from importlib.util import find_spec

from kcnn.errors import UserError

_NEEDED = ("grpc_health", "orjson", "prometheus_client", "starlette", "tensorflow_serving", "uvicorn")


def check_installed() -> None:
    """Raise UserError when the libraries of the server, which are an extra, are missing."""
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise UserError(f"serve needs {', '.join(missing)}: pip install '.[serving]'")
