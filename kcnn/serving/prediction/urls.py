"""Images behind URLs: whose address may be asked is judged first, and an answer that is not whole is none.

The name is resolved once. Its addresses are judged, and the connection goes to one that passed: no name server can give
another between. A user may name an address of his own network; a redirect may not lead there unless that is allowed.
"""

import contextlib
import functools
import http.client
import ipaddress
import re
import socket
import ssl
import threading
import time
import urllib.parse
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

from kcnn.serving.prediction.inputs import UnreadableError

SIZE = 32 * 2**20  # bytes of an answer
SECONDS = 30.0  # from the look-up of the name to the last byte, over all redirects
REDIRECTS = 5
REASON = 200  # characters of what is said of a failure
_PIECE = 2**16
_PORTS = {"http": 80, "https": 443}
_CONNECTIONS = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}

# A family of addresses, and an address as `socket.connect` takes it.
_Address = tuple[socket.AddressFamily, tuple[Any, ...]]


def _networks(*rows: str) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    return [ipaddress.ip_network(network) for row in rows for network in row.split()]


# No server has pictures here: everybody, nobody, and where clouds tell a machine its secrets.
_NEVER = _networks(
    "169.254.0.0/16 168.63.129.16/32 192.0.0.192/32 224.0.0.0/4 240.0.0.0/4",
    "fe80::/10 fec0::/10 ff00::/8 fd00:ec2::/32",
)
# What the IANA's registries of special-purpose addresses (RFC 6890) keep from the public, beside these.
_PRIVATE = _networks(
    "0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 172.16.0.0/12 192.0.0.0/24 192.0.2.0/24 192.88.99.0/24",
    "192.168.0.0/16 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24",
    "2001::/23 2001:db8::/32 2002::/16 3fff::/20",
)
_PUBLIC_IPV6 = ipaddress.ip_network("2000::/3")
# IPv6 addresses that end in the IPv4 address which is meant: mapped, compatible, translated (RFC 4291, 2765, 6052).
_EMBEDDING = _networks("::ffff:0:0/96 ::/96 ::ffff:0:0:0/96 64:ff9b::/96")


def fetch_url(url: str, private_redirects: bool = False) -> bytes:
    """Return the bytes that a URL answers, over at most five redirects.

    No proxy is used, and no cookie or password is sent.

    Args:
        url: http or https.
        private_redirects: whether a redirect may lead to this machine, to a private network or another address that is
            not public.

    Raises:
        UnreadableError: it is of another kind, leads to a forbidden address, answers anything but 200, more than SIZE
            bytes, compressed, not whole, or too late.
    """
    deadline = time.monotonic() + SECONDS
    try:
        for hop in range(REDIRECTS + 1):
            parts = urllib.parse.urlsplit(url)
            if parts.scheme not in _CONNECTIONS:
                raise UnreadableError(f"{'redirected to ' * bool(hop)}{parts.scheme}: expected http or https")
            content = _get(parts, deadline, redirected=bool(hop), private=not hop or private_redirects)
            if isinstance(content, bytes):
                return content
            url = urllib.parse.urljoin(url, content)
        raise UnreadableError(f"more than {REDIRECTS} redirects")
    except (OSError, http.client.HTTPException, ValueError, UnreadableError) as error:
        late = f"no whole answer within {SECONDS:g} s" if time.monotonic() >= deadline else None
        reason = late or getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise UnreadableError(reason[:REASON]) from None


def _get(parts: urllib.parse.SplitResult, deadline: float, redirected: bool, private: bool) -> bytes | str:
    """Return the answer, or the address that it redirects to."""
    host, port = parts.hostname or "", _PORTS[parts.scheme] if parts.port is None else parts.port
    if not host:
        raise UnreadableError("a URL without a host")
    if redirected and port < 1024 and port not in _PORTS.values():
        raise UnreadableError(f"redirected to port {port}; expected 80, 443, or 1024 and above")
    connection = _CONNECTIONS[parts.scheme](host, port)
    with _connected(host, port, deadline, private) as sock, contextlib.closing(connection):
        connection.auto_open = 0  # no connection but this one
        connection.sock = _secured(sock, host) if parts.scheme == "https" else sock
        path = urllib.parse.quote(parts.path or "/", safe="/%:@!$&'()*+,;=~")
        query = urllib.parse.quote(parts.query, safe="/%:@!$&'()*+,;=~?")
        headers = {"User-Agent": "kcnn", "Accept": "*/*"}
        connection.request("GET", f"{path}?{query}" if query else path, headers=headers)
        response = connection.getresponse()
        if response.status in (301, 302, 303, 307, 308) and (location := response.headers.get("Location")):
            return str(location)
        if response.status != 200:
            words = http.client.responses.get(response.status, "")  # not the server's own
            raise UnreadableError(f"the server answers {response.status} {words}".rstrip())
        return _read(response, deadline)


