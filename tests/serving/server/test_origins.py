"""Which requests are answered: those of programs and of the server's own page, and no foreign page's."""

import asyncio
import http.client
import json
import socket

import pytest
from served_application import served
from starlette.datastructures import Headers

from kcnn.serving.server.origins import refusal
from kcnn.serving.server.requests import Requests
from kcnn.serving.server.rest import application
from kcnn.serving.server.settings import Settings

ALL = "0.0.0.0"
MACHINE = socket.gethostname().lower()
NAMED, ANY, CORS = {"allowed_hosts": "models.example"}, {"allowed_hosts": "*"}, {"rest_api_enable_cors_support": True}
EMBEDDED = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}


def refused(host, flags, headers):
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    return refusal(Headers(named), Settings((), host=host, **flags))


@pytest.mark.parametrize(
    ("host", "flags", "headers"),
    [
        ("127.0.0.1", {}, {}),  # HTTP/1.0
        ("127.0.0.1", {}, {"host": "127.0.0.1:8501"}),
        ("127.0.0.1", {}, {"host": "LOCALHOST"}),
        ("127.0.0.1", {}, {"host": "models.localhost.:80"}),
        ("::1", {}, {"host": "[::1]:8501"}),
        ("localhost", {}, {"host": "127.9.9.9:1"}),
        ("127.0.0.1", {}, {"host": "localhost:9000", "origin": "http://localhost:9000"}),  # through a tunnel
        ("127.0.0.1", {}, {"host": "[::1]:8501", "origin": "http://[::1]:8501"}),
        ("127.0.0.1", {}, {"host": "localhost", "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}),
        ("127.0.0.1", {}, {"host": "localhost", "sec-fetch-site": "same-origin", "sec-fetch-mode": "cors"}),
        ("127.0.0.1", NAMED, {"host": "Models.Example", "origin": "https://models.example"}),
        ("127.0.0.1", NAMED, {"host": "127.0.0.1:8501", "origin": "https://models.example"}),  # a proxy's Host
        ("127.0.0.1", CORS, {"host": "localhost", "origin": "https://page.example"}),
        ("127.0.0.1", CORS, {"host": "localhost", "origin": "null"}),
        ("127.0.0.1", CORS, {"host": "localhost", **EMBEDDED}),
        ("127.0.0.1", ANY, {"host": "models.default.svc.cluster.local:8501"}),
        (ALL, {}, {"host": "models.default.svc.cluster.local:8501"}),  # no browser
        (ALL, {}, {"host": "10.0.0.7:8501", "origin": "http://10.0.0.7:8501"}),
        (ALL, {}, {"host": f"{MACHINE}:8501", "origin": f"http://{MACHINE}:8501"}),
        (ALL, {}, {"host": "localhost:8501", "origin": "http://localhost:8501"}),
        ("models.lan", {}, {"host": "models.lan:8501", "origin": "http://models.lan:8501"}),
        (ALL, ANY, {"host": "models.lan:8501", "origin": "http://models.lan:8501"}),
        (ALL, CORS, {"host": "models.lan:8501", "origin": "https://page.example"}),
    ],
)
def test_programs_and_the_servers_own_page_are_answered(host, flags, headers):
    assert refused(host, flags, headers) is None


@pytest.mark.parametrize(
    ("host", "flags", "headers", "said"),
    [
        ("127.0.0.1", {}, {"host": "page.example"}, "--allowed_hosts=page.example"),  # DNS rebinding
        ("127.0.0.1", {}, {"host": "page.example:8501", "origin": "http://page.example:8501"}, "Host"),
        ("127.0.0.1", {}, {"host": "127.0.0.1.page.example"}, "Host"),
        ("127.0.0.1", {}, {"host": "localhost.page.example"}, "Host"),
        ("127.0.0.1", {}, {"host": "notlocalhost"}, "Host"),
        ("127.0.0.1", {}, {"host": "10.0.0.7:8501"}, "Host"),
        ("127.0.0.1", {}, {"host": "[::1.page.example"}, "Host"),
        ("127.0.0.1", {}, {"host": ":8501"}, "Host"),
        ("127.0.0.1", NAMED, {"host": "www.models.example"}, "Host"),
        ("127.0.0.1", CORS, {"host": "page.example"}, "Host"),
        ("127.0.0.1", {}, {"host": "localhost:8501", "origin": "http://localhost:3000"}, "localhost:3000"),
        ("127.0.0.1", {}, {"host": "localhost:8501", "origin": "null"}, "null"),
        ("127.0.0.1", {}, {"host": "localhost:8501", "origin": ""}, "pages of ''"),
        ("127.0.0.1", {}, {"host": "localhost:8501", "origin": "http://[x"}, "pages of"),
        ("127.0.0.1", {}, {"host": "localhost:8501", "origin": "https://page.example"}, "--allowed_hosts=NAME"),
        ("127.0.0.1", ANY, {"host": "localhost:8501", "origin": "https://page.example"}, "--allowed_hosts=NAME"),
        ("127.0.0.1", {}, {"host": "localhost:8501", **EMBEDDED}, "--rest_api_enable_cors_support"),
        ("127.0.0.1", {}, {"host": "localhost:8501", "sec-fetch-site": "same-site"}, "another origin"),
        (ALL, {}, {"host": "page.example:8501", "origin": "http://page.example:8501"}, "Host"),  # DNS rebinding
        (ALL, {}, {"host": "models.lan:8501", "origin": "https://page.example"}, "Host"),
        (ALL, NAMED, {"host": "models.example", "origin": "https://page.example"}, "page.example"),
    ],
)
def test_foreign_pages_are_refused(host, flags, headers, said):
    assert said in refused(host, flags, headers)


def test_all_origins_are_judged():
    raw = [(b"host", b"localhost"), (b"origin", b"http://localhost"), (b"origin", b"http://page.example")]
    assert "page.example" in refusal(Headers(raw=raw), Settings(()))


def test_what_is_foreign_is_refused_at_every_path_with_403_in_few_words():
    async def questions():
        async with served(application(Requests(Settings(())))) as (address, _):

            def ask(method, path, headers):
                connection = http.client.HTTPConnection(*address, timeout=30)
                body = b'{"instances": []}' if method == "POST" else None
                connection.request(method, path, body, {"Content-Type": "text/plain", **headers})
                response = connection.getresponse()
                return response.status, json.loads(response.read())

            for method, path in [
                ("POST", "/v1/models/tiny:predict"), ("GET", "/"), ("GET", "/metrics"), ("GET", "/readyz"),
                ("OPTIONS", "/v1/models/tiny:predict"), ("GET", "/nothing"),
            ]:  # fmt: skip
                for headers in ({"Host": "page.example"}, {"Origin": "http://page.example"}):
                    status, answer = await asyncio.to_thread(ask, method, path, headers)
                    assert (status, answer.keys()) == (403, {"error"})
                    assert "page.example" in answer["error"]
                _, answer = await asyncio.to_thread(ask, method, path, {"Origin": "http://" + "x" * 10_000})
                assert len(answer["error"]) < 500

    asyncio.run(questions())
