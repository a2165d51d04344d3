"""JSON of any size, built in pieces: the other requests wait for no more than the building of one.

While orjson builds lists and objects, no other thread runs, and 16 MB of JSON can stand for millions of them. So what
a text will become is counted first, by its structural characters. A large text is cut at its own commas into pieces of
a few milliseconds. Lists of numbers become arrays at once, so that millions of objects are never there together.
"""

import codecs
from typing import Any

import numpy as np
import orjson

from kcnn.serving.server.status import invalid

PIECE = 2**15  # structural characters that are built in about three milliseconds
MOST_MARKS = (
    2**23
)  # structural characters of a body: 16 MiB of pixels as numbers have fewer, and anything else far fewer
MOST_KEPT = 2**18  # of them, those outside lists of numbers
_DEEPEST = 64  # levels of lists and objects in a large text; numpy knows no more
_BLOCK = 2**20  # bytes that are looked through at once
_OPEN, _CLOSE, _COMMA, _COLON, _QUOTE, _ESCAPE = range(1, 7)
_KINDS = np.zeros(256, np.uint8)
for _kind, _characters in ((_OPEN, b"[{"), (_CLOSE, b"]}"), (_COMMA, b","), (_COLON, b":"), (_QUOTE, b'"')):
    _KINDS[list(_characters)] = _kind
_KINDS[ord("\\")] = _ESCAPE
_DEPTHS = np.array([0, 1, -1, 0, 0, 0, 0], np.int8)
_ENDS = {ord("["): ord("]"), ord("{"): ord("}")}


class JsonError(ValueError):
    """No JSON; the message says where."""


def count_marks(text: bytes | bytearray) -> int:
    """Return how many structural characters a text has, those within strings among them."""
    return sum(text.count(mark) for mark in (b"[", b"{", b"]", b"}", b",", b":"))


def parse_json(text: bytes | bytearray) -> Any:
    """Return what the text says; in a large one, lists of numbers are arrays of int64, uint64, float64 or bool.

    Raises:
        JsonError: it is no JSON.
        StatusError: INVALID_ARGUMENT: it has too many values.
    """
    if text.startswith(codecs.BOM_UTF8):  # TensorFlow Serving takes it too
        text = text[len(codecs.BOM_UTF8) :]
    marks = count_marks(text)
    if marks <= PIECE:
        return _load(text, 0)
    if marks > MOST_MARKS:
        raise _too_many(MOST_MARKS)
    return _Cut(text, marks).build()


def _too_many(most: int) -> Exception:
    return invalid(f'too many values in a request: expected fewer than {most}, with images as files in {{"b64": ...}}')


def _load(text: bytes | bytearray | memoryview, offset: int) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise JsonError(f"{error.msg}: line {error.lineno} column {error.colno} (char {offset + error.pos})") from None


class _Cut:
    """A text, with the places, kinds and depths of its structural characters."""

    def __init__(self, text: bytes | bytearray, marks: int):
        self._text = text
        self._places, self._kinds, self._depths = _structure(text, marks)
        self._kept = 0

    def build(self) -> Any:
        """Return what the whole text says."""
        self._expect_blank(-1, 0)
        self._expect_blank(len(self._places) - 1, len(self._places))
        return self._container(0, len(self._places) - 1)

    def _place(self, mark: int) -> int:
        if mark < 0:
            return -1
        return int(self._places[mark]) if mark < len(self._places) else len(self._text)

    def _expect_blank(self, before: int, after: int) -> None:
        """Raise JsonError for anything between two marks."""
        start = self._place(before) + 1
        if bytes(self._text[start : self._place(after)]).strip(b" \t\r\n"):
            raise JsonError(f"unexpected content: char {start}")

    def _container(self, first: int, last: int) -> Any:
        """Return the list or object from the mark that opens it to the mark that closes it."""
        start, end = self._place(first), self._place(last)
        if last - first <= PIECE:
            return self._kept_or_numbers(_load(memoryview(self._text)[start : end + 1], start), last - first)
        if _ENDS.get(self._text[start]) != self._text[end]:
            raise JsonError(f"unexpected character: char {end}")
        named, depth = self._text[start] == ord("{"), int(self._depths[first])
        parts, at = [], first
        while at < last:
            commas = self._commas(at + 1, min(at + 1 + PIECE, last), depth)
            then = last if last - at <= PIECE else commas[-1] if len(commas) else None
            if then is not None:
                parts.append(self._children(at, then, start, end))
            else:
                then = self._next_comma(at + 1 + PIECE, last, depth)
                parts.append(self._large_child(at, then, named))
            at = then
        return _merged(parts) if named else _joined(parts)

    def _commas(self, start: int, end: int, depth: int) -> list[int]:
        """Return the commas of a depth, of a few thousand marks."""
        found = (self._kinds[start:end] == _COMMA) & (self._depths[start:end] == depth)
        return (start + np.flatnonzero(found)).tolist()

    def _next_comma(self, start: int, last: int, depth: int) -> int:
        """Return the first comma of a depth, or the last mark."""
        for begin in range(start, last, PIECE):
            if found := self._commas(begin, min(begin + PIECE, last), depth):
                return found[0]
        return last

    def _children(self, before: int, after: int, start: int, end: int) -> Any:
        """Return the children between two marks, as a list or object of their own."""
        content = self._text[self._place(before) + 1 : self._place(after)]
        if not content.strip(b" \t\r\n"):
            raise JsonError(f"unexpected character: char {self._place(after)}")
        whole = self._text[start : start + 1] + content + self._text[end : end + 1]
        return self._kept_or_numbers(_load(whole, self._place(before)), after - before)

    def _large_child(self, before: int, after: int, named: bool) -> Any:
        """Return a list or object between two marks that is too large for one piece, in a list or object of its own."""
        first = before + 1 + named
        if (named and self._kinds[before + 1] != _COLON) or self._kinds[first] != _OPEN:
            raise JsonError(f"unexpected character: char {self._place(before + 1)}")
        self._expect_blank(first - 1, first)
        self._expect_blank(after - 1, after)
        if not named:
            value = self._container(first, after - 1)
            return value[None] if isinstance(value, np.ndarray) else [value]
        start = self._place(before) + 1
        name = _load(memoryview(self._text)[start : self._place(first - 1)], start)
        if not isinstance(name, str):
            raise JsonError(f"unexpected character: char {start}")
        return {name: self._container(first, after - 1)}

    def _kept_or_numbers(self, value: Any, marks: int) -> Any:
        found, numbers = _as_numbers(value)
        self._kept += max(0, marks - 2 * numbers)
        if self._kept > MOST_KEPT:
            raise _too_many(MOST_KEPT)
        return found


