"""HTTP: TensorFlow Serving's REST API, health, metrics, and the page.

Source: https://www.tensorflow.org/tfx/serving/api_rest and tensorflow_serving/model_servers/http_rest_api_handler.cc
"""

import asyncio
import base64
import contextlib
import hashlib
import logging
import re
from collections.abc import Awaitable, Iterator, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

import orjson
import prometheus_client
from google.protobuf import json_format
from grpc import StatusCode
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send
from tensorflow_serving.apis import get_model_metadata_pb2

from kcnn.serving.publishing.versions import version_number
from kcnn.serving.server.batching import Arrays
from kcnn.serving.server.json_pieces import count_marks
from kcnn.serving.server.origins import refusal
from kcnn.serving.server.requests import REGRESS, ClassifyExamples, Held, Requests
from kcnn.serving.server.rest_bodies import inflate, parse_body, read_inputs, serialize_example, too_large
from kcnn.serving.server.status import StatusError, invalid
from kcnn.serving.server.tensors import array_to_json

_MODEL = r"(?i:/v1/models/)(?P<model>[^/:]+)(?:(?i:/versions/)(?P<version>[0-9]+)|(?i:/labels/)(?P<label>[^/:]+))?"
_ASK = re.compile(_MODEL + r":(?P<method>classify|regress|predict)", re.ASCII)
_LOOK = re.compile(_MODEL + r"(?P<metadata>/metadata)?", re.ASCII)  # else "\u017f" would be an "s"
_JSON = "application/json"
_log = logging.getLogger(__name__)
_EXPECTED = "POST /v1/models/NAME[/versions/N|/labels/LABEL]:predict or :classify, or GET /v1/models/NAME[/metadata]"
_WRITTEN = 8  # bytes that are read in the time in which a number is written
_INFLATED = 1032  # bytes that a byte of gzip may become
_LATER = (StatusCode.RESOURCE_EXHAUSTED, StatusCode.UNAVAILABLE)  # the same request may be answered later
_METHODS = ["GET", "POST"]
_CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": ", ".join(_METHODS),
    "Access-Control-Allow-Headers": "Content-Type, Content-Encoding",
}


