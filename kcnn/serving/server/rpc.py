"""gRPC: TensorFlow Serving's PredictionService and ModelService, and the standard health service.

Source: https://github.com/tensorflow/serving/tree/master/tensorflow_serving/apis and
https://github.com/grpc/grpc/blob/master/doc/health-checking.md
"""

import asyncio
import contextlib
import contextvars
import functools
import logging
from collections import defaultdict
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote
from weakref import WeakValueDictionary

import grpc
from google.protobuf.message import DecodeError, Message
from grpc import StatusCode
from grpc_health.v1 import health_pb2_grpc
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    input_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from kcnn.errors import UserError
from kcnn.serving.server.batching import Arrays
from kcnn.serving.server.health import Health
from kcnn.serving.server.messages import parse_message
from kcnn.serving.server.models import Servable
from kcnn.serving.server.requests import REGRESS, ClassifyExamples, Held, Requests, check_names
from kcnn.serving.server.runtime import Signature
from kcnn.serving.server.status import StatusError, invalid
from kcnn.serving.server.tensors import array_to_proto, proto_to_array

_log = logging.getLogger(__name__)
_WALK = 4  # how many times longer the parsing of a message's bytes takes than that of JSON
_AT_ONCE = 4  # messages of a connection that are read at once
_TURN_SECONDS = 1.0  # what a message has to come in while others wait; most come in milliseconds
_SLOW = 32  # messages that take longer
_size: contextvars.ContextVar[int] = contextvars.ContextVar("size")  # of the call's message
_STREAMS = 256  # calls at once on a connection; a client's others wait with it
_HELLO_SECONDS = 10  # what a client has to begin HTTP/2 in
_IDLE_SECONDS = 60  # a connection that asks nothing is closed, as with HTTP
_AGE_SECONDS = 120  # then the client connects anew; nothing else ends a call whose answer is not taken


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


@contextlib.contextmanager
def _counted(requests: Requests, request: Any, method: str, context: Any = None) -> Iterator[Held]:
    """Count the request, and its bytes while it is in work."""
    model = requests.model_label(request.model_spec.name)
    peer = unquote(context.peer()) if context else ""  # as ipv4:127.0.0.1:4000 or ipv6:[::1]:4000
    client = peer.partition(":")[2].rpartition(":")[0].strip("[]")  # as HTTP has it
    with requests.metrics.request(model, method, "grpc"), requests.hold(client) as held:
        held.add(_size.get())
        yield held


