"""URLs become images: servers of this process answer, and no connection leaves this machine."""

import contextlib
import datetime
import functools
import http.server
import ipaddress
import socket
import ssl
import sys
import threading
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from kcnn.serving.prediction import inputs, urls
from kcnn.serving.prediction.inputs import UnreadableError
from kcnn.serving.prediction.urls import fetch_url


def error(fetch):
    with pytest.raises(UnreadableError) as caught:
        fetch()
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) <= urls.REASON
    return str(caught.value)


class Network:
    """Notes the names that are looked up and the addresses that are asked; those beyond this machine are refused."""

    def __init__(self):
        self.on, self.looked_up, self.asked = False, [], []
        sys.addaudithook(self.note)  # for ever: there is no way to take one off

    def note(self, event, arguments):
        if not self.on:
            return
        if event == "socket.getaddrinfo":
            self.looked_up.append(arguments[0])
        elif event == "socket.connect":
            address = arguments[1][0]
            self.asked.append(address)
            if not ipaddress.ip_address(address).is_loopback:
                raise OSError("beyond this machine")


NETWORK = Network()


@pytest.fixture(autouse=True)
def network():
    NETWORK.on, NETWORK.looked_up, NETWORK.asked = True, [], []
    yield NETWORK
    NETWORK.on = False


@pytest.fixture
def names(monkeypatch):
    """Give names to addresses: a list answers the first look-up, the next, and so on."""
    table, look_up = {}, socket.getaddrinfo

    def answer(host, port, *arguments, **options):
        found = table.get(host, [host])
        address = found.pop(0) if len(found) > 1 else found[0]
        return [one for each in address.split() for one in look_up(each, port, *arguments, **options)]

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    return table


@contextlib.contextmanager
def web(answer):
    """Answer every GET by `answer(handler)`; give the server's URL and the requests."""
    requests = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            requests.append((self.path, dict(self.headers)))
            answer(self)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", requests
    finally:
        server.shutdown()
        server.server_close()


def respond(status, body=b"", **headers):
    def answer(handler):
        handler.send_response(status)
        for name, value in {"Content_Length": str(len(body)), **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def test_a_url_is_fetched(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")  # nobody there
    with web(respond(200, b"image")) as (url, requests):
        (source,) = inputs.expand_input(f"{url}/a b/ü.jpg?q=1 2", fetch_url)
        assert source.read() == b"image"
        fetch_url(url.replace("http://", "http://user:secret@"))
    assert [path for path, _ in requests] == ["/a%20b/%C3%BC.jpg?q=1%202", "/"]
    for _, headers in requests:
        assert {name.lower() for name in headers} <= {"host", "accept-encoding", "user-agent", "accept"}
        assert "secret" not in str(headers)


def chunked(body):
    def answer(handler):
        handler.protocol_version = "HTTP/1.1"
        respond(200, body, Transfer_Encoding="chunked")(handler)
        handler.close_connection = True

    return answer


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (respond(404), "the server answers 404 Not Found"),
        (respond(204), "the server answers 204 No Content"),
        (respond(200, b"x" * 2000), "more than 0 MiB"),
        (respond(200, b"x", Content_Length="9"), "the answer ends 8 bytes early"),
        (respond(200, b"x", Content_Length="-1"), "the answer has a length of '-1'"),
        (respond(200, b"x", Content_Length="1_0"), "the answer has a length of '1_0'"),
        (respond(200, b"", Content_Length="9" * 17), "more than 0 MiB"),
        (respond(200, b"x", Content_Encoding="gzip"), "comes in Content-Encoding 'gzip', which was not asked for"),
        (respond(200, b"x", Transfer_Encoding="gzip, chunked"), "comes in Transfer-Encoding 'gzip, chunked'"),
        (chunked(b"5\r\nimage\r\n0\r\n"), None),
        (chunked(b"5\r\nimage\r\n"), "IncompleteRead"),
        (chunked(b"5\r\nima"), "IncompleteRead"),
        (chunked(b"5"), "IncompleteRead"),
        (chunked(b"-5\r\nimage\r\n0\r\n\r\n"), "IncompleteRead"),
        (chunked(b"1\r\nx\r\n" * 2000 + b"0\r\n\r\n"), "more than 0 MiB"),
        (chunked(b"ffffffffffffffff\r\nimage"), "IncompleteRead"),
        (respond(302), "the server answers 302 Found"),
        (respond(302, Location="file:///etc/passwd"), "redirected to file: expected http or https"),
        (respond(302, Location="ftp://x/y"), "redirected to ftp: expected http or https"),
        (respond(302, Location="http://["), "Invalid IPv6 URL"),
        (respond(302, Location="http://user:word@/"), "a URL without a host"),
        (respond(302, Location="http://127.0.0.1:6/"), "redirected to port 6; expected 80, 443, or 1024 and above"),
        (respond(302, Location="http://127.0.0.1:0/"), "redirected to port 0; expected"),
        (respond(302, Location="http://127.0.0.1:99999/"), "Port out of range"),
        (respond(302, Location=f"http://127.0.0.1:{'9' * 5000}/"), "Exceeds the limit"),
        (respond(302, Location=f"{'a' * 5000}://x"), "redirected to aaa"),
        (respond(302, Location="/again"), "redirected to 127.0.0.1, which is no public address"),
    ],
)
def test_what_a_server_may_answer(answer, message, monkeypatch):
    monkeypatch.setattr(urls, "SIZE", 1000)
    with web(answer) as (url, _):
        if message is None:
            assert fetch_url(f"{url}/a.jpg") == b"image"
        else:
            assert message in error(lambda: fetch_url(f"{url}/a.jpg"))


