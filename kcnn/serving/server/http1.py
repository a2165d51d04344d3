"""HTTP/1.1 of which no part takes the event loop long, however it is cut.

h11 reads a body chunk by chunk and a header line by line, in Python: 16 MB in chunks of a byte would take it minutes.
"""

import h11

SLICE = 2**14  # bytes that are read at once; h11 refuses a header of more that is not complete
FREE_CHUNKS = 256  # of a body, of any size
CHUNK_BYTES = 256  # that each further chunk has on average


class BoundedHttp1(h11.Connection):
    """The protocol's state on the side of a server. A request with more small chunks than it may have is refused."""

    def __init__(self) -> None:
        super().__init__(h11.SERVER, SLICE)
        self._chunks = self._bytes = 0

    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        """Return the next event, as h11 does.

        Raises:
            h11.RemoteProtocolError: what came is no HTTP, or its chunks are too small.
        """
        event = super().next_event()
        if isinstance(event, h11.Request):
            self._chunks = self._bytes = 0
        elif isinstance(event, h11.Data):
            self._chunks += event.chunk_start
            self._bytes += len(event.data)
            if self._chunks > FREE_CHUNKS + self._bytes // CHUNK_BYTES:
                raise h11.RemoteProtocolError(f"{self._chunks} chunks for {self._bytes} bytes")
        return event