def _read(response: http.client.HTTPResponse, deadline: float) -> bytes:
    """Return the whole body of an answer."""
    for header, known in (("Content-Encoding", "identity"), ("Transfer-Encoding", "chunked")):
        if (value := response.headers.get(header, "").strip().lower() or known) != known:
            raise UnreadableError(f"the answer comes in {header} {value!r}, which was not asked for")
    lengths = set(response.headers.get_all("Content-Length", []))
    if len(lengths) > 1 or not all(re.fullmatch(r"[0-9]{1,18}", length) for length in lengths):
        raise UnreadableError(f"the answer has a length of {' and '.join(sorted(lengths))!r}")
    content, piece = bytearray(), bytearray(_PIECE)
    # A chunk may declare any size, below 0 too, for which `read` would take what comes, without end.
    while len(content) <= SIZE and (response.length or 0) <= SIZE and (count := response.readinto(piece)):
        content += memoryview(piece)[:count]
    if time.monotonic() >= deadline:
        raise UnreadableError("late")  # an answer that was cut off here ends like one without a length
    if len(content) + (response.length or 0) > SIZE:
        raise UnreadableError(f"more than {SIZE >> 20} MiB")
    if response.length:
        raise UnreadableError(f"the answer ends {response.length} bytes early")
    return bytes(content)


@contextlib.contextmanager
def _connected(host: str, port: int, deadline: float, private: bool) -> Iterator[socket.socket]:
    """Connect to an address of a host that passes, and cut the connection off at the deadline."""
    addresses = _judged(_resolve(host, port, deadline), private)
    for index, (family, sockaddr) in enumerate(addresses):
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.settimeout(_left(deadline) / (len(addresses) - index))
            sock.connect(sockaddr)
            break
        except OSError:
            sock.close()
            if index + 1 == len(addresses):
                raise
    sock.settimeout(_left(deadline))
    # The timeout holds for each step, and a server may take any number of steps. The copy outlives TLS, which takes the
    # socket over.
    with sock, sock.dup() as copy:
        watch = threading.Timer(_left(deadline), _cut, [copy])
        watch.daemon = True
        watch.start()
        try:
            yield sock
        finally:
            watch.cancel()


def _cut(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):  # the other side has done so
        sock.shutdown(socket.SHUT_RDWR)


def _left(deadline: float) -> float:
    """Return the seconds that are left, and never 0, which would mean none at all."""
    return max(deadline - time.monotonic(), 0.001)


def _resolve(host: str, port: int, deadline: float) -> list[_Address]:
    """Return the addresses of a host. A name server that does not answer is given up at the deadline."""
    found: Future[list[Any]] = Future()

    def look_up() -> None:
        try:
            found.set_result(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except Exception as error:
            found.set_exception(error)

    threading.Thread(target=look_up, daemon=True).start()
    return [(family, sockaddr) for family, _, _, _, sockaddr in found.result(_left(deadline))]


def _judged(addresses: list[_Address], private: bool) -> list[_Address]:
    """Return the addresses that may be asked.

    Raises:
        UnreadableError: there is none.
    """
    reasons = [judge_address(str(sockaddr[0]), private) for _, sockaddr in addresses]
    allowed = [address for address, reason in zip(addresses, reasons, strict=True) if reason is None]
    if not allowed:
        raise UnreadableError(next(filter(None, reasons), "the host has no address"))
    return allowed


def judge_address(text: str, private: bool) -> str | None:
    """Return why an address must not be asked, in words; None where it may.

    Args:
        text: an IPv4 or IPv6 address as numbers.
        private: whether it may be this machine's or that of a private network.
    """
    address = ipaddress.ip_address(text.partition("%")[0])
    meant: ipaddress.IPv4Address | ipaddress.IPv6Address = address
    if any(address in network for network in _EMBEDDING) and int(address) > 1:
        meant = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    if any(meant in network for network in _NEVER):
        return f"{address} is an address where no server of pictures can be"
    public = meant.version == 4 or meant in _PUBLIC_IPV6
    if private or (public and not any(meant in network for network in _PRIVATE)):
        return None
    return f"redirected to {address}, which is no public address (--allow_private_redirects)"


def _secured(sock: socket.socket, host: str) -> ssl.SSLSocket:
    return _tls().wrap_socket(sock, server_hostname=host, suppress_ragged_eofs=False)


@functools.cache
def _tls() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    # An answer without a length must end as TLS ends, or anyone between could cut it.
    context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
    return context