def test_the_words_of_a_server_are_not_repeated():
    def answer(handler):
        handler.wfile.write(b"HTTP/1.0 404 \x1b]0;owned\x07\r\n\r\n")

    with web(answer) as (url, _):
        assert error(lambda: fetch_url(url)) == "the server answers 404 Not Found"


FORMS = (
    "127.0.0.1",
    "0.0.0.0",
    "[::]",
    "localhost",
    "0x7f000001",
    "2130706433",
    "127.1",
    "user:word@127.0.0.1",
    "example.com\\@127.0.0.1",
    "[::ffff:127.0.0.1]",
    "[::127.0.0.1]",
    "[64:ff9b::127.0.0.1]",
)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_no_redirect_to_a_private_address_unless_told(scheme, network):
    with web(respond(200, b"secret")) as (secret, reached):
        for host in FORMS:
            location = secret.replace("http://127.0.0.1", f"{scheme}://{host}")
            with web(respond(302, Location=location)) as (url, _):
                network.asked.clear()
                message = error(lambda url=url: fetch_url(url))
                assert "no public address" in message or "not known" in message, (host, message)
                assert network.asked == ["127.0.0.1"]  # for the redirect; nothing after it
        assert reached == []
        if scheme == "http":
            with web(respond(302, Location=secret)) as (url, _):
                assert fetch_url(url, private_redirects=True) == b"secret"
    with web(lambda handler: respond(302, Location=handler.path + "x")(handler)) as (url, requests):
        assert error(lambda: fetch_url(url, private_redirects=True)) == "more than 5 redirects"
    assert len(requests) == 6


def test_the_connection_goes_to_the_address_that_was_judged(names, network):
    """A name server that gives a public address at first and this machine's at the second look-up gets no second."""
    with web(respond(200, b"secret")) as (secret, reached):
        names["rebound.example"] = ["8.8.8.8", "127.0.0.1"]
        with web(respond(302, Location=secret.replace("127.0.0.1", "rebound.example"))) as (url, _):
            assert error(lambda: fetch_url(url)) == "beyond this machine"
        assert network.asked == ["127.0.0.1", "8.8.8.8"]
        assert reached == []


def test_each_redirect_is_judged(names, network):
    with web(respond(200, b"secret")) as (secret, reached):
        names["public.example"] = ["127.0.0.1"]
        onwards = respond(302, Location=secret.replace("127.0.0.1", "public.example"))
        with web(onwards) as (second, _), web(respond(302, Location=second)) as (url, _):
            assert "no public address" in error(lambda: fetch_url(url))
    assert reached == []


def test_a_host_of_several_addresses_is_asked_at_those_that_pass(names, network):
    with web(respond(200, b"image")) as (url, _):
        names["nas.local"] = ["fe80::1 169.254.0.9 127.0.0.2 127.0.0.1"]
        assert fetch_url(url.replace("127.0.0.1", "nas.local")) == b"image"
        assert network.asked == ["127.0.0.2", "127.0.0.1"]  # nobody listens at the first


# Address → whether it is public; None where it is never asked, not even by the user's own word.
ADDRESSES = {
    "8.8.8.8": True, "2001:4860:4860::8888": True, "::ffff:8.8.8.8": True, "64:ff9b::8.8.8.8": True,
    "127.0.0.1": False, "127.255.255.254": False, "::1": False, "0.0.0.0": False, "::": False, "10.1.2.3": False,
    "172.16.0.1": False, "172.31.255.255": False, "192.168.1.1": False, "100.64.0.1": False, "100.100.100.200": False,
    "192.0.2.1": False, "198.18.0.1": False, "fc00::1": False, "fd12::1": False, "2001:db8::1": False,
    "2002:7f00:1::": False, "2001:0:1::": False, "64:ff9b::10.0.0.1": False, "64:ff9b:1::8.8.8.8": False,
    "::ffff:192.168.0.1": False, "::10.0.0.1": False, "100::1": False, "4000::1": False,
    "169.254.169.254": None, "::ffff:169.254.169.254": None, "64:ff9b::169.254.169.254": None,
    "::169.254.169.254": None, "168.63.129.16": None, "192.0.0.192": None, "fd00:ec2::254": None, "fe80::1": None,
    "fe80::1%eth0": None, "fec0::1": None, "224.0.0.1": None, "255.255.255.255": None, "240.0.0.1": None,
    "ff02::1": None, "::ffff:0:169.254.169.254": None,
}  # fmt: skip


