"""Asks TensorFlow Serving, or `python main.py serve`, by gRPC. Needs `pip install tensorflow-serving-api`.

    python grpc_client.py a.jpg b.png [--server localhost:8500] [--label stable]

The API: https://github.com/tensorflow/serving/blob/master/tensorflow_serving/apis/prediction_service.proto
"""

import argparse
import sys
from pathlib import Path

import grpc
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc


def classify(server: str, model: str, label: str | None, files: list[str]) -> dict:
    """Send one request and return output → array, a row for each file."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    request.model_spec.signature_name = "serving_default"
    if label:
        request.model_spec.version_label = label
    images = [Path(file).read_bytes() for file in files]
    request.inputs["image_bytes"].CopyFrom(tf.make_tensor_proto(images, dtype=tf.string))
    unlimited = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(server, options=unlimited) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        answer = stub.Predict(request, timeout=60)
    return {name: tf.make_ndarray(tensor) for name, tensor in answer.outputs.items()}


def printable(text: str) -> str:
    """Return a text without what acts on a terminal, which names of files and classes may hold."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def main() -> None:
    """Print a line for each file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", metavar="IMAGE")
    parser.add_argument("--server", default="localhost:8500")
    parser.add_argument("--model", default="@NAME@")
    parser.add_argument("--label", help="stable or canary; without it, the highest version answers")
    arguments = parser.parse_args()
    try:
        answers = classify(arguments.server, arguments.model, arguments.label, arguments.files)
    except grpc.RpcError as error:
        sys.exit(printable(f"{error.code().name}: {error.details()}"))
    except OSError as error:
        sys.exit(printable(str(error)))
    status = answers.get("status", [b""] * len(arguments.files))
    for row, file in enumerate(arguments.files):
        if status[row]:
            print(printable(f"{file}: {status[row].decode()}"))
        else:
            best, probability = answers["top_classes"][row][0], answers["top_probabilities"][row][0]
            print(printable(f"{file}: {best.decode()} {probability:.1%}"))


if __name__ == "__main__":
    main()
