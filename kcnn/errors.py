"""Errors that end the program with one line instead of a traceback."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """A mistake of the user: one line with what was given, what was expected and the nearest valid choice.

    `main.py` prints the line and exits with status 2; a program that imports kcnn catches it as a `ValueError`.
    """


class RefusedError(Exception):
    """The work is done and a gate refuses its result: one line with the checks that failed, and how to go on.

    `main.py` prints the line and exits with status 1.
    """


def nearest(given: str, choices: Iterable[str]) -> str:
    """Return the end of an error about a name: "did you mean 'resnet50'?", or all choices when nothing is close."""
    choices = list(choices)
    close = difflib.get_close_matches(given.lower(), choices, n=3, cutoff=0.6)
    if close:
        return "did you mean " + " or ".join(repr(name) for name in close) + "?"
    return "choose from " + ", ".join(choices)
