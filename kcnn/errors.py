"""Errors that end the program with one line instead of a traceback."""

import difflib
import itertools
from collections.abc import Iterable

# difflib's time grows with the product of the lengths, and a name may come from a client: what is longer than a name
# that a person mistypes is not compared, nor is it shown whole.
LONGEST_NAME = 200
MOST_CHOICES = 2000


class UserError(ValueError):
    """A mistake of the user: one line with what was given, what was expected and the nearest valid choice.

    `main.py` prints the line and exits with status 2; a program that imports kcnn catches it as a `ValueError`.
    """


class RefusedError(Exception):
    """The work is done and a gate refuses its result: one line with the checks that failed, and how to go on.

    `main.py` prints the line and exits with status 1.
    """


def close_names(given: str, choices: Iterable[str], most: int = 3) -> list[str]:
    """Return the choices that are similar to a name, the most similar first; none where the name is no short text."""
    if len(given) > LONGEST_NAME:
        return []
    compared = [name for name in itertools.islice(choices, MOST_CHOICES) if len(name) <= LONGEST_NAME]
    return difflib.get_close_matches(given, compared, n=most, cutoff=0.6)


def shortened(name: str) -> str:
    """Return a name as an error shows it: cut where it is too long."""
    return name if len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME]}... ({len(name)} characters)"


def nearest(given: str, choices: Iterable[str]) -> str:
    """Return the end of an error about a name: "did you mean 'resnet50'?", or all choices when nothing is close."""
    choices = list(choices)
    close = close_names(given[: LONGEST_NAME + 1].lower(), choices)
    if close:
        return "did you mean " + " or ".join(repr(name) for name in close) + "?"
    rest = f" and {len(choices) - MOST_CHOICES} more" if len(choices) > MOST_CHOICES else ""
    return "choose from " + ", ".join(map(shortened, choices[:MOST_CHOICES])) + rest
