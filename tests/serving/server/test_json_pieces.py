"""Large JSON, built in pieces, against orjson; and texts made to become millions of objects."""

import json
import random

import numpy as np
import orjson
import pytest

from kcnn.serving.server import json_pieces
from kcnn.serving.server.json_pieces import MOST_KEPT, MOST_MARKS, JsonError, parse_json
from kcnn.serving.server.rest_bodies import serialize_example
from kcnn.serving.server.runtime import ArraySpec
from kcnn.serving.server.status import StatusError
from kcnn.serving.server.tensors import json_to_array


def plain(value):
    """Return the value with lists in the place of arrays."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    return [plain(one) for one in value] if isinstance(value, list) else value


def made(chance, depth=0):
    """Return a value of JSON by chance."""
    kind = chance.randrange(9 if depth < 3 else 4)
    if kind == 0:
        return chance.choice([1, 2**40, 2**63, -5, 1.5, True, None])
    if kind == 1:
        return "".join(chance.choice('ab"\\,[]{}:é/\n') for _ in range(chance.randrange(8)))
    if kind == 2:
        return [chance.randrange(9) for _ in range(chance.randrange(30))]
    if kind == 3:
        return [[chance.randrange(9) for _ in range(3)] for _ in range(chance.randrange(20))]
    if kind < 7:
        return [made(chance, depth + 1) for _ in range(chance.randrange(9))]
    return {f'k"{chance.randrange(99)}': made(chance, depth + 1) for _ in range(chance.randrange(7))}


def test_pieces_say_what_the_whole_says(monkeypatch):
    """Expect that of sound texts and of damaged ones, with pieces so small that every text is cut."""
    monkeypatch.setattr(json_pieces, "PIECE", 6)
    monkeypatch.setattr(json_pieces, "_BLOCK", 23)
    chance, outcomes = random.Random(1), {True: 0, False: 0, None: 0}
    for _ in range(1500):
        value = {"instances": made(chance), "more": made(chance)}
        text = bytearray(
            json.dumps(value, ensure_ascii=chance.random() < 0.5, indent=chance.choice([None, 1])).encode()
        )
        for _ in range(chance.choice([0, 0, 1, 2])):
            at = chance.randrange(len(text))
            text[at : at + 1] = chance.choice([b"", b"[", b"]", b"{", b"}", b",", b":", b'"', b"\\", b"1", b" "])
        try:
            expected = orjson.loads(text)
        except ValueError:
            expected = None
        try:
            found = plain(parse_json(text))
        except JsonError:
            found = None
        except StatusError as error:
            assert "a list of numbers: its lists differ in length, or it holds other things" in error.message  # noqa: PT017
            outcomes[None] += 1
            continue
        assert found == expected
        outcomes[found is not None] += 1
    assert min(outcomes.values()) > 50


def test_pixels_of_megabytes_are_arrays():
    pixels = np.random.default_rng(0).integers(0, 256, (3, 120, 130, 3))
    spec = ArraySpec(np.dtype(np.uint8), (None, None, None, 3))
    for value in (pixels.tolist(), pixels[:1].tolist()):
        parsed = parse_json(json.dumps({"instances": value, "signature_name": "images"}).encode())
        assert parsed["signature_name"] == "images"
        array = json_to_array(parsed["instances"], spec, "images")
        assert array.dtype == np.uint8
        np.testing.assert_array_equal(array, value)
    rows = parse_json(json.dumps({"instances": [{"images": one} for one in pixels.tolist()]}).encode())["instances"]
    np.testing.assert_array_equal(json_to_array([row["images"] for row in rows], spec, "images"), pixels)
    for value, said in ((256, "256 is no uint8"), (-1, "-1 is no uint8"), (0.5, "found fractions")):
        changed = pixels.tolist()
        changed[2][7][9][1] = value
        with pytest.raises(StatusError, match=said):
            json_to_array(parse_json(json.dumps([changed]).encode())[0], spec, "images")
    for value in ("x", True, [1]):
        changed[2][7][9][1] = value
        with pytest.raises(StatusError, match="its lists differ in length, or"):
            json_to_array(parse_json(json.dumps(changed).encode()), spec, "images")
    with pytest.raises(StatusError, match="found numbers"):
        json_to_array(parse_json(json.dumps(pixels.tolist()).encode()), ArraySpec(np.dtype(object), (None,)), "x")


def test_features_of_many_numbers():
    values = {"a": list(range(40_000)), "b": [0.5] * 40_000, "c": 1}
    parsed = parse_json(json.dumps({"examples": [values]}).encode())
    assert serialize_example(parsed["examples"][0], "it") == serialize_example(values, "it")
    for wrong in ([[1, 2]] * 40_000, [2**63] * 80_000):
        with pytest.raises(StatusError, match="a of it"):
            serialize_example(parse_json(json.dumps({"a": wrong}).encode()), "it")


@pytest.mark.parametrize("part", [b"[],", b"{},", b'"",', b'{"a":1},', b"[[[]]],", b'{"b64":""},', b"null,", b'["a"],'])
def test_what_would_become_very_many_objects_is_refused(part):
    for size in (2**21, 2**24):
        with pytest.raises(StatusError, match="too many values in a request"):
            parse_json(b'{"instances": [' + part * (size // len(part)) + b"1]}")


def test_the_limits_on_values():
    pixels = b"[1,2,3]," * (MOST_MARKS // 5 - 1000)
    assert parse_json(b"[" + pixels + b"[4,5,6]]").shape == (MOST_MARKS // 5 - 999, 3)
    with pytest.raises(StatusError, match=f"fewer than {MOST_MARKS}"):
        parse_json(b"[" + pixels * 2 + b"[4,5,6]]")
    texts = b'"a",' * (MOST_KEPT - 10)
    assert len(parse_json(b"[" + texts + b'"b"]')) == MOST_KEPT - 9
    with pytest.raises(StatusError, match=f"fewer than {MOST_KEPT}"):
        parse_json(b"[" + texts * 2 + b'"b"]')
    for deep in (b"[" * 40_000, b"[" * 40_000 + b"]" * 40_000, b'{"a":' * 40_000, b"]" * 40_000, b"," * 40_000):
        with pytest.raises(JsonError):
            parse_json(deep)
