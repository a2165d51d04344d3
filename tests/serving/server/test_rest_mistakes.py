"""What clients get wrong over HTTP: each mistake is answered with a line that says what was expected."""

import base64
import json
import zlib

import pytest
from requests_and_answers import png_header
from serving_process import OTHER, TINY, b64
from tiny_classifier import picture

from tests.data.input_pipeline.hostile_images import END, jpeg_of_scans, scan, text_bomb, with_chunks

PHOTO = picture("JPEG", (64, 40), 1)
BASE64 = base64.b64encode(PHOTO).decode()
URL_SAFE = base64.urlsafe_b64encode(PHOTO).decode()
assert {"+", "/", "="} < set(BASE64)
WITHOUT_OBJECT = 'expected {"b64": "..."}, found text'
ONCE = 'which JSON holds as {"b64": "..."}, encoded once'
PIXELS = {"signature_name": "images"}
FIRST_SCAN = scan(3, 0, 0)
MANY_SCANS = jpeg_of_scans((64, 48), FIRST_SCAN, scan() * 99, END)
LARGE_SCANS = jpeg_of_scans((3000, 2000), FIRST_SCAN, scan() * 60, END)
TEXTS = with_chunks(picture("PNG", (9, 9)), middle=text_bomb() * 9)


WRONG = {
    "empty": (b"", "JSON Parse error"),
    "cut": (b'{"instances": [', "JSON Parse error"),
    "no object": ([1], "is not object"),
    "deep": (b'{"instances": ' + b"[" * 100_000, "JSON Parse error"),
    "no keys": ({}, "'inputs' or 'instances'"),
    "both keys": ({"instances": [1], "inputs": [1]}, "'inputs' or 'instances'"),
    "no instances": ({"instances": []}, "one value or more"),
    "no list": ({"instances": 3}, "one value or more"),
    "null": ({"inputs": None}, "'inputs'"),
    "number for text": ({"instances": [7]}, "found a number"),
    "no base64": ({"instances": [{"b64": "%%%"}]}, "no base64"),
    "cut base64": ({"instances": [{"b64": "A"}]}, "no base64"),
    "b64 of a number": ({"instances": [{"b64": 7}]}, "expected a text"),
    "other key": ({"instances": [{"image": "x"}]}, "image_bytes"),
    "mixed rows": ({"instances": [{"image_bytes": "x"}, "x"]}, "element: 1"),
    "nested text": ({"instances": [["x"]]}, "found a list"),
    "unknown input": ({"inputs": {"image_bytes": ["x"], "more": [1]}}, "more"),
    "missing input": ({"inputs": {}}, "Missing named input: image_bytes"),
    "signature": ({"signature_name": "serving", "instances": ["x"]}, "did you mean 'serving_default'"),
    "signature of a number": ({"signature_name": 7, "instances": ["x"]}, "signature_name"),
    "rank": ({**PIXELS, "instances": [[[1, 2, 3]]]}, r"uint8 [?, ?, ?, 3], found uint8 [1, 1, 3]"),
    "channels": ({**PIXELS, "instances": [[[[1, 2]]]]}, "found uint8 [1, 1, 1, 2]"),
    "ragged": ({**PIXELS, "instances": [[[[1, 2, 3]], [[1, 2]]]]}, "differ in length"),
    "range": ({**PIXELS, "instances": [[[[1, 2, 256]]]]}, "256 is no uint8"),
    "fraction": ({**PIXELS, "instances": [[[[1, 2, 0.5]]]]}, "found fractions"),
    "truth": ({**PIXELS, "instances": [[[[True, False, True]]]]}, "found true or false"),
    "huge number": ({**PIXELS, "instances": [[[[1, 2, 10**30]]]]}, "uint8"),
    "a word": ({**PIXELS, "instances": [[[[1, 2, "c"]]]]}, "found text"),
    "nothing": ({**PIXELS, "instances": [[[[1, 2, None]]]]}, "found something else"),
    "deep pixels": ({**PIXELS, "instances": [json.loads("[" * 70 + "]" * 70)]}, "nested too deep"),
    "rather deep pixels": ({**PIXELS, "instances": [json.loads("[" * 40 + "1" + "]" * 40)]}, "found uint8 [1, 1"),
    "words": ({**PIXELS, "instances": [[[["a", "b", "c"]]]]}, "found text"),
    "no pixels": ({**PIXELS, "inputs": [[], []]}, "found uint8 [2, 0]"),
    "empty rows": ({**PIXELS, "inputs": [[[]]]}, "found uint8"),
    "NaN": (b'{"signature_name": "images", "instances": [[[[NaN, 1, 2]]]]}', "JSON Parse error"),
    "more than 100 megapixels": ({"instances": [b64(png_header(10_000, 10_001))]}, "100010000 pixels"),
    "five of 50 megapixels": (
        {"instances": [b64(png_header(7000, 7000))] * 5},
        "images of 245,000,000 pixels in a request: expected at most 200,000,000",
    ),
    "scans": ({"instances": [b64(MANY_SCANS)]}, "an image of more than 64 scans"),
    "texts": ({"instances": [b64(TEXTS)]}, "an image of more than 64,000,000 bytes that compressed texts may become"),
    "many scans in few pixels": (
        {"instances": [b64(LARGE_SCANS)] * 16},
        "nanoseconds to decode in a request: expected at most 5,500,000,000",
    ),
    "bomb": ({"instances": [b64(png_header(60_000, 60_000, zlib.compress(bytes(10**7))))]}, "3600000000 pixels"),
    "base64 alone": ({"instances": [BASE64]}, WITHOUT_OBJECT),
    "base64 alone, by name": ({"instances": [{"image_bytes": BASE64}]}, WITHOUT_OBJECT),
    "base64 alone, in columns": ({"inputs": {"image_bytes": [BASE64]}}, WITHOUT_OBJECT),
    "base64 alone, one column": ({"inputs": [BASE64]}, WITHOUT_OBJECT),
    "base64 alone, another signature": ({"signature_name": "embed", "instances": [BASE64]}, WITHOUT_OBJECT),
    "base64 alone of an example": ({"signature_name": "predict_tf_example", "instances": ["CgA="]}, WITHOUT_OBJECT),
    "base64 alone beside an image": ({"instances": [b64(PHOTO), BASE64]}, WITHOUT_OBJECT),
    "data: URI alone": ({"instances": [f"data:image/jpeg;base64,{BASE64}"]}, WITHOUT_OBJECT),
    "a link": ({"instances": ["https://example.com/a.jpg"]}, WITHOUT_OBJECT),
    "an empty text": ({"instances": [""]}, WITHOUT_OBJECT),
    "data: URI": ({"instances": [{"b64": f"data:image/jpeg;base64,{BASE64}"}]}, "expected what follows its comma"),
    "URL-safe": ({"instances": [{"b64": URL_SAFE}]}, "URL-safe: expected + and /"),
    "URL-safe, no padding": ({"instances": [{"b64": URL_SAFE.rstrip("=")}]}, "URL-safe: expected + and /"),
    "a plus that became a space": ({"instances": [{"b64": BASE64.replace("+", " ")}]}, "a space"),
    "percent signs": ({"instances": [{"b64": BASE64.replace("+", "%2B")}]}, "no base64"),
    "Python's bytes": ({"instances": [{"b64": repr(BASE64.encode())}]}, "no base64"),
    "base64 twice": ({"instances": [b64(BASE64.encode())]}, ONCE),
    "base64 twice, URL-safe": ({"instances": [b64(URL_SAFE.encode())]}, ONCE),
    "base64 twice, in lines": ({"instances": [b64(base64.encodebytes(PHOTO))]}, ONCE),
    "base64 of a data: URI": ({"instances": [b64(f"data:image/jpeg;base64,{BASE64}".encode())]}, ONCE),
    "b64 in b64": ({"instances": [{"b64": {"b64": BASE64}}]}, 'the value of "b64", found an object of b64'),
    "b64 of a list": ({"instances": [{"b64": [BASE64]}]}, 'the value of "b64", found a list'),
    "b64 and more": ({"instances": [{"b64": BASE64, "type": "image/jpeg"}]}, "found an object of b64, type"),
    "B64": ({"instances": [{"B64": BASE64}]}, "found an object of B64"),
    "one object, no list": ({"instances": b64(PHOTO)}, "a list with one value or more, found an object of b64"),
    "base64, no list": ({"instances": BASE64}, "a list with one value or more, found text"),
    "a column, no list": ({"inputs": b64(PHOTO)}, "expected a list, found an object of b64"),
    "a named column, no list": ({"inputs": {"image_bytes": b64(PHOTO)}}, "expected a list, found an object of b64"),
    "rows as columns": ({"inputs": [{"image_bytes": b64(PHOTO)}]}, "found an object of image_bytes"),
    "a list in a row": ({"instances": [[b64(PHOTO)]]}, 'expected {"b64": "..."}, found a list'),
    "pixels for a file": ({"instances": [[[[1, 2, 3]]]]}, 'expected {"b64": "..."}, found a list'),
    "numbers for a file": ({"instances": [list(PHOTO)]}, 'expected {"b64": "..."}, found a list'),
    "null for a file": ({"instances": [None]}, 'expected {"b64": "..."}, found null'),
    "a file for pixels": ({**PIXELS, "instances": [b64(PHOTO)]}, "of type uint8, found objects"),
    "another API": ({"data": [BASE64]}, "one of the two, found 'data'"),
    "rows": ({"instances": [""] * 300}, "300 rows in a request: expected at most 256"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said(client, case):
    body, said = WRONG[case]
    status, answer = client.ask(TINY, body)
    assert status == 400
    assert answer.keys() == {"error"}
    assert said in answer["error"]
    assert "\n" not in answer["error"]


def test_not_finite(client):
    for body in (b'{"inputs": {"x": [1e39], "y": [0]}}', b'{"inputs": {"x": [1e400], "y": [0]}}'):
        assert client.ask(OTHER, body)[0] == 400
    status, answer = client.ask(OTHER, {"inputs": {"x": [3e38], "y": [3e38]}})
    assert (status, "not finite" in answer["error"]) == (400, True)


def test_what_is_not_there_is_said(client):
    body = {"instances": ["x"]}
    for path, code, said in [
        ("/v1/models/nope:predict", 404, "Servable not found for request: Latest(nope); models: tiny, other"),
        ("/v1/models/tiny/versions/9:predict", 404, "Specific(tiny, 9); available: version 1, 2"),
        ("/v1/models/tiny/versions/99999999999999999999:predict", 400, "Failed to convert version"),
        ("/v1/models/tiny/labels/canary:predict", 400, "Unrecognized servable version label: canary"),
        ("/v1/models/tiny:explain", 400, "Malformed request: POST /v1/models/tiny:explain"),
        ("/v1/models/..%2f..%2fetc%2fpasswd:predict", 400, "Malformed request"),
        ("/v1/models/../../etc/passwd:predict", 400, "Malformed request"),
        ("/v1/models/%2e%2e:predict", 404, "Latest(..)"),
        ("/v1/models/t%00iny:predict", 404, "Latest(t"),
        ("/v1/models/tiny/labels/a%00b:predict", 400, "Unrecognized servable version label: a"),
        ("/elsewhere", 404, "/v1/models/NAME"),
    ]:
        status, answer = client.ask(path, body)
        assert (status, answer.keys()) == (code, {"error"}), path
        assert said in answer["error"]
    for path, code in [
        ("/v1/models/nope", 404),
        ("/v1/models/tiny/versions/9", 404),
        ("/v1/models/tiny/versions/9/metadata", 404),
        ("/v1/models/tiny:predict", 400),
        ("/v1/models/", 400),
        ("/v1/models/t%09iny", 404),
        ("/v1/models/t%00iny", 404),
        ("/v1/models/t%00iny/metadata", 404),
    ]:
        status, answer = client.ask(path)
        assert (status, answer.keys()) == (code, {"error"}), path
    assert client.ask("/v1/models/tiny", method="DELETE")[0] == 405


def test_too_large(client):
    status, answer = client.ask(TINY, b" " * 9_000_000)
    assert (status, answer) == (413, {"error": "9000000 bytes in a request: expected at most 2000000"})
    assert client.ask("/healthz")[0] == 200  # on the same connection


EXAMPLES = {
    "base64 alone": (
        [{"image/encoded": BASE64}],
        'Feature: image/encoded of example 0: expected bytes, {"b64": "..."}',
    ),
    "data: URI": ([{"image/encoded": {"b64": f"data:image/jpeg;base64,{BASE64}"}}], "expected what follows its comma"),
    "b64 in b64": ([{"image/encoded": {"b64": {"b64": BASE64}}}], 'the value of "b64", found an object of b64'),
    "base64 twice": ([{"image/encoded": b64(BASE64.encode())}], ONCE),
    "no feature": ([{"image_bytes": b64(PHOTO)}], "example 0: no image that can be read"),
    "a file, no example": ([b64(PHOTO)], 'expected features, as {"image/encoded": {"b64": "..."}}'),
    "no image, after one": ([{"image/encoded": b64(PHOTO)}, {"image/encoded": b64(b"junk")}], "example 1: no image"),
    "an object, no list": ({"image/encoded": b64(PHOTO)}, "a list of one object or more"),
}


@pytest.mark.parametrize("case", EXAMPLES)
def test_what_is_wrong_with_an_example_is_said(client, case):
    examples, said = EXAMPLES[case]
    status, answer = client.ask("/v1/models/tiny:classify", {"signature_name": "classify", "examples": examples})
    assert status == 400
    assert said in answer["error"]


def test_base64_is_forgiven_what_tensorflow_serving_forgives(client):
    _, wanted = client.ask(TINY, {"instances": [{"b64": BASE64}]})
    assert wanted["predictions"][0]["status"] == ""
    lines = base64.encodebytes(PHOTO).decode()
    assert lines.count("\n") > 2
    for written in (
        BASE64.rstrip("="),
        lines,
        lines.replace("\n", "\r\n"),
        lines.replace("\n", "\n    "),
        f" {BASE64} ",
    ):
        assert client.ask(TINY, {"instances": [{"b64": written}]}) == (200, wanted)


def test_text_is_for_inputs_of_text(client):
    """Expect base64 to stay text where a model takes text."""
    status, answer = client.ask(OTHER, {"signature_name": "texts", "instances": [BASE64]})
    assert (status, answer["predictions"][0]["length"]) == (200, len(BASE64))
