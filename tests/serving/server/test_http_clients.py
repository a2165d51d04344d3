"""What HTTP clients send beside the body's words: encodings, methods, paths, headers, questions of browsers."""

import asyncio
import gzip
import http.client
import json
import socket

import pytest
from served_application import served
from serving_process import OTHER

from kcnn.serving.server.requests import Requests
from kcnn.serving.server.rest import application
from kcnn.serving.server.settings import ServedModel, Settings

SUMS = json.dumps({"inputs": {"x": [1], "y": [2]}}).encode()
ANSWER = {"outputs": {"sum": [3], "difference": [-1]}}


def ask(client, method, path, body=None, **headers):
    """Return the status, the headers and the answer."""
    client.connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    response = client.connection.getresponse()
    content = response.read()
    return response.status, response.headers, json.loads(content) if content else None


def test_content_encoding(client):
    whole = gzip.compress(SUMS)

    def encoded(body, encoding):
        status, _, answer = ask(client, "POST", OTHER, body, Content_Encoding=encoding)
        return status, answer

    for encoding in ("gzip", "GZIP", "x-gzip"):
        assert encoded(whole, encoding) == (200, ANSWER)
    for encoding in ("identity", ""):
        assert encoded(SUMS, encoding) == (200, ANSWER)
    assert encoded(gzip.compress(bytes(10**7)), "gzip")[0] == 413
    for body in (b"{}", whole[:-1], whole + whole):
        status, answer = encoded(body, "gzip")
        assert (status, answer["error"].split(":")[0]) == (400, "Content-Encoding gzip")
    assert encoded(whole, "br") == (415, {"error": "Content-Encoding br: expected gzip or none"})


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Content_Type": "application/json; charset=utf-8"},
        {"Content_Type": "text/plain;charset=UTF-8"},
        {"Content_Type": "application/x-www-form-urlencoded", "Accept": "*/*"},
        {"Accept": "text/html", "Accept_Encoding": "gzip, deflate, br", "Accept_Charset": "latin-1"},
        {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2_Settings": "AAEAAEAAAAIAAAAB"},
    ],
    ids=str,
)
def test_the_body_alone_says_what_it_is(client, headers):
    status, found, answer = ask(client, "POST", OTHER, SUMS, **headers)
    assert (status, answer) == (200, ANSWER)
    assert "Access-Control-Allow-Origin" not in found


@pytest.mark.parametrize(
    "path",
    [
        "/V1/MODELS/other:predict",
        "/v1/Models/other/Versions/7:predict",
        f"{OTHER}?key=value&x=:classify",
        "/v1/models/other%3Apredict",
    ],
)
def test_paths_as_clients_write_them(client, path):
    assert ask(client, "POST", path, SUMS)[::2] == (200, ANSWER)


@pytest.mark.parametrize(
    ("method", "path", "status", "said"),
    [
        ("POST", f"{OTHER}/", 400, "expected POST /v1/models/NAME"),
        ("GET", OTHER, 400, "expected POST /v1/models/NAME"),
        ("GET", "/v1/models/other/", 400, "or GET /v1/models/NAME[/metadata]"),
        ("GET", "/v1/models", 400, "or GET /v1/models/NAME[/metadata]"),
        ("POST", "/v1/models/other:PREDICT", 400, ":predict or :classify"),
        ("POST", "/v1/models/OTHER:predict", 404, "models: tiny, other"),
        ("POST", f"/{OTHER}", 404, "the API is at /v1/models/NAME"),
        ("POST", "/v1/models/other/versions/latest:predict", 400, "[/versions/N|/labels/LABEL]"),
        ("PUT", OTHER, 405, "Method Not Allowed"),
        ("OPTIONS", OTHER, 405, "--rest_api_enable_cors_support"),
        ("OPTIONS", "/", 405, "Method Not Allowed"),
        ("OPTIONS", "*", 404, "Not Found"),
    ],
)
def test_other_paths_and_methods_are_answered_with_what_is_expected(client, method, path, status, said):
    found, headers, answer = ask(client, method, path, SUMS if method == "POST" else None)
    assert (found, answer.keys()) == (status, {"error"})
    assert said in answer["error"]
    assert (found == 405) == ("GET" in headers.get("Allow", ""))
    assert "Access-Control-Allow-Origin" not in headers


@pytest.mark.parametrize("path", ["/v1/models/other", "/v1/models/other/metadata", "/healthz", "/readyz", "/"])
def test_head_is_get_without_its_body(client, path):
    status, headers, content = ask(client, "HEAD", path)
    assert (status, content) == (200, None)
    assert int(headers["Content-Length"]) > 0