def _structure(text: bytes | bytearray, most: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the places, kinds and depths of the structural characters that stand outside strings.

    Raises:
        JsonError: they do not match.
    """
    whole, quoted, escaped, depth, count = np.frombuffer(text, np.uint8), False, False, 0, 0
    places, found, depths = np.empty(most, np.uint32), np.empty(most, np.uint8), np.empty(most, np.uint8)
    for start in range(0, len(whole), _BLOCK):
        kinds = _KINDS[whole[start : start + _BLOCK]]
        at = np.flatnonzero(kinds)
        size, kinds = len(kinds), kinds[at]
        escaped = _drop_escaped(at, kinds, size, escaped)
        inside = (np.cumsum(kinds == _QUOTE, dtype=np.uint8) & 1).astype(bool) ^ quoted
        quoted = bool(inside[-1]) if len(inside) else quoted
        kept = ~inside & (kinds >= _OPEN) & (kinds <= _COLON)
        kinds = kinds[kept]
        if not len(kinds):
            continue
        if count and depth == 0:
            raise JsonError("it goes on behind its end")
        levels = depth + np.cumsum(_DEPTHS[kinds], dtype=np.int32)
        if levels[:-1].min(initial=1) < 1 or levels[-1] < 0:
            raise JsonError("its brackets do not match")
        if levels.max() > _DEEPEST:
            raise JsonError(f"its lists are nested too deep: expected at most {_DEEPEST} levels")
        depth, part = int(levels[-1]), slice(count, count + len(kinds))
        places[part], found[part], depths[part] = at[kept] + start, kinds, levels
        count = part.stop
    if not count or depth:
        raise JsonError("its brackets do not match")
    return places[:count], found[:count], depths[:count]


def _drop_escaped(at: np.ndarray, kinds: np.ndarray, size: int, escaped: bool) -> bool:
    """Take the escaped quotes out of a block's kinds; return whether the block ends with half an escape.

    Of a run of backslashes, every second is escaped by the one before it.
    """
    if escaped and len(at) and at[0] == 0 and kinds[0] == _QUOTE:
        kinds[0] = 0
    marks = np.flatnonzero(kinds == _ESCAPE)
    if not len(marks):
        return False
    begins = np.diff(at[marks], prepend=-2) != 1
    order = np.arange(len(marks))
    order -= np.maximum.accumulate(np.where(begins, order, 0))
    if escaped and at[marks[0]] == 0:
        order[np.cumsum(begins) == 1] += 1
    escaping = marks[order % 2 == 0]
    after = escaping[escaping + 1 < len(at)] + 1
    kinds[after[(at[after] == at[after - 1] + 1) & (kinds[after] == _QUOTE)]] = 0
    return bool(len(escaping)) and int(at[escaping[-1]]) == size - 1


def _as_numbers(value: Any) -> tuple[Any, int]:
    """Return the value with its regular lists of numbers as arrays, and how many numbers these have."""
    if isinstance(value, dict):
        numbers = 0
        for key, one in value.items():
            if isinstance(one, dict | list):
                value[key], found = _as_numbers(one)
                numbers += found
        return value, numbers
    if not value or isinstance(value[0], str):
        return value, 0
    if isinstance(value[0], dict):
        pairs = [_as_numbers(one) if isinstance(one, dict | list) else (one, 0) for one in value]
        return [one for one, _ in pairs], sum(count for _, count in pairs)
    try:
        array = np.array(value, dtype=object)
    except ValueError:  # lists of different lengths, or nested too deep
        return value, 0
    kinds = set(map(type, array.ravel().flat))
    if kinds <= {int}:
        try:
            return array.astype(np.int64), array.size
        except OverflowError:
            return array.astype(np.uint64 if array.min() >= 0 else np.float64), array.size
    if kinds <= {int, float}:
        return array.astype(np.float64), array.size
    return (array.astype(bool), array.size) if kinds == {bool} else (value, 0)


def _merged(parts: list[dict[str, Any]]) -> dict[str, Any]:
    return {key: value for part in parts for key, value in part.items()}


def _joined(parts: list[Any]) -> Any:
    """Return the parts of a list as one: an array where they are arrays."""
    arrays = [part for part in parts if isinstance(part, np.ndarray)]
    if not arrays:
        return [one for part in parts for one in part]
    kinds = {part.dtype == bool for part in arrays if part.size}
    if len(arrays) < len(parts) or len({part.shape[1:] for part in arrays}) > 1 or len(kinds) > 1:
        raise invalid("a list of numbers: its lists differ in length, or it holds other things too")
    joined = np.empty((sum(map(len, arrays)), *arrays[0].shape[1:]), np.result_type(*{part.dtype for part in arrays}))
    start = 0
    for part in arrays:  # numpy would join them in one long step
        joined[start : start + len(part)] = part
        start += len(part)
    return joined