class _Reading(grpc.aio.ServerInterceptor):
    """Reads the messages, and ends calls with the status of what goes wrong.

    gRPC on its own waits for ever for messages, for any number of them at once. Here the messages of a service take
    turns, as many as there is memory for; of the others gRPC reads no more than the beginning. So that calls which send
    nothing do not keep the others waiting, a connection has few turns at once, and a message that does not come within
    its turn joins the slow ones. When these are too many, the one that came first is cut off.
    """

    def __init__(self, requests: Requests):
        self._requests = requests
        self._turns: dict[str, asyncio.Semaphore] = defaultdict(
            functools.partial(asyncio.Semaphore, requests.settings.HELD_REQUESTS)
        )
        self._of_connections: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._slow: dict[asyncio.Future, None] = {}  # in the order of their coming

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        behavior = handler.unary_unary or handler.unary_stream
        service, _, method = handler_call_details.method.rpartition("/")

        async def read_and_answer(context: Any) -> Any:
            with self._requests.metrics.unread(method.lower().removeprefix("getmodel"), "grpc"):
                message = handler.request_deserializer.__self__  # it is FromString of the message's class
                request = await self._request(self._turns[service], message, context)
            return await behavior(request, context)

        async def answer(_: Any, context: Any) -> Any:
            try:
                return await read_and_answer(context)
            except grpc.aio.AbortError:
                raise
            except StatusError as error:
                code, message = error.code, error.message
            except Exception:  # a mistake here must not look like the client's
                _log.exception("internal error")
                code, message = StatusCode.INTERNAL, "internal error; see the server's output"
            # Out of the handlers, and of the frame that has the request: the call keeps what abort raises, and that its
            # frames and what was raised before, in a cycle that only a garbage collection ends.
            await _abort(context, code, message)

        # On the wire a message is a stream of one.
        kind = grpc.stream_unary_rpc_method_handler if handler.unary_unary else grpc.stream_stream_rpc_method_handler
        return kind(answer, None, handler.response_serializer)

    async def _request(self, turn: asyncio.Semaphore, kind: type[Message], context: Any) -> Message:
        limit = self._requests.settings.rest_api_timeout_in_ms
        try:
            own = self._of_connections.setdefault(context.peer(), asyncio.Semaphore(_AT_ONCE))
            async with asyncio.timeout(limit / 1000), own:
                content = await self._content(turn, context)
                if content is grpc.aio.EOF:  # gRPC has refused too large a message already
                    raise StatusError(StatusCode.CANCELLED, "the call ended without a request")
                _size.set(len(content))
                return await self._requests.aside(_WALK * len(content), parse_message, kind, content)
        except TimeoutError:
            raise StatusError(StatusCode.DEADLINE_EXCEEDED, f"no whole request within {limit} ms") from None
        except DecodeError as error:
            raise invalid(str(error)) from None

    async def _content(self, turn: asyncio.Semaphore, context: Any) -> Any:
        """Return the bytes of the message, or EOF."""
        async with turn:
            reading = asyncio.ensure_future(context.read())
            try:
                await asyncio.wait({reading}, timeout=_TURN_SECONDS)
            except asyncio.CancelledError:
                reading.cancel()
                raise
        if reading.done():
            return reading.result()
        if len(self._slow) >= _SLOW:
            oldest = next(iter(self._slow))
            del self._slow[oldest]
            oldest.cancel()
        self._slow[reading] = None
        try:
            await asyncio.wait({reading})
        finally:
            self._slow.pop(reading, None)
            cut_off = reading.cancelled()
            reading.cancel()
        if cut_off:
            raise StatusError(StatusCode.RESOURCE_EXHAUSTED, "the request comes too slowly while others wait")
        return reading.result()


def _inputs(request: predict_pb2.PredictRequest, signature: Signature, most_bytes: int) -> Arrays:
    check_names(signature, request.inputs)
    return {name: proto_to_array(proto, name, most_bytes) for name, proto in request.inputs.items()}


def _examples(given: input_pb2.Input) -> ClassifyExamples:
    found, context = given.example_list.examples, b""
    if given.HasField("example_list_with_context"):
        found = given.example_list_with_context.examples
        context = given.example_list_with_context.context.SerializeToString()
    return ClassifyExamples(len(found), (one.SerializeToString() for one in found), context)


async def _abort(context: Any, code: StatusCode, message: str) -> None:
    with contextlib.suppress(grpc.aio.InternalError):  # the client has gone
        await context.abort(code, message)


