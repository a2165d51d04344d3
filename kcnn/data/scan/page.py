"""The page that shows what a data set is like: figures on one screen, then a sheet of pictures for every finding."""

from collections.abc import Mapping, Sequence

from tensorflow_metadata.proto.v0 import statistics_pb2

from kcnn.data.ingestion.summary import Summary
from kcnn.data.scan.checks import CHECKS, ImageCheck
from kcnn.data.scan.findings import COPIES, CopyRelation, Finding, Scan
from kcnn.data.scan.markup import box, bullets, document, figure, number, text

PICTURES = 48  # of a sheet
_COPIES_SHOWN = 6  # of a group
_EXCLUDED = 200  # names that are listed
_HOW = {
    "identical": "the same file, byte for byte",
    "alike": "the same picture",
    "mirrored": "the same picture, mirrored",
    "turned": "the same picture, turned or flipped",
}
_USE = (
    "<p>The findings exclude nothing. They are in the folder <b>ImageScan/findings</b> of the pipeline root, under the "
    "number that the command printed:</p>"
    "<p><b>exclusions.csv</b> has an image a row; copies have the number of their group on this page. To leave images "
    "out, write anything in the last column, <b>exclude</b>, and pass the file as --exclude, here and in training. For "
    "a leak, leave out the copy in train: then test stays the same. No file is deleted.</p>"
    "<p><b>findings.jsonl</b> has a finding a line, for programs.</p>"
)
_MEASURED = {
    "image/width": "width",
    "image/height": "height",
    "image/aspect": "aspect",
    "image/bytes": "bytes",
    "image/brightness": "brightness",
    "image/sharpness": "sharpness",
}


def render_data_page(
    name: str,
    summary: Summary,
    statistics: Mapping[str, statistics_pb2.DatasetFeatureStatistics],
    anomalies: Sequence[str],
    scan: Scan,
    pictures: Mapping[str, bytes],
) -> str:
    """Return the HTML of a data set's page.

    Args:
        name: the data set's name.
        summary: the outcome of its ingestion.
        statistics: split → statistics of its images.
        anomalies: a line each.
        scan: the findings.
        pictures: thumbnails (`kcnn.data.scan.thumbnails`) of `pictured_files(scan)`, by filename.
    """
    total = sum(map(summary.total, summary.counts))
    body = [
        f"<h1>{text(name)}</h1>",
        f"<p class=dim>{number(total, 'image')} in {number(len(summary.labels), 'class', 'classes')}, "
        f"{number(len(summary.excluded), 'file')} excluded</p>",
        "<div class=columns>",
        box("Findings", _overview(scan)),
        box("Images", _counts(summary)),
        box("Sizes and looks", _sizes(statistics)),
        box("Anomalies", bullets(anomalies) or "<p>None: the splits are alike and as the schema says.</p>"),
        *([box("Warnings", bullets(summary.warnings))] if summary.warnings else []),
        box("Excluded files", _excluded(summary.excluded)),
        *([box("What to do with what was found", _USE)] if any(finding.splits for finding in scan.findings) else []),
        "</div>",
        *(_section(scan, kind, pictures) for kind in (*COPIES, *CHECKS)),
    ]
    return document(name, body)


def pictured_files(scan: Scan) -> set[str]:
    """Return the filenames of the images that the page shows."""
    return {name for kind in (*COPIES, *CHECKS) for finding in _sheet(scan, kind) for name in _shown_names(finding)}


def _sheet(scan: Scan, kind: ImageCheck | CopyRelation) -> list[Finding]:
    """Return the worst findings of a kind, as many as make a sheet."""
    sheet: list[Finding] = []
    for finding in scan.findings:
        if finding.finding == kind.name and sum(len(_shown_names(one)) for one in [*sheet, finding]) <= PICTURES:
            sheet.append(finding)
    return sheet


def _shown_names(finding: Finding) -> tuple[str, ...]:
    return finding.filenames[:_COPIES_SHOWN]


def _overview(scan: Scan) -> str:
    rows = []
    for kind in (*COPIES, *CHECKS):
        count = sum(finding.finding == kind.name for finding in scan.findings)
        title = text(kind.title)
        if kind.name in scan.usual:
            share = f"{scan.usual[kind.name]:,} of {scan.images:,}, as is usual here"
            rows.append(f"<tr><td>{title}<td class=number>{share}")
        elif count:
            unit = "group" if isinstance(kind, CopyRelation) else "image"
            rows.append(f"<tr><td><a href='#{kind.name}'>{title}</a><td class='number bad'>{number(count, unit)}")
    found = {finding.finding for finding in scan.findings} | set(scan.usual)
    clean = [kind.title.partition(":")[0].lower() for kind in (*COPIES, *CHECKS) if kind.name not in found]
    none = f"<p class=dim>No image: {text(', '.join(clean))}.</p>" if clean else ""
    return f"<table>{''.join(rows)}</table>{none}"


