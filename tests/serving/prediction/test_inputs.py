"""Names, files and URLs become images; the web is a server of this process."""

import contextlib
import http.server
import os
import socket
import threading
import time

import pytest

from kcnn.serving.prediction import inputs
from kcnn.serving.prediction.inputs import UnreadableError


def names(item, folder=None):
    found = [source.name for source in inputs.expand_input(item)]
    return [os.path.relpath(name, folder) for name in found] if folder else found


def error(source_or_call):
    with pytest.raises(UnreadableError) as caught:
        source_or_call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def folder(tmp_path):
    shown = ("b.jpg", "a.png", "sub/c.jpg", "sub/deep/d.jpg", "odd[1].jpg", "e*.jpg")
    for name in (*shown, ".hidden/x.jpg", "sub/.y.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "sub" / "circle").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "sub" / "pipe")
    return tmp_path


def test_folders_are_walked_in_order(folder):
    found = names(folder, folder)
    assert found == ["a.png", "b.jpg", "e*.jpg", "odd[1].jpg", "sub/c.jpg", "sub/deep/d.jpg"]
    assert [source.read() for source in inputs.expand_input(folder)] == [name.encode() for name in found]
    assert [source.size for source in inputs.expand_input(folder)] == list(map(len, found))


def test_patterns(folder):
    assert names(str(folder / "*.jpg"), folder) == ["b.jpg", "e*.jpg", "odd[1].jpg"]
    (folder / "sub" / "circle").unlink()  # which the shell follows as well
    assert names(str(folder / "**" / "?.jpg"), folder) == ["b.jpg", "sub/c.jpg", "sub/deep/d.jpg"]
    assert names(str(folder / "s?b"), folder) == ["sub/c.jpg", "sub/deep/d.jpg"]
    assert names(str(folder / "odd[1].jpg"), folder) == ["odd[1].jpg"]  # there is such a file
    assert names(str(folder / "e*.jpg"), folder) == ["e*.jpg"]
    (nothing,) = inputs.expand_input(str(folder / "*.gif"))
    assert error(nothing.read) == "no file matches this pattern"


def test_leftovers_of_systems_are_no_pictures(folder):
    before = names(folder, folder)
    leftovers = (
        "Thumbs.db",
        "sub/desktop.ini",
        "@eaDir/b.jpg/SYNOPHOTO_THUMB_SM.jpg",
        "System Volume Information/x.jpg",
    )
    for name in leftovers:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    assert names(folder, folder) == before
    (folder / "sub" / "circle").unlink()
    assert names(str(folder / "**" / "*.jpg"), folder) == [name for name in before if name.endswith(".jpg")]
    assert set(names(str(folder / "*"), folder)) == {*before}
    assert names(str(folder / "System Volume Information"), folder) == [leftovers[3]]  # it is asked for
    assert names(str(folder / "System Volume Information" / "*"), folder) == [leftovers[3]]
    assert names(str(folder / "Thumbs.db"), folder) == ["Thumbs.db"]


def test_a_link_upwards_is_not_followed(folder):
    before = names(folder / "sub", folder)
    (folder / "sub" / "up").symlink_to(folder.parent)
    (folder / "sub" / "deep" / "root").symlink_to("/")
    assert names(folder / "sub", folder) == before
    (folder / "sub" / "loop").symlink_to("loop")
    assert names(folder / "sub", folder) == [*before, "sub/loop"]


def test_what_cannot_be_read_says_why(folder, monkeypatch):
    (missing,) = inputs.expand_input(folder / "missing.jpg")
    assert error(missing.read) == "No such file or directory"
    (null,) = inputs.expand_input("a\0b")
    assert "null" in error(null.read)
    (long,) = inputs.expand_input("x" * 5000)
    assert error(long.read) == "File name too long"
    (folder / "nowhere").symlink_to(folder / "gone")
    broken = next(source for source in inputs.expand_input(folder) if source.name.endswith("nowhere"))
    assert error(broken.read) == "No such file or directory"
    (folder / "empty" / "inner").mkdir(parents=True)
    (empty,) = inputs.expand_input(folder / "empty")
    assert error(empty.read) == "no files in this folder"
    monkeypatch.setattr(inputs, "LIMIT", 2**20)
    assert error(lambda: inputs.read_image_file("/dev/zero")) == "more than 1 MiB"


def test_bytes_that_are_no_text_in_a_name(folder):
    (folder / os.fsdecode(b"\xff.jpg")).write_bytes(b"x")
    source = next(source for source in inputs.expand_input(folder) if "\udcff" in source.name)
    assert source.read() == b"x"
    assert [one.read() for one in inputs.expand_input(os.fsencode(str(folder / "b.jpg")).decode())] == [b"b.jpg"]


def test_urls_are_refused_unless_asked_for(folder, monkeypatch):
    (source,) = inputs.expand_input("https://example.com/a.jpg")
    assert "--allow_urls" in error(source.read)
    monkeypatch.chdir(folder)
    (folder / "http:").mkdir()
    (folder / "http:" / "a").write_bytes(b"a file all the same")
    assert next(inputs.expand_input("http://a")).read() == b"a file all the same"


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
        (source,) = inputs.expand_input(f"{url}/a b/ü.jpg?q=1 2", inputs.fetch_url)
        assert source.read() == b"image"
        inputs.fetch_url(url.replace("http://", "http://user:secret@"))
    assert [path for path, _ in requests] == ["/a%20b/%C3%BC.jpg?q=1%202", "/"]
    for _, headers in requests:
        assert {name.lower() for name in headers} <= {"host", "accept-encoding", "user-agent", "accept"}
        assert "secret" not in str(headers)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (respond(404), "the server answers 404 Not Found"),
        (respond(204), "the server answers 204 No Content"),
        (respond(200, b"x" * 2000), "more than 0 MiB"),
        (respond(200, b"x", Content_Length="9"), "the answer ends 8 bytes early"),
        (respond(302), "the server answers 302 Found"),
        (respond(302, Location="file:///etc/passwd"), "redirected to file: expected http or https"),
        (respond(302, Location="ftp://x/y"), "redirected to ftp: expected http or https"),
        (respond(302, Location="http://["), "Invalid IPv6 URL"),
        (respond(302, Location="/again"), "redirected to 127.0.0.1, which is no public address"),
    ],
)
def test_what_a_server_may_answer(answer, message, monkeypatch):
    monkeypatch.setattr(inputs, "FETCH_LIMIT", 1000)
    with web(answer) as (url, _):
        assert message in error(lambda: inputs.fetch_url(f"{url}/a.jpg"))


