"""Which requests a foreign web page makes.

A browser lets any page that its user visits send requests to this machine and to its network; for a body of text/plain
it does not even ask. It says in `Origin`, or in `Sec-Fetch-Site`, where the page comes from. A page whose name has been
moved to the server's address (DNS rebinding) counts as the server's own; but then its name stands in `Host`.

Source: https://fetch.spec.whatwg.org/#origin-header and https://www.w3.org/TR/fetch-metadata/
"""

import ipaddress
import socket
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from kcnn.serving.server.settings import Settings

_LONGEST = 100  # characters of a header in an answer
_LET_THEM = (
    "start the server with --allowed_hosts=NAME for the pages of a name, "
    "with --rest_api_enable_cors_support for those of all"
)


def refusal(headers: Headers, settings: Settings) -> str | None:
    """Return why a request is refused, or None for one that is answered.

    Programs that are no browsers send no `Origin`. Where other machines may ask, they do so by names that the server
    cannot know; there `Host` is judged for browsers alone.
    """
    host, origins = headers.get("host", "").lower(), headers.getlist("origin")
    any_origin = settings.rest_api_enable_cors_support
    judged = _is_loopback(settings.host) or (origins and not any_origin)
    if host and judged and not _is_known(_without_port(host), settings):
        return (
            f"Host {host[:_LONGEST]!r} is not allowed: ask by the server's address, "
            f"or start it with --allowed_hosts={_without_port(host)[:_LONGEST]}"
        )
    if any_origin:
        return None
    for origin in origins:
        asking = _netloc(origin)
        if asking != host and _without_port(asking) not in settings.hosts:
            return f"pages of {origin[:_LONGEST]!r} are not allowed to ask: {_LET_THEM}"
    site, mode = headers.get("sec-fetch-site", ""), headers.get("sec-fetch-mode", "")
    if not origins and site in ("cross-site", "same-site") and mode != "navigate":
        return f"pages of another origin are not allowed to ask: {_LET_THEM}"
    return None


def _netloc(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _without_port(netloc: str) -> str:
    """Return the name or address of NAME:PORT or [ADDRESS]:PORT."""
    if netloc.startswith("["):
        return netloc[1:].partition("]")[0]
    return netloc.partition(":")[0].removesuffix(".")


def _is_known(name: str, settings: Settings) -> bool:
    if name in settings.hosts or "*" in settings.hosts or name == settings.host.lower():
        return True
    if _is_loopback(settings.host):
        return _is_loopback(name)
    machine = socket.gethostname().lower()
    short = machine.partition(".")[0]
    # Nobody can move an address elsewhere, as a name.
    return _is_loopback(name) or _address(name) is not None or name in (machine, short, f"{short}.local")


def _is_loopback(name: str) -> bool:
    address = _address(name)
    return address.is_loopback if address else name == "localhost" or name.endswith(".localhost")


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None