def _counts(summary: Summary) -> str:
    splits = list(summary.counts)
    most = max(sum(summary.counts[split][label] for split in splits) for label in summary.labels)
    keys = "".join(f"<span class='key {text(s)}'></span>{text(s)} {summary.total(s):,}" for s in splits)
    rows = []
    for label in summary.labels:
        counts = [summary.counts[split][label] for split in splits]
        bars = "".join(
            f"<span class={text(split)} style='width:{100 * count / most:.2f}%'></span>"
            for split, count in zip(splits, counts, strict=True)
        )
        rows.append(
            f"<tr><td><bdi>{text(label)}</bdi><td class=bars><div class=bar>{bars}</div>"
            f"<td class=number>{' / '.join(f'{count:,}' for count in counts)}"
        )
    return f"<p>{keys}</p><table>{''.join(rows)}</table>"


def _sizes(statistics: Mapping[str, statistics_pb2.DatasetFeatureStatistics]) -> str:
    """Return a table of the least, median and greatest values of each split."""
    present = {split: part for split, part in statistics.items() if part.num_examples}
    head = "".join(f"<th class=number>{text(split)}" for split in present)
    features = {split: {one.path.step[0]: one for one in part.features} for split, part in present.items()}
    rows = []
    for name, title in _MEASURED.items():
        cells = []
        for split in present:
            numbers = features[split][name].num_stats
            ends = " … ".join(f"{_short(value)}" for value in (numbers.min, numbers.median, numbers.max))
            cells.append(f"<td class='number wraps'>{ends}")
        rows.append(f"<tr><td>{title}{''.join(cells)}")
    formats = []
    for split in present:
        buckets = features[split]["image/format"].string_stats.rank_histogram.buckets
        formats.append(f"<td class=number>{'<br>'.join(f'{text(b.label)} {int(b.sample_count):,}' for b in buckets)}")
    return (
        f"<p class=dim>least … median … greatest</p><table><tr><th>{head}{''.join(rows)}"
        f"<tr><td>format{''.join(formats)}</table>"
    )


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.2g}"


def _excluded(excluded: Mapping[str, str]) -> str:
    if not excluded:
        return "<p>None: all files could be decoded.</p>"
    rows = [f"<tr><td><bdi>{text(name)}</bdi><td>{text(reason)}" for name, reason in list(excluded.items())[:_EXCLUDED]]
    more = f"<p class=dim>and {len(excluded) - _EXCLUDED:,} more</p>" if len(excluded) > _EXCLUDED else ""
    return f"<table>{''.join(rows)}</table>{more}"


def _section(scan: Scan, kind: ImageCheck | CopyRelation, pictures: Mapping[str, bytes]) -> str:
    count = sum(finding.finding == kind.name for finding in scan.findings)
    if not count:
        return ""
    sheet = _sheet(scan, kind)
    groups = scan.groups()
    figures = "".join(
        _group(finding, groups[finding], pictures) if isinstance(kind, CopyRelation) else _single(finding, pictures)
        for finding in sheet
    )
    more = f"; the first {len(sheet):,} of {count:,}, all in findings.jsonl" if count > len(sheet) else f"; {count:,}"
    return (
        f"<h2 id={kind.name}>{text(kind.title)}{more}</h2><p class=dim>{text(kind.reason)}</p>"
        f"<div class=sheet>{figures}</div>"
    )


def _single(finding: Finding, pictures: Mapping[str, bytes]) -> str:
    word = "expected" if isinstance(finding.threshold, str) else "limit"
    threshold = f" ({word} {text(finding.threshold)})" if finding.threshold != "" else ""
    return _figure(finding, 0, pictures, f"<br><b>{text(finding.value)}</b>{threshold}")


def _group(finding: Finding, place: int, pictures: Mapping[str, bytes]) -> str:
    names = _shown_names(finding)
    score = "" if finding.how == "identical" else f", correlation {finding.value}"
    more = f"; {len(finding.filenames)} files" if len(finding.filenames) > 2 else ""
    figures = "".join(_figure(finding, index, pictures, "") for index in range(len(names)))
    width = 122 * len(names) + 8  # pixels: figures, the gaps between them, padding
    return (
        f"<div class=group style='width:{width}px'><p><b>{place}</b> {_HOW[finding.how]}{score}{more}</p>"
        f"<div class=sheet>{figures}</div></div>"
    )


def _figure(finding: Finding, index: int, pictures: Mapping[str, bytes], value: str) -> str:
    name, label = finding.filenames[index], finding.labels[index]
    marked = " class=bad" if finding.finding == "contradiction" else ""
    caption = f"<b{marked}><bdi>{text(label)}</bdi></b><br><bdi>{text(name)}</bdi>{value}"
    return figure(pictures.get(name, b""), finding.splits[index], caption)
