"""CSV for spreadsheets: no text is a formula, and all of it can be read back."""

import csv

import pytest

from kcnn.spreadsheets import csv_line, unmarked, write_csv

SIGNS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
FORMULAS = [*(f"{sign}1+1" for sign in SIGNS), "=cmd|' /C calc'!A0"]
OTHERS = ["a=1", "'a'", "''", "", "a\nb", '"', "é", " =1", "-", "'-"]


@pytest.mark.parametrize("text", [*FORMULAS, *(f"'{text}" for text in FORMULAS), *OTHERS])
def test_a_text_is_no_formula_and_comes_back(tmp_path, text):
    write_csv(tmp_path / "a.csv", ["name", text], [[text, -1.5], ["last", None]])
    with (tmp_path / "a.csv").open(encoding="utf-8", newline="") as file:
        (_, title), (cell, number), last = csv.reader(file)
    assert len(cell) < 2 or not cell.startswith(SIGNS)
    assert title == cell
    assert unmarked(cell) == text
    assert (number, last) == ("-1.5", ["last", ""])


def test_numbers_in_words_stay_numbers():
    assert csv_line(["-1.5", "+3e-4", "1", "-a"]) == "-1.5,+3e-4,1,'-a"


def test_a_row_for_the_terminal_is_one_line():
    line = csv_line(["a\nb\r\x1b[2J.jpg", 'say "hi", you', "\t=1", "@b"])
    assert line.isprintable()
    assert next(csv.reader([line])) == [r"a\nb\r\x1b[2J.jpg", 'say "hi", you', r"\t=1", "'@b"]


def test_bytes_that_are_no_utf_8_come_out_as_they_came_in(tmp_path):
    write_csv(tmp_path / "a.csv", ["name"], [["caf\udce9"]])
    assert (tmp_path / "a.csv").read_bytes() == b"name\r\ncaf\xe9\r\n"