NO_JSON = {
    "UTF-16": (SUMS.decode().encode("utf-16"), "found UTF-16 or UTF-32"),
    "UTF-16 without its mark": (SUMS.decode().encode("utf-16-le"), "found UTF-16 or UTF-32"),
    "UTF-32": (SUMS.decode().encode("utf-32-be"), "found UTF-16 or UTF-32"),
    "Latin-1": (b'{"signature_name": "caf\xe9"}', "in UTF-8"),
    "gzip that is not said": (gzip.compress(SUMS), "without the header Content-Encoding: gzip"),
    "a JPEG": (b"\xff\xd8\xff\xe0" + bytes(100), "found a JPEG"),
    "a PNG": (b"\x89PNG\r\n\x1a\n" + bytes(100), "found a PNG"),
    "a form with a file": (b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\n\xff\r\n--x--', "found a form"),
    "a form": (b"instances=abc", '{"instances": [...]}'),
    "nothing": (b"", '{"instances": [...]}'),
    "two objects": (SUMS + b"\n" + SUMS, '{"instances": [...]}'),
    "a text": (json.dumps(SUMS.decode()).encode(), '{"instances": [...]}'),
}


@pytest.mark.parametrize("case", NO_JSON)
def test_a_body_that_is_no_json_is_told_what_it_is(client, case):
    body, said = NO_JSON[case]
    status, _, answer = ask(client, "POST", OTHER, body)
    assert status == 400
    assert said in answer["error"]


def test_a_byte_order_mark_is_taken_off(client):
    assert ask(client, "POST", OTHER, b"\xef\xbb\xbf" + SUMS)[::2] == (200, ANSWER)


def test_bodies_in_chunks_or_after_a_question(server):
    head = f"POST {OTHER} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n".encode()
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (SUMS[:9], SUMS[9:], b""))
    with socket.create_connection(("127.0.0.1", server.rest), timeout=30) as connection:
        connection.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks)
        response = http.client.HTTPResponse(connection)
        response.begin()
        assert (response.status, json.loads(response.read())) == (200, ANSWER)
    with socket.create_connection(("127.0.0.1", server.rest), timeout=30) as connection:
        connection.sendall(head + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(SUMS))
        assert connection.recv(1000).startswith(b"HTTP/1.1 100 ")  # as curl does with large bodies, the client waits
        connection.sendall(SUMS)
        response = http.client.HTTPResponse(connection)
        response.begin()
        assert (response.status, json.loads(response.read())) == (200, ANSWER)


def test_pages_of_other_origins_may_ask_where_the_flag_says_so(export_dir):
    """Expect TensorFlow Serving's headers: in the answer to a browser's first question, in answers, in errors."""
    settings = Settings((ServedModel("tiny", export_dir.parent),), rest_api_enable_cors_support=True)
    asked = {"Origin": "https://example.com", "Access_Control_Request_Method": "POST"}

    class Page:
        def __init__(self, address):
            self.connection = http.client.HTTPConnection(*address, timeout=30)

    async def questions():
        requests = Requests(settings)
        await requests.models.poll()
        async with served(application(requests)) as (address, _):

            def send(method, path, body=None, **headers):
                return ask(Page(address), method, path, body, **{**asked, **headers})

            async def expect(status, *request, **headers):
                found, given, answer = await asyncio.to_thread(send, *request, **headers)
                assert found == status, answer
                assert given["Access-Control-Allow-Origin"] == "*"
                assert given["Access-Control-Allow-Methods"] == "GET, POST"
                assert "Content-Type" in given["Access-Control-Allow-Headers"]
                return answer

            for path in ("/v1/models/tiny:predict", "/V1/models/tiny/versions/1:predict", "/v1/models/tiny"):
                assert await expect(200, "OPTIONS", path, Access_Control_Request_Headers="content-type") is None
            states = await expect(200, "GET", "/v1/models/tiny")
            assert states["model_version_status"][0]["state"] == "AVAILABLE"
            await expect(200, "POST", "/v1/models/tiny:predict", b'{"signature_name": "metadata", "inputs": {}}')
            await expect(400, "POST", "/v1/models/tiny:predict", b"{}", Content_Type="application/json")
            await expect(404, "GET", "/v1/models/nope")
            status, headers, _ = await asyncio.to_thread(send, "OPTIONS", "/")
            assert (status, headers["Access-Control-Allow-Origin"]) == (405, None)

    asyncio.run(questions())