def test_no_redirect_to_a_private_address_unless_told():
    with web(respond(200, b"secret")) as (secret, reached):
        for host in ("127.0.0.1", "localhost", "0x7f000001", "[::ffff:127.0.0.1]"):
            location = secret.replace("127.0.0.1", host)
            with web(respond(302, Location=location)) as (url, _):
                message = error(lambda url=url: inputs.fetch_url(url))
                assert "no public address" in message or "not known" in message or "refused" in message, message
        assert reached == []  # not even asked
        with web(respond(302, Location=secret)) as (url, _):
            assert inputs.fetch_url(url, private_redirects=True) == b"secret"
    with web(lambda handler: respond(302, Location=handler.path + "x")(handler)) as (url, requests):
        assert error(lambda: inputs.fetch_url(url, private_redirects=True)) == "more than 5 redirects"
    assert len(requests) == 6


def slow_body(handler):
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    for _ in range(100):
        with contextlib.suppress(OSError):
            handler.wfile.write(b"x")
            handler.wfile.flush()
        time.sleep(0.05)


def slow_headers(handler):
    for _ in range(100):
        with contextlib.suppress(OSError):
            handler.wfile.write(b"H")
            handler.wfile.flush()
        time.sleep(0.05)


def silence(handler):
    time.sleep(3)


@pytest.mark.parametrize("answer", [slow_body, slow_headers, silence])
def test_a_slow_server_is_given_up(answer, monkeypatch):
    monkeypatch.setattr(inputs, "SECONDS", 0.5)
    start = time.monotonic()
    with web(answer) as (url, _):
        assert error(lambda: inputs.fetch_url(url)) == "no whole answer within 0.5 s"
        assert time.monotonic() - start < 2


def test_what_cannot_be_reached():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        assert error(lambda: inputs.fetch_url(f"http://127.0.0.1:{one.getsockname()[1]}/")) == "Connection refused"
    for url in ("ftp://a/b", "http://", "http://a:99999/", "gopher://x"):
        assert error(lambda url=url: inputs.fetch_url(url))


def test_readers_keep_what_went_wrong():
    readers = inputs.ReaderThreads()
    good, bad = readers.submit(lambda: b"x"), readers.submit(lambda: inputs.read_image_file("/nothing"))
    assert good.result() == b"x"
    with pytest.raises(UnreadableError, match="No such file"):
        bad.result()
    readers.close()


def test_count(folder):
    assert inputs.count_images([folder, str(folder / "b.jpg"), "http://x/y", b"bytes"]) == 6 + 3
