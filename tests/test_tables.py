"""Tables for the terminal: whatever a cell holds, a row is a line."""

from kcnn.tables import aligned, printable


def test_what_a_file_is_called_leaves_the_terminal_alone():
    rows = [("a\nb", "1"), ("\x1b[31mred", "22"), ("caf\udce9 é", "3")]
    assert aligned(rows, right=[1]).split("\n") == [r"a\nb          1", r"\x1b[31mred  22", r"caf\udce9 é   3"]
    assert printable("a\nb\x1b\udce9") == "a\nb\\x1b\\udce9"