@pytest.mark.parametrize("address", ADDRESSES)
def test_addresses(address, network):
    public = ADDRESSES[address]
    assert (urls.judge_address(address, private=False) is None) == (public is True)
    assert (urls.judge_address(address, private=True) is None) == (public is not None)
    if public is None:
        host = f"[{address}]" if ":" in address else address
        assert "where no server of pictures can be" in error(lambda: fetch_url(f"http://{host}/latest/meta-data"))
        assert network.asked == []


def drip(handler, piece):
    """Write a piece again and again, for five seconds, whether the client is there or not."""
    for _ in range(100):
        with contextlib.suppress(OSError):
            handler.wfile.write(piece)
            handler.wfile.flush()
        time.sleep(0.05)


def slow_body(handler):
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    drip(handler, b"x")


def slow_body_without_a_length(handler):
    handler.send_response(200)
    handler.end_headers()
    drip(handler, b"x")


def slow_chunks(handler):
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    drip(handler, b"1\r\nx\r\n")


def slow_headers(handler):
    drip(handler, b"H")


def silence(handler):
    time.sleep(3)


@pytest.mark.parametrize("answer", [slow_body, slow_body_without_a_length, slow_chunks, slow_headers, silence])
def test_a_slow_server_is_given_up(answer, monkeypatch):
    monkeypatch.setattr(urls, "SECONDS", 0.5)
    start = time.monotonic()
    with web(answer) as (url, _):
        assert error(lambda: fetch_url(url)) == "no whole answer within 0.5 s"
        assert time.monotonic() - start < 2


def test_what_cannot_be_reached():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        assert error(lambda: fetch_url(f"http://127.0.0.1:{one.getsockname()[1]}/")) == "Connection refused"
    for url in (
        "ftp://a/b",
        "http://",
        "http:///x",
        "http://a:99999/",
        "gopher://x",
        f"http://{'a' * 100}/",
        "http://a\0b/",
    ):
        assert error(lambda url=url: fetch_url(url))


def test_a_name_server_that_hangs_is_given_up(monkeypatch):
    released = threading.Event()
    monkeypatch.setattr(urls, "SECONDS", 0.3)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: released.wait(30))
    start = time.monotonic()
    assert error(lambda: fetch_url("http://localhost/")) == "no whole answer within 0.3 s"
    assert time.monotonic() - start < 5
    released.set()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """Return a file with a key and a certificate of this machine."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path_factory.mktemp("tls") / "localhost.pem"
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(secret + made.public_bytes(serialization.Encoding.PEM))
    return file


@contextlib.contextmanager
def secure_server(certificate, answer):
    """Call `answer(connection)` with each connection over TLS; give the port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            with contextlib.suppress(OSError):
                while True:
                    plain = listener.accept()[0]
                    with contextlib.suppress(OSError), context.wrap_socket(plain, server_side=True) as connection:
                        connection.recv(10_000)
                        answer(connection)

        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]


def end_as_tls_ends(connection):
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\nimage")
    connection.unwrap()


def cut(connection):
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\nima")
    connection.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(("answer", "message"), [(end_as_tls_ends, None), (cut, "EOF")])
def test_an_answer_over_tls_is_whole_or_none(answer, message, certificate, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    urls._tls.cache_clear()
    with secure_server(certificate, answer) as port:
        fetch = functools.partial(fetch_url, f"https://localhost:{port}/a.jpg")
        if message is None:
            assert fetch() == b"image"
        else:
            assert message in error(fetch)
        assert "certificate" in error(lambda: fetch_url(f"https://127.0.0.1:{port}/a.jpg"))  # of another name
    urls._tls.cache_clear()


def test_a_handshake_that_drips_is_given_up(certificate, monkeypatch):
    monkeypatch.setattr(urls, "SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def drip():
            connection = listener.accept()[0]
            with contextlib.suppress(OSError):
                connection.sendall(b"\x16\x03\x03\x40\x00")  # a record of 16 KiB
                for _ in range(100):
                    connection.sendall(b"\x02")
                    time.sleep(0.05)

        threading.Thread(target=drip, daemon=True).start()
        start = time.monotonic()
        assert error(lambda: fetch_url(f"https://127.0.0.1:{listener.getsockname()[1]}/")).startswith("no whole answer")
        assert time.monotonic() - start < 2