def application(requests: Requests) -> ASGIApp:
    """Return the application that uvicorn runs."""
    page = Path(__file__).with_name("page.html").read_bytes()
    headers = {"Content-Security-Policy": _policy(page), "Referrer-Policy": "no-referrer"}

    async def show_page(_: Request) -> Response:
        return Response(page, media_type="text/html", headers=headers)

    async def health(_: Request) -> Response:
        return _json({"status": "alive"})

    async def readiness(_: Request) -> Response:
        return _json({"ready": requests.ready, "models": list(requests.models.served)}, 200 if requests.ready else 503)

    async def metrics(_: Request) -> Response:
        text = prometheus_client.generate_latest(requests.metrics.registry)
        return Response(text, media_type=prometheus_client.CONTENT_TYPE_LATEST)

    cors = requests.settings.rest_api_enable_cors_support
    methods = [*_METHODS, "OPTIONS"] if cors else _METHODS

    async def models(request: Request) -> Response:
        if cors and request.method == "OPTIONS":
            return Response(headers=_CORS)
        response = await _guarded(_serve(request, requests))
        if cors:
            response.headers.update(_CORS)
        return response

    async def other(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        message = (
            f"{request.method} {request.scope['path']}: {error.detail}; the API is at /v1/models/NAME, a page at /"
        )
        if request.method == "OPTIONS" and request.scope["path"].lower().startswith("/v1/"):
            message += "; --rest_api_enable_cors_support lets the pages of other origins ask it"
        return _json({"error": message}, error.status_code, error.headers)

    app = Starlette(
        routes=[
            Route("/", show_page),
            Route("/healthz", health),
            Route("/readyz", readiness),
            Route("/metrics", metrics),
            Route("/monitoring/prometheus/metrics", metrics),  # TensorFlow Serving's usual path
            Route("/v1/{path:path}", models, methods=methods),
            Route("/V1/{path:path}", models, methods=methods),  # TensorFlow Serving takes either case
        ],
        exception_handlers={HTTPException: other},
    )
    app.router.redirect_slashes = False

    async def own(scope: Scope, receive: Receive, send: Send) -> None:
        """Answer what no foreign page asks."""
        reason = refusal(Headers(scope=scope), requests.settings)
        answer = _json({"error": reason}, 403) if reason else app
        await answer(scope, receive, send)

    return own


def _policy(page: bytes) -> str:
    """Return the page's content security policy: it runs what stands in it, and asks this server."""

    def hashes(tag: str) -> str:
        found = re.findall(rf"<{tag}>(.*?)</{tag}>".encode(), page, re.DOTALL)
        return " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(one).digest()).decode()}'" for one in found)

    return (
        f"default-src 'none'; script-src {hashes('script')}; style-src {hashes('style')}; img-src blob: data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _json(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    body = orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(body, status, {"X-Content-Type-Options": "nosniff", **(headers or {})}, _JSON)


async def _guarded(answer: Awaitable[Response]) -> Response:
    """Turn errors into answers, as TensorFlow Serving words them."""
    try:
        return await answer
    except StatusError as error:
        headers = {"Retry-After": "1"} if error.code in _LATER else {}
        return _json({"error": error.message}, error.http, headers)
    except Exception:  # a mistake here must not look like the client's
        _log.exception("internal error")
        return _json({"error": "internal error; see the server's output"}, 500)


async def _serve(request: Request, requests: Requests) -> Response:
    """Answer a request below /v1/."""
    path = request.scope["path"]  # the URL's has lost its control characters
    if request.method == "POST" and (found := _ASK.fullmatch(path)):
        with requests.metrics.request(requests.model_label(found["model"]), found["method"], "rest"):
            try:
                async with asyncio.timeout(requests.settings.rest_api_timeout_in_ms / 1000) as limit:
                    return await _ask(request, requests, found, limit)
            except (ClientDisconnect, TimeoutError):
                if await request.is_disconnected():
                    raise StatusError(StatusCode.CANCELLED, "the client has gone") from None
                message = f"no answer within {requests.settings.rest_api_timeout_in_ms} ms"
                raise StatusError(StatusCode.DEADLINE_EXCEEDED, message) from None
    if request.method in ("GET", "HEAD") and (found := _LOOK.fullmatch(path)):
        return _metadata(requests, found) if found["metadata"] else _status(requests, found)
    raise invalid(f"Malformed request: {request.method} {path}; expected {_EXPECTED}")


def _which(found: re.Match[str]) -> tuple[str, int | None, str | None]:
    given = found["version"]
    version = None if given is None else version_number(given)
    if given is not None and version is None:
        raise invalid(f"Failed to convert version: {given[:20]} to numeric.")
    return found["model"], version, found["label"]


async def _ask(request: Request, requests: Requests, found: re.Match[str], limit: asyncio.Timeout) -> Response:
    name, version, label = _which(found)
    with requests.hold(request.client.host if request.client else "") as held:
        body = await _body(request, requests, held)
        with _ended_with_the_client(request, limit):
            if found["method"] == "regress":
                requests.models.find(name, version, label)
                raise invalid(REGRESS)
            held.marks = await held.aside(count_marks, body)
            parsed = await held.aside(parse_body, body)
            del body
            wanted = parsed.get("signature_name", "")
            if not isinstance(wanted, str):
                raise invalid("'signature_name' key must be a string value.")
            with requests.lease(name, version, label, wanted) as (servable, signature):
                if found["method"] == "classify":
                    written = await held.aside(_examples, parsed)
                    del parsed
                    return _json({"results": await requests.classify(servable, signature, written, held)})
                inputs = await held.aside(read_inputs, requests, signature, parsed)
                rows = "instances" in parsed
                del parsed
                outputs = await requests.answer(servable, signature, inputs, held)
                size = sum(array.size for array in outputs.values())
                return await requests.aside(_WRITTEN * size, _answer, outputs, rows)


@contextlib.contextmanager
def _ended_with_the_client(request: Request, limit: asyncio.Timeout) -> Iterator[None]:
    """Put the limit to now when the client goes.

    The request's body has been read: nothing else is received.
    """

    async def watch() -> None:
        await request.receive()
        if not limit.expired():
            limit.reschedule(asyncio.get_running_loop().time())

    watching = asyncio.create_task(watch())
    try:
        yield
    finally:
        watching.cancel()


async def _body(request: Request, requests: Requests, held: Held) -> bytes | bytearray:
    """Return the whole body.

    The rest of a body that is too large is read and dropped, so that the client gets to read the answer.
    """
    most, body, size = requests.settings.max_request_bytes, bytearray(), 0
    async for chunk in request.stream():
        size += len(chunk)
        if size <= most:
            held.add(len(chunk))
            body += chunk
        elif body:
            body.clear()
    if size > most:
        raise too_large(f"{size}", most)
    encoding = request.headers.get("content-encoding", "").lower()
    if encoding in ("", "identity"):
        return body
    if encoding not in ("gzip", "x-gzip"):
        message = f"Content-Encoding {encoding}: expected gzip or none"
        raise StatusError(StatusCode.INVALID_ARGUMENT, message, HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
    content = await held.aside(inflate, body, most, weight=_INFLATED)
    held.add(len(content))
    return content


def _answer(outputs: Arrays, rows: bool) -> Response:
    if not rows:
        found = {name: array_to_json(name, array) for name, array in outputs.items()}
        return _json({"outputs": found if len(found) > 1 else next(iter(found.values()))})
    counts = {array.shape[:1] for array in outputs.values()}
    if len(counts) != 1 or counts == {()}:
        raise invalid("the outputs have no rows in common: ask with 'inputs' instead of 'instances'")
    ((count,),) = counts
    columns = {name: array_to_json(name, array) for name, array in outputs.items()}
    if len(columns) == 1:
        return _json({"predictions": next(iter(columns.values()))})
    return _json({"predictions": [{name: column[row] for name, column in columns.items()} for row in range(count)]})


def _examples(parsed: dict[str, Any]) -> ClassifyExamples:
    """Return the examples of a body, which are serialized when they are taken."""
    context, examples = parsed.get("context", {}), parsed.get("examples")
    if not isinstance(examples, list) or not examples:
        raise invalid("When method is classify, key 'examples' is expected, a list of one object or more")
    if not isinstance(context, dict):
        raise invalid("'context' must be an object of features")
    each = (serialize_example(one, f"example {index}") for index, one in enumerate(examples))
    return ClassifyExamples(len(examples), each, serialize_example(context, "context"))


def _status(requests: Requests, found: re.Match[str]) -> Response:
    states = [
        {
            "version": str(one.version),
            "state": one.state.name,
            "status": {"error_code": "UNKNOWN" if one.error else "OK", "error_message": one.error or ""},
        }
        for one in requests.models.status(*_which(found))
    ]
    return _json({"model_version_status": states})


def _metadata(requests: Requests, found: re.Match[str]) -> Response:
    servable = requests.models.find(*_which(found))
    defs = get_model_metadata_pb2.SignatureDefMap(signature_def=servable.model.signature_defs)
    written = json_format.MessageToDict(
        defs, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    spec = {"name": servable.name, "signature_name": "", "version": str(servable.version)}
    return _json({"model_spec": spec, "metadata": {"signature_def": written}})
