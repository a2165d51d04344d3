"""Errors for clients: gRPC's codes, and the HTTP status that TensorFlow Serving has for each.

Source: `ToHTTPStatusCode` in tensorflow_serving/model_servers/http_server.cc
"""

from grpc import StatusCode

HTTP = {
    StatusCode.OK: 200,
    StatusCode.CANCELLED: 499,
    StatusCode.UNKNOWN: 500,
    StatusCode.INVALID_ARGUMENT: 400,
    StatusCode.DEADLINE_EXCEEDED: 504,
    StatusCode.NOT_FOUND: 404,
    StatusCode.ALREADY_EXISTS: 409,
    StatusCode.PERMISSION_DENIED: 403,
    StatusCode.RESOURCE_EXHAUSTED: 429,
    StatusCode.FAILED_PRECONDITION: 412,
    StatusCode.ABORTED: 409,
    StatusCode.OUT_OF_RANGE: 400,
    StatusCode.UNIMPLEMENTED: 501,
    StatusCode.INTERNAL: 500,
    StatusCode.UNAVAILABLE: 503,
    StatusCode.DATA_LOSS: 500,
    StatusCode.UNAUTHENTICATED: 401,
}
BY_NUMBER = {code.value[0]: code for code in StatusCode}
_LONGEST = 1000  # characters of a message; clients' own values stand in it


class StatusError(Exception):
    """The answer to a request that has no outputs; `http` where HTTP has a status of its own for it."""

    def __init__(self, code: StatusCode, message: str, http: int | None = None):
        super().__init__(message)
        self.code = code
        self.http = http or HTTP[code]
        self.message = message if len(message) <= _LONGEST else f"{message[:_LONGEST]}..."


def invalid(message: str) -> StatusError:
    """Return the error of a client's mistake."""
    return StatusError(StatusCode.INVALID_ARGUMENT, message)
