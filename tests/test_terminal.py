"""Lines for the terminal: whatever a text holds, it is one line and does nothing."""

import ast
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kcnn.terminal import GuardedStream, one_line, print_lines

ROOT = Path(__file__).parent.parent
SOURCES = [*ROOT.glob("kcnn/**/*.py"), *ROOT.glob("pipelines/**/*.py")]
ACTING = [
    *("\x1b[2J\x1b[31m", "\x1b]0;title\x07", "\x9b31m", "\x9d0;title\x9c", "\b\b\b", "\r", "\n", "\r\n", "\v\f", "\0"),
    *("\x7f", "\x85", "\u2028\u2029", "\u202e", "\u2066\u2069", "\u200e\u200f", "\u061c", "\ufeff", "\u200b", "\xad"),
    *("\ufff9", "\U000e0041", "\udcff", "\ue000", "\x0e"),
]


@pytest.mark.parametrize("acting", ACTING, ids=ascii)
def test_what_acts_on_a_terminal_is_escaped(acting):
    stream = io.StringIO()
    print_lines(f"a{acting}b", "c", file=stream)
    first, *rest = stream.getvalue().split("\n")
    assert rest == ["c", ""]
    assert first == "a" + acting.encode("unicode_escape").decode() + "b"
    assert first.isprintable()


PLAIN = ["café 日本語 🦊", "Aufnahme um 9.41\u202fUhr", "a\xa0b", "\u0645\u06cc\u200c\u062e", "👩\u200d🔬", r"a\nb"]


@pytest.mark.parametrize("text", PLAIN)
def test_what_people_write_stays_as_it_is(text):
    assert one_line(text) == text


@pytest.mark.parametrize("acting", ACTING, ids=ascii)
def test_a_guarded_stream_escapes_what_libraries_print(acting):
    below = io.StringIO()
    stream = GuardedStream(below)
    print(f"a{acting}b\tc", file=stream)
    stream.writelines([f"{acting}\n"])
    assert all(sign.isprintable() or sign in "\n\t" for sign in below.getvalue())
    assert stream.write("abc") == 3


def run_guarded(code, **options):
    """Run Python code in a process whose streams are guarded."""
    code = f"from kcnn.terminal import *\nguard_streams()\n{code}"
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, text=True, check=False, **options)


def test_warnings_logs_and_tracebacks_are_escaped():
    code = (
        "import logging, sys, warnings\n"
        r"evil = '\x1b[2J\x9b\u202e'" + "\n"
        "warnings.warn(evil)\nlogging.warning(evil)\nsys.stdout.write(evil)\nraise ValueError(evil)"
    )
    done = run_guarded(code, capture_output=True)
    assert done.stderr.count(r"\x1b[2J\x9b\u202e") >= 3
    assert done.stdout == r"\x1b[2J\x9b\u202e"
    assert all(sign.isprintable() or sign == "\n" for sign in done.stderr)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_what_cannot_be_written_is_told_once():
    code = "import sys\nfor _ in range(9): print_lines('a', file=sys.stderr); print_lines('b')\ncheck_output()"
    with open("/dev/full", "w") as full:
        done = run_guarded(code, stdout=full, stderr=subprocess.PIPE)
        assert done.stderr.endswith("kcnn.errors.UserError: standard output: No space left on device\n")
        assert done.stderr.count("No space left") == 1
        done = run_guarded(code, stdout=subprocess.PIPE, stderr=full)
    assert done.returncode == 0
    assert done.stdout == "b\n" * 9


def names(tree):
    """Yield the dotted names that a file uses."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute):
            yield ast.unparse(node)


def test_all_is_printed_and_written_in_one_place():
    """Else a place is forgotten where a file's name forges a line, or a class's name runs in a spreadsheet."""
    only = {
        "print": ("terminal.py",),
        "sys.stdout.write": ("terminal.py",),
        "sys.stderr.write": ("terminal.py",),
        "csv.writer": ("spreadsheets.py",),
        "csv.DictWriter": ("spreadsheets.py",),
    }
    clients = ROOT / "kcnn/serving/publishing/bundle_files"  # run without this program
    for path in SOURCES:
        used = set(names(ast.parse(path.read_text(encoding="utf-8")))) if path.parent != clients else set()
        assert not [name for name in used & only.keys() if path.name not in only[name]], path
