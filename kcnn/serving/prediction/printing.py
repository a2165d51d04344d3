"""`python main.py predict`: answers for the images on the command line, as text, JSON Lines or CSV."""

import contextlib
import functools
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from kcnn.data.text_files import decode_lines
from kcnn.errors import UserError
from kcnn.leftovers import is_leftover
from kcnn.progress import bar, hidden
from kcnn.serving.prediction import inputs, urls
from kcnn.serving.prediction.inputs import InputImage, UnreadableError
from kcnn.spreadsheets import csv_line
from kcnn.tables import json_line
from kcnn.terminal import check_output, print_lines

if TYPE_CHECKING:
    from kcnn.serving.prediction.classifier import Classifier, Prediction

FORMATS = ("text", "json", "csv")


def check_arguments(
    pictures: Sequence[str], files_from: str | None, top: int, batch_size: int, allow_urls: bool, private: bool
) -> None:
    """Raise UserError for arguments that make no sense, before anything is loaded."""
    if not pictures and files_from is None:
        raise UserError("predict: expected a model and pictures, as in: predict mobilenetv2 a.jpg dir/")
    for flag, number in (("--top", top), ("--batch_size", batch_size)):
        if number < 1:
            raise UserError(f"{flag} {number}: expected 1 or more")
    if private and not allow_urls:
        raise UserError("--allow_private_redirects: expected with --allow_urls")
    if [*pictures, files_from].count("-") > 1:
        raise UserError("predict: standard input can be read once: expected one - among pictures and --files_from")
    if "-" in pictures and sys.stdin.isatty():
        raise UserError("predict -: standard input is a terminal; expected a picture, as in: predict MODEL - < a.jpg")
    if files_from is not None and files_from != "-":
        if os.path.isdir(files_from):
            raise UserError(f"--files_from {files_from}: a folder; expected a list of pictures")
        if not os.access(files_from, os.R_OK):
            reason = "cannot be read" if os.path.exists(files_from) else "no such file"
            raise UserError(f"--files_from {files_from}: {reason}")
    for name in pictures:
        if inputs.is_url(name) and not allow_urls and not os.path.lexists(name):
            raise UserError(f"predict {name}: a URL; expected a file, or --allow_urls to fetch it")


def print_predictions(
    classifier: "Classifier",
    pictures: Sequence[str],
    *,
    files_from: str | None,
    layout: str,
    top: int,
    batch_size: int,
    allow_urls: bool,
    private_redirects: bool,
) -> int:
    """Print an answer for each picture as soon as there is one, and return how many have none.

    On a terminal, standard error has a progress bar.

    Args:
        classifier: what answers.
        pictures: paths, patterns and URLs; "-" for an encoded picture from standard input.
        files_from: a file with one of these a line, or "-" for standard input; None for no more of them.
        layout: one of FORMATS.
        top: how many classes to name, ≥ 1.
        batch_size: images in one request, ≥ 1.
        allow_urls: whether to fetch URLs.
        private_redirects: as in `urls.fetch_url`.
    """
    header, row = _layouts(layout, min(top, len(classifier.labels)))
    fetch = functools.partial(urls.fetch_url, private_redirects=private_redirects) if allow_urls else None
    failed = total = 0
    shown = contextlib.nullcontext() if sys.stderr.isatty() else hidden()
    with shown, bar(description="Predicting", unit="img", after=1.0) as progress:
        # On one terminal, what is printed must not run into the bar.
        write = progress.write if sys.stdout.isatty() and sys.stderr.isatty() else print_lines
        if not progress.disable and files_from is None:
            threading.Thread(target=_count, args=(pictures, progress), daemon=True).start()
        if header:
            write(header)
        for answer in classifier.stream(read_names(pictures, files_from), batch_size, top=top, fetch=fetch):
            total += 1
            failed += answer.error is not None
            write(row(answer))
            check_output()
            progress.update()
    if failed:
        print_lines(f"{failed} of {total} could not be answered", file=sys.stderr)
    return failed


def _count(pictures: Sequence[str], progress: Any) -> None:
    """Set the total of the progress bar."""
    progress.total = inputs.count_images(pictures)


def read_names(pictures: Sequence[str], files_from: str | None) -> Iterator[str | InputImage]:
    """Yield the pictures, and then those of a list as its lines come; "-" becomes the picture of standard input.

    What systems leave in folders (`kcnn.leftovers`), which a shell's `*` stands for too, is skipped; standard error
    names it.

    Args:
        pictures: as in `print_predictions`, like `files_from`.
        files_from: see there.

    Raises:
        UserError: the list cannot be read.
    """
    for name in filter(_is_picture, pictures):
        yield InputImage("-", _standard_input) if name == "-" else name
    if files_from is None:
        return
    source: Any = 0 if files_from == "-" else files_from
    try:
        with open(source, "rb", closefd=source != 0) as file:
            lines = decode_lines(file, f"--files_from {files_from}")
            names = (name for line in lines if (name := line.rstrip("\r\n")).strip())
            yield from filter(_is_picture, names)
    except OSError as error:
        raise UserError(f"--files_from {files_from}: {error.strerror}") from None


def _is_picture(name: str) -> bool:
    if not is_leftover(os.path.basename(os.path.normpath(name))):
        return True
    print_lines(f"{name}: skipped, as a system left it", file=sys.stderr)
    return False


def _standard_input() -> bytes:
    try:
        content = sys.stdin.buffer.read(inputs.LIMIT + 1)
    except OSError as error:  # of a folder, or of a file that is open for writing alone
        raise UnreadableError(error.strerror or str(error)) from None
    if len(content) > inputs.LIMIT:
        raise UnreadableError(f"more than {inputs.LIMIT >> 20} MiB")
    return content


def _layouts(layout: str, top: int) -> tuple[str, "Callable[[Prediction], str]"]:
    """Return the header, "" for none, and the function that makes a line of an answer."""
    if layout == "json":
        return "", _json
    if layout == "csv":
        places = range(1, top + 1)
        columns = ["file", "error", *(f"{name}_{place}" for place in places for name in ("class", "probability"))]
        return csv_line(columns), functools.partial(_csv_row, top)
    return "", _text


def _json(answer: "Prediction") -> str:
    if answer.error is not None:
        fields: dict[str, Any] = {"file": answer.file, "error": answer.error}
    else:
        fields = {"file": answer.file, "classes": answer.classes, "probabilities": answer.probabilities}
    return json_line(fields)


def _csv_row(top: int, answer: "Prediction") -> str:
    pairs = zip(answer.classes, answer.probabilities, strict=True)
    cells = [cell for label, probability in pairs for cell in (label, f"{probability:.9g}")]
    return csv_line([answer.file, answer.error or "", *cells, *[""] * (2 * top - len(cells))])


def _text(answer: "Prediction") -> str:
    if answer.error is not None:
        return f"{answer.file}: not answered: {answer.error}"
    pairs = zip(answer.classes, answer.probabilities, strict=True)
    return f"{answer.file}: " + ", ".join(f"{label} {probability:.1%}" for label, probability in pairs)
