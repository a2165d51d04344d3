"""The page of labels that look wrong: the pictures, the classes they are labelled as, the classes they look like."""

from collections import Counter
from collections.abc import Mapping, Sequence

from kcnn.data.scan.markup import box, document, figure, number, text
from kcnn.evaluation.label_errors import FOLDS, Audit, LabelError

PICTURES = 96  # in each sheet
_PAIRS = 20  # of classes that are listed
_SHEETS = (
    (True, "wrong", "Look mislabelled", "Another class is far more probable than the one given."),
    (False, "doubted", "Doubtful", "Less sure: hard pictures, or of several things; a look at the first ones may pay."),
)


def pictured_files(errors: Sequence[LabelError]) -> set[str]:
    """Return the files whose pictures the page shows."""
    return {error.filename for wrong, *_ in _SHEETS for error in _sheet(errors, wrong)}


def _sheet(errors: Sequence[LabelError], wrong: bool) -> list[LabelError]:
    return [error for error in errors if error.wrong == wrong][:PICTURES]


def render_label_page(
    name: str, audit: Audit, seen_by: str, errors: Sequence[LabelError], pictures: Mapping[str, bytes]
) -> str:
    """Return the page as HTML.

    Args:
        name: the data set's.
        audit: its figures.
        seen_by: the network that embedded the images, in words.
        errors: the most doubtful first.
        pictures: of the files of `pictured_files(errors)`, as `kcnn.data.scan.thumbnails` makes them.
    """
    wrong = sum(error.wrong for error in errors)
    accuracy = "" if audit.accuracy is None else f" It names {audit.accuracy:.1%} of held-out images as labelled."
    body = [
        f"<h1>{text(name)}: labels</h1>",
        f"<p class=dim>{number(wrong, 'image')} of {audit.images:,} look mislabelled, "
        f"{number(len(errors) - wrong, 'more is', 'more are')} doubtful</p>",
        "<div class=columns>",
        box(
            "How they were found",
            f"<p>A linear classifier, on what {text(seen_by)}, was fitted without a part of the images and asked about "
            f"that part, {FOLDS} parts in turns; copies of a picture stay together.{accuracy} The less it knows, the "
            "more of its doubts are its own.</p>"
            "<p>Nothing was changed. To leave images out, write anything in the column <b>exclude</b> of "
            "label_errors.csv and give the file as --exclude. Of test images judge by the picture alone: without those "
            "that the model gets wrong, it would look better than it is.</p>",
        ),
        box("Given as, and looking like", _pairs(errors)),
        "</div>",
        *(_section(errors, pictures, *sheet) for sheet in _SHEETS),
    ]
    return document(f"{name}: labels", body)


def _pairs(errors: Sequence[LabelError]) -> str:
    counts = Counter((error.given, error.suggested) for error in errors if error.wrong).most_common(_PAIRS)
    rows = [
        f"<tr><td><bdi>{text(given)}</bdi><td><bdi>{text(suggested)}</bdi><td class=number>{count:,}"
        for (given, suggested), count in counts
    ]
    return (
        f"<table><tr><th>given<th>looks like<th class=number>images{''.join(rows)}</table>" if rows else "<p>None.</p>"
    )


def _section(
    errors: Sequence[LabelError], pictures: Mapping[str, bytes], wrong: bool, anchor: str, title: str, reason: str
) -> str:
    count, sheet = sum(error.wrong == wrong for error in errors), _sheet(errors, wrong)
    if not count:
        return ""
    figures = "".join(
        figure(
            pictures.get(error.filename, b""),
            error.split,
            f"<b class=bad><bdi>{text(error.given)}</bdi></b> {error.score:.1%}<br>looks like "
            f"<b><bdi>{text(error.suggested)}</bdi></b> {error.confidence:.1%}<br><bdi>{text(error.filename)}</bdi>",
        )
        for error in sheet
    )
    more = f"; the first {len(sheet):,} of {count:,}" if count > len(sheet) else f"; {count:,}"
    return f"<h2 id={anchor}>{title}{more}</h2><p class=dim>{reason}</p><div class=sheet>{figures}</div>"
