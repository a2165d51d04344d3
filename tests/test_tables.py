"""Tables for the terminal: whatever a cell holds, a row is a line."""

import io
import json
import sys

import pytest

from kcnn.tables import aligned, json_document, json_line


def test_what_a_file_is_called_leaves_the_terminal_alone():
    rows = [("a\nb", "1"), ("\x1b[31mred", "22"), ("caf\udce9 é", "3")]
    assert aligned(rows, right=[1]) == [r"a\nb          1", r"\x1b[31mred  22", r"caf\udce9 é   3"]


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_a_line_of_json_is_json_in_every_encoding(encoding, monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding, errors="backslashreplace"))
    print(json_line({"file": "café 🦊"}), flush=True)
    assert json.loads(written.getvalue()) == {"file": "café 🦊"}
    assert ("é".encode() in written.getvalue()) == (encoding == "utf-8")


def test_json_is_escaped_by_its_own_rules():
    value = {"a\x9b31m": ["\x7f\u202e\u2028", "é 🦊\u200d", "\udcff", "\U000e0041"]}
    for line in (json_line(value), *json_document(value)):
        assert set(filter(str.isprintable, line)) | {"\u200d"} >= set(line)
    assert json.loads(json_line(value)) == json.loads("\n".join(json_document(value))) == value
    assert "é 🦊" in json_line(value)