class _Prediction(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, requests: Requests):
        self._requests = requests

    async def Predict(self, request: Any, context: Any) -> Any:
        requests, spec = self._requests, request.model_spec
        response = predict_pb2.PredictResponse()
        with (
            _counted(requests, request, "predict", context) as held,
            requests.lease(*_which(spec), spec.signature_name) as (servable, signature),
        ):
            inputs = await held.aside(_inputs, request, signature, requests.settings.max_request_bytes)
            wanted = set(request.output_filter) or set(signature.outputs)
            unknown = sorted(wanted - set(signature.outputs))
            if unknown:
                raise invalid(f"output {unknown[0]!r} is unknown: choose from {', '.join(signature.outputs)}")
            outputs = await requests.answer(servable, signature, inputs, held)
            response.model_spec.CopyFrom(_spec(servable, signature.name))
            for name in wanted:
                response.outputs[name].CopyFrom(array_to_proto(outputs[name]))
        return response

    async def Classify(self, request: Any, context: Any) -> Any:
        requests, spec = self._requests, request.model_spec
        response = classification_pb2.ClassificationResponse()
        with (
            _counted(requests, request, "classify", context) as held,
            requests.lease(*_which(spec), spec.signature_name) as (servable, signature),
        ):
            found = await requests.classify(servable, signature, _examples(request.input), held)
            response.model_spec.CopyFrom(_spec(servable, signature.name))
            for row in found:
                classes = response.result.classifications.add().classes
                for label, score in row:
                    classes.add(label=label, score=score)
        return response

    async def GetModelMetadata(self, request: Any, context: Any) -> Any:
        requests, spec = self._requests, request.model_spec
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        with _counted(requests, request, "metadata"):
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
        with _counted(self._requests, request, "regress"):
            raise invalid(REGRESS)

    async def MultiInference(self, request: Any, context: Any) -> None:
        with self._requests.metrics.request("", "multiinference", "grpc"):
            raise StatusError(StatusCode.UNIMPLEMENTED, "MultiInference: ask Classify or Predict, once for each task")


class _Model(model_service_pb2_grpc.ModelServiceServicer):
    def __init__(self, requests: Requests):
        self._requests = requests

    async def GetModelStatus(self, request: Any, context: Any) -> Any:
        response = get_model_status_pb2.GetModelStatusResponse()
        with _counted(self._requests, request, "status"):
            for one in self._requests.models.status(*_which(request.model_spec)):
                status = response.model_version_status.add(version=one.version, state=int(one.state))
                if one.error:
                    status.status.error_code = StatusCode.UNKNOWN.value[0]
                    status.status.error_message = one.error
        return response

    async def HandleReloadConfigRequest(self, request: Any, context: Any) -> None:
        raise StatusError(StatusCode.UNIMPLEMENTED, "HandleReloadConfigRequest: the folders of versions are watched")


class Rpc:
    """The server; `port` is where it listens.

    Args:
        connections: at once, and calls at once; further ones are closed, or refused.
    """

    def __init__(self, requests: Requests, connections: int):
        settings = requests.settings
        grace_ms = min(2 * settings.rest_api_timeout_in_ms, 2**31 - 1)  # to read a request, and to answer it
        self._server = grpc.aio.server(
            interceptors=[_Reading(requests)],
            maximum_concurrent_rpcs=connections,
            options=[
                ("grpc.max_receive_message_length", settings.max_request_bytes),
                ("grpc.max_send_message_length", -1),
                ("grpc.http2.bdp_probe", 0),  # otherwise gRPC soon receives whole messages that nobody reads yet
                ("grpc.max_concurrent_streams", _STREAMS),
                ("grpc.max_allowed_incoming_connections", connections),
                ("grpc.server_handshake_timeout_ms", 1000 * _HELLO_SECONDS),
                ("grpc.max_connection_idle_ms", 1000 * _IDLE_SECONDS),
                ("grpc.max_connection_age_ms", 1000 * _AGE_SECONDS),
                ("grpc.max_connection_age_grace_ms", grace_ms),
                ("grpc.so_reuseport", 0),  # another server on the same port is a mistake
            ],
        )
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(_Prediction(requests), self._server)
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(_Model(requests), self._server)
        health_pb2_grpc.add_HealthServicer_to_server(Health(requests), self._server)
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        try:
            self.port = self._server.add_insecure_port(f"{host}:{settings.port}")
        except RuntimeError:
            where = f"{settings.host}, port {settings.port}"
            raise UserError(f"--port: cannot listen on {where}; is another server there?") from None

    async def start(self) -> None:
        """Start to listen."""
        await self._server.start()

    async def stop(self, seconds: float) -> None:
        """Take no new call, and end when the begun calls are answered or the time is over."""
        await self._server.stop(seconds)
