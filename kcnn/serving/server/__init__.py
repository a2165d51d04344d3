"""A server for machines without TensorFlow Serving, that speaks its REST API and its gRPC services.

process.py      ports, signals, start and drain
rest.py         HTTP: TensorFlow Serving's REST API, health, metrics, the page
rpc.py          gRPC: PredictionService, ModelService, health
requests.py     what both do with a request: which model, are its inputs right, the answer
tensors.py      JSON and TensorProto to arrays and back
images.py       how many pixels an encoded image will take, from its header
batching.py     requests joined into batches, in a bounded queue
models.py       versions: found, loaded beside the old one, swapped, drained, freed
runtime.py      what runs a version
metrics.py      what Prometheus reads
settings.py     the flags of `serve`, with their defaults
models_config.py   which models are served
status.py       errors: gRPC's codes and HTTP's
page.html       a page to try a model with
"""

from importlib.util import find_spec

from kcnn.errors import UserError

_NEEDED = ("grpc_health", "orjson", "prometheus_client", "starlette", "tensorflow_serving", "uvicorn")


def check_installed() -> None:
    """Raises UserError when the libraries of the server are missing, which are an extra."""
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise UserError(f"serve needs {', '.join(missing)}: pip install '.[serving]'")
