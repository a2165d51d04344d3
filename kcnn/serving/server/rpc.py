"""gRPC: TensorFlow Serving's PredictionService and ModelService, and the standard health service.

Source: https://github.com/tensorflow/serving/tree/master/tensorflow_serving/apis and
https://github.com/grpc/grpc/blob/master/doc/health-checking.md
"""

import contextlib
import sys
import traceback
from collections.abc import AsyncIterator
from typing import Any

import grpc
from google.protobuf.message import DecodeError, Message
from grpc import StatusCode
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from kcnn.errors import UserError
from kcnn.serving.server.models import Servable
from kcnn.serving.server.requests import REGRESS, Requests, examples_of
from kcnn.serving.server.status import StatusError, invalid
from kcnn.serving.server.tensors import from_proto, to_proto

SERVICES = ("", "tensorflow.serving.PredictionService", "tensorflow.serving.ModelService")


def _which(spec: model_pb2.ModelSpec) -> tuple[str, int | None, str | None]:
    if not spec.name:
        raise invalid("Missing ModelSpec: expected model_spec.name")
    choice = spec.WhichOneof("version_choice")
    return (
        spec.name,
        spec.version.value if choice == "version" else None,
        spec.version_label if choice == "version_label" else None,
    )


def _spec(servable: Servable, signature: str = "") -> model_pb2.ModelSpec:
    spec = model_pb2.ModelSpec(name=servable.name, signature_name=signature)
    spec.version.value = servable.version
    return spec


@contextlib.asynccontextmanager
async def _answering(
    requests: Requests, request: Message, spec: model_pb2.ModelSpec, method: str, context: grpc.aio.ServicerContext
) -> AsyncIterator[None]:
    """Counts the request, and ends the call with the status of what goes wrong."""
    try:
        with requests.metrics.request(requests.model_label(spec.name), method, "grpc"), requests.hold() as held:
            held.add(request.ByteSize())
            yield
    except StatusError as error:
        await context.abort(error.code, error.message)
    except Exception:  # a mistake here must not look like the client's
        traceback.print_exc(file=sys.stderr)
        await context.abort(StatusCode.INTERNAL, "internal error; see the server's output")


class _Parsing(grpc.aio.ServerInterceptor):
    """Bytes that are no message are the client's mistake; gRPC's own answer would be UNKNOWN."""

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        handler = await continuation(handler_call_details)
        if handler is None or handler.unary_unary is None:
            return handler

        async def answer(content: bytes, context: Any) -> Any:
            try:
                request = handler.request_deserializer(content)
            except DecodeError as error:
                await context.abort(StatusCode.INVALID_ARGUMENT, str(error))
            return await handler.unary_unary(request, context)

        return grpc.unary_unary_rpc_method_handler(answer, None, handler.response_serializer)


class _Prediction(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, requests: Requests):
        self._requests = requests

    async def Predict(self, request: Any, context: Any) -> Any:
        requests, spec = self._requests, request.model_spec
        response = predict_pb2.PredictResponse()
        async with _answering(requests, request, spec, "predict", context):
            with requests.lease(*_which(spec), spec.signature_name) as (servable, signature):
                most = requests.settings.max_request_bytes
                inputs = {name: from_proto(proto, name, most) for name, proto in request.inputs.items()}
                wanted = set(request.output_filter) or set(signature.outputs)
                unknown = sorted(wanted - set(signature.outputs))
                if unknown:
                    raise invalid(f"output {unknown[0]!r} is unknown: choose from {', '.join(signature.outputs)}")
                outputs = await requests.answer(servable, signature, inputs)
                response.model_spec.CopyFrom(_spec(servable, signature.name))
                for name in wanted:
                    response.outputs[name].CopyFrom(to_proto(outputs[name]))
        return response

    async def Classify(self, request: Any, context: Any) -> Any:
        requests, spec = self._requests, request.model_spec
        response = classification_pb2.ClassificationResponse()
        async with _answering(requests, request, spec, "classify", context):
            with requests.lease(*_which(spec), spec.signature_name) as (servable, signature):
                found = await requests.classify(servable, signature, examples_of(request.input))
                response.model_spec.CopyFrom(_spec(servable, signature.name))
                for row in found:
                    classes = response.result.classifications.add().classes
                    for label, score in row:
                        classes.add(label=label, score=score)
        return response

    async def GetModelMetadata(self, request: Any, context: Any) -> Any:
        requests, spec = self._requests, request.model_spec
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        async with _answering(requests, request, spec, "metadata", context):
            for field in request.metadata_field:
                if field != "signature_def":
                    raise invalid(f"Metadata field {field} is not supported: expected signature_def")
            if not request.metadata_field:
                raise invalid("GetModelMetadataRequest must specify at least one metadata_field: signature_def")
            servable = requests.models.find(*_which(spec))
            response.model_spec.CopyFrom(_spec(servable))
            defs = get_model_metadata_pb2.SignatureDefMap(signature_def=servable.model.signature_defs)
            response.metadata["signature_def"].Pack(defs)
        return response

    async def Regress(self, request: Any, context: Any) -> None:
        await context.abort(StatusCode.INVALID_ARGUMENT, REGRESS)

    async def MultiInference(self, request: Any, context: Any) -> None:
        await context.abort(StatusCode.UNIMPLEMENTED, "MultiInference: ask Classify or Predict, once for each task")


class _Model(model_service_pb2_grpc.ModelServiceServicer):
    def __init__(self, requests: Requests):
        self._requests = requests

    async def GetModelStatus(self, request: Any, context: Any) -> Any:
        response = get_model_status_pb2.GetModelStatusResponse()
        async with _answering(self._requests, request, request.model_spec, "status", context):
            for one in self._requests.models.status(*_which(request.model_spec)):
                status = response.model_version_status.add(version=one.version, state=int(one.state))
                if one.error:
                    status.status.error_code = StatusCode.UNKNOWN.value[0]
                    status.status.error_message = one.error
        return response

    async def HandleReloadConfigRequest(self, request: Any, context: Any) -> None:
        await context.abort(StatusCode.UNIMPLEMENTED, "HandleReloadConfigRequest: the folders of versions are watched")


class Rpc:
    """The server; `port` is where it listens."""

    def __init__(self, requests: Requests):
        settings = requests.settings
        self._server = grpc.aio.server(
            interceptors=[_Parsing()],
            options=[
                ("grpc.max_receive_message_length", settings.max_request_bytes),
                ("grpc.max_send_message_length", -1),
                ("grpc.so_reuseport", 0),  # another server on the same port is a mistake
            ],
        )
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(_Prediction(requests), self._server)
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(_Model(requests), self._server)
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        try:
            self.port = self._server.add_insecure_port(f"{host}:{settings.port}")
        except RuntimeError:
            where = f"{settings.host}, port {settings.port}"
            raise UserError(f"--port: cannot listen on {where}; is another server there?") from None

    async def start(self) -> None:
        """Listens; not ready yet."""
        await self.say(serving=False)
        await self._server.start()

    async def say(self, serving: bool) -> None:
        """What health checks are answered."""
        state = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        for service in SERVICES:
            await self._health.set(service, state)

    async def stop(self, seconds: float) -> None:
        """Takes no new call, and ends when those begun are answered, or the time is over."""
        await self._server.stop(seconds)
