"""The page that shows what a data set is like: figures on one screen, then a sheet of pictures for every finding.

One file of HTML without scripts, light or dark as its reader's system is.
"""

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

from PIL import Image, ImageOps
from tensorflow_metadata.proto.v0 import statistics_pb2

from kcnn.data.pictures import DAMAGE, orientation, upright
from kcnn.data.records import Example, read_records
from kcnn.data.scan.checks import CHECKS, Check
from kcnn.data.scan.scan import COPIES, Copies, Finding, Scan

if TYPE_CHECKING:  # it loads TensorFlow
    from kcnn.data.ingestion.summary import Summary

PICTURES = 48  # of a sheet
_COPIES_SHOWN = 6  # of a group
_SIDE = 96  # pixels of a thumbnail
_EXCLUDED = 200  # names that are listed
_HOW = {
    "identical": "the same file, byte for byte",
    "alike": "the same picture",
    "mirrored": "the same picture, mirrored",
    "turned": "the same picture, turned or flipped",
}


_USE = (
    "<p>Nothing was excluded by it. All of it is in the folder <b>ImageScan/findings</b> of the pipeline root, under "
    "the number that the command printed:</p>"
    "<p><b>exclusions.csv</b> has an image a row; copies have the number of their group on this page. To leave images "
    "out, write anything in the last column, <b>exclude</b>, and give the file as --exclude, here and in training. Of "
    "a leak leave out the copy in train, and test stays what it was. No file is deleted.</p>"
    "<p><b>findings.jsonl</b> has a finding a line, for programs.</p>"
)


def shown(scan: Scan) -> set[str]:
    """The files whose pictures the page shows."""
    return {name for kind in (*COPIES, *CHECKS) for finding in _sheet(scan, kind) for name in _first(finding)}


def _sheet(scan: Scan, kind: Check | Copies) -> list[Finding]:
    """The worst findings of a kind, as many as make a sheet."""
    sheet: list[Finding] = []
    for finding in scan.findings:
        if finding.finding == kind.name and sum(len(_first(one)) for one in [*sheet, finding]) <= PICTURES:
            sheet.append(finding)
    return sheet


def _first(finding: Finding) -> tuple[str, ...]:
    return finding.filenames[:_COPIES_SHOWN]


def thumbnails(paths: Iterable[str], filenames: set[str]) -> dict[str, bytes]:
    """Filename → WebP of at most 96 pixels a side, upright; b"" where Pillow cannot read the picture.

    Args:
        paths: the shards that hold the pictures.
        filenames: the pictures.

    Raises:
        UserError: a shard is damaged.
    """
    found = {}
    for path in paths:
        for record in read_records(path):
            features = Example.FromString(record).features.feature
            name = features["image/filename"].bytes_list.value[0].decode("utf-8", "surrogateescape")
            if name in filenames:
                found[name] = _thumbnail(features["image/encoded"].bytes_list.value[0])
    return found


def _thumbnail(encoded: bytes) -> bytes:
    buffer = io.BytesIO()
    try:
        with Image.open(io.BytesIO(encoded)) as image:
            image.draft("RGB", (2 * _SIDE, 2 * _SIDE))
            turned = orientation(image)
            small = image.convert("RGB")
            small.thumbnail((_SIDE, _SIDE))
            small = upright(small, turned)
            small = ImageOps.scale(small, max(1, _SIDE // max(small.size)), Image.Resampling.NEAREST)
            small.save(buffer, "WEBP", quality=80)
    except DAMAGE:
        return b""
    return buffer.getvalue()


_STYLE = """
:root { color-scheme: light dark; --back: #fff; --front: #1c1f23; --dim: #667; --line: #d8dce2; --box: #f5f6f8;
  --train: #4878a8; --val: #c8963c; --test: #3f8f5f; --bad: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --back: #15181c; --front: #e4e7eb; --dim: #99a; --line: #3a4048;
  --box: #1f2329; --train: #6fa3d8; --val: #e0b35c; --test: #62b985; --bad: #ff8a80; } }
* { box-sizing: border-box; }
body { font: 14px/1.45 system-ui, sans-serif; margin: 0 auto; padding: 20px; max-width: 1200px;
  background: var(--back); color: var(--front); }
h1 { font-size: 22px; margin: 0 0 2px; } h2 { font-size: 17px; margin: 32px 0 2px; } h3 { font-size: 14px; margin: 0; }
p { margin: 2px 0 10px; } .dim { color: var(--dim); } .bad { color: var(--bad); font-weight: 600; }
a { color: inherit; } td a { text-decoration: underline; }
.columns { display: grid; grid-template-columns: repeat(auto-fit, minmax(460px, 1fr)); gap: 14px;
  margin-top: 12px; } @media (max-width: 520px) { .columns { grid-template-columns: 1fr; } }
.box { min-width: 0; background: var(--box); border: 1px solid var(--line); border-radius: 8px;
  padding: 10px 14px; max-height: 400px; overflow: auto; }
table { border-collapse: collapse; width: 100%; } td, th { padding: 2px 8px 2px 0; text-align: left;
  vertical-align: top; } bdi { overflow-wrap: anywhere; } td.bars { width: 50%; }
th { font-weight: 600; color: var(--dim); }
td.number, th.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
td.wraps { white-space: normal; }
ul { margin: 4px 0; padding-left: 18px; } li { overflow-wrap: anywhere; }
.bar { display: flex; height: 12px; margin-top: 4px; } .bar span { height: 12px; }
.train { background: var(--train); } .val { background: var(--val); } .test { background: var(--test); }
.key { display: inline-block; width: 10px; height: 10px; border-radius: 2px; margin: 0 4px 0 10px; }
.sheet { display: flex; flex-wrap: wrap; gap: 10px; }
.group { border: 1px solid var(--line); border-radius: 8px; padding: 8px;
  background: var(--box); } .group p { margin: 0 0 4px; }
figure { margin: 0; width: 112px; font-size: 11px; line-height: 1.3; overflow-wrap: anywhere; }
figure .picture { height: 98px; display: flex; align-items: flex-end; } img { border: 1px solid var(--line); }
.tag { display: inline-block; color: #fff; border-radius: 3px; padding: 0 4px; }
@media (prefers-color-scheme: dark) { .tag { color: #111; } }
"""


def page(
    name: str,
    summary: "Summary",
    statistics: Mapping[str, statistics_pb2.DatasetFeatureStatistics],
    anomalies: Sequence[str],
    scan: Scan,
    pictures: Mapping[str, bytes],
) -> str:
    """The HTML.

    Args:
        name: of the data set.
        summary: what became of its files.
        statistics: split → of its images.
        anomalies: a line each.
        scan: what was found.
        pictures: those of `shown(scan)`, as `thumbnails` makes them.
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
        box("Anomalies", _list(anomalies) or "<p>None: the splits are alike and as the schema says.</p>"),
        *([box("Warnings", _list(summary.warnings))] if summary.warnings else []),
        box("Excluded files", _excluded(summary.excluded)),
        *([box("What to do with what was found", _USE)] if any(finding.splits for finding in scan.findings) else []),
        "</div>",
        *(_section(scan, kind, pictures) for kind in (*COPIES, *CHECKS)),
    ]
    return document(name, body)


def document(title: str, body: Iterable[str]) -> str:
    """The HTML of a page with a title and these parts, the empty ones left out."""
    head = (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{text(title)}</title><style>{_STYLE}</style></head><body>"
    )
    return "\n".join([head, *filter(None, body), "</body></html>\n"])


def figure(picture: bytes, split: str, caption: str) -> str:
    """A thumbnail, as `thumbnails` makes it, above its split and a caption of HTML."""
    content = base64.b64encode(picture).decode()
    image = f"<img alt='' src='data:image/webp;base64,{content}'>" if content else "<span class=dim>no picture</span>"
    return (
        f"<figure><div class=picture>{image}</div><figcaption><span class='tag {text(split)}'>{text(split)}</span> "
        f"{caption}</figcaption></figure>"
    )


def text(value: object) -> str:
    """Safe in HTML, whatever a file is called."""
    return escape(str(value).encode("utf-8", "backslashreplace").decode())


def number(count: int, unit: str, units: str = "") -> str:
    """The count with its unit, "1 image" or "2 images"."""
    return f"{count:,} {unit if count == 1 else units or unit + 's'}"


def box(title: str, content: str) -> str:
    """A part of the page's head."""
    return f"<div class=box><h3>{title}</h3>{content}</div>"


def _list(lines: Iterable[str]) -> str:
    items = "".join(f"<li><bdi>{text(line)}</bdi></li>" for line in lines)
    return f"<ul>{items}</ul>" if items else ""


def _overview(scan: Scan) -> str:
    rows = []
    for kind in (*COPIES, *CHECKS):
        count = sum(finding.finding == kind.name for finding in scan.findings)
        title = text(kind.title)
        if kind.name in scan.usual:
            share = f"{scan.usual[kind.name]:,} of {scan.images:,}, as is usual here"
            rows.append(f"<tr><td>{title}<td class=number>{share}")
        elif count:
            unit = "group" if isinstance(kind, Copies) else "image"
            rows.append(f"<tr><td><a href='#{kind.name}'>{title}</a><td class='number bad'>{number(count, unit)}")
    found = {finding.finding for finding in scan.findings} | set(scan.usual)
    clean = [kind.title.partition(":")[0].lower() for kind in (*COPIES, *CHECKS) if kind.name not in found]
    none = f"<p class=dim>No image: {text(', '.join(clean))}.</p>" if clean else ""
    return f"<table>{''.join(rows)}</table>{none}"


def _counts(summary: "Summary") -> str:
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


_LOOKS = {
    "image/width": "width",
    "image/height": "height",
    "image/aspect": "aspect",
    "image/bytes": "bytes",
    "image/brightness": "brightness",
    "image/sharpness": "sharpness",
}


def _sizes(statistics: Mapping[str, statistics_pb2.DatasetFeatureStatistics]) -> str:
    """Least, median and greatest of each split."""
    present = {split: part for split, part in statistics.items() if part.num_examples}
    head = "".join(f"<th class=number>{text(split)}" for split in present)
    features = {split: {one.path.step[0]: one for one in part.features} for split, part in present.items()}
    rows = []
    for name, title in _LOOKS.items():
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


def _section(scan: Scan, kind: Check | Copies, pictures: Mapping[str, bytes]) -> str:
    count = sum(finding.finding == kind.name for finding in scan.findings)
    if not count:
        return ""
    sheet = _sheet(scan, kind)
    groups = scan.groups()
    figures = "".join(
        _group(finding, groups[finding], pictures) if isinstance(kind, Copies) else _single(finding, pictures)
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


def _group(finding: Finding, number: int, pictures: Mapping[str, bytes]) -> str:
    names = _first(finding)
    score = "" if finding.how == "identical" else f", correlation {finding.value}"
    more = f"; {len(finding.filenames)} files" if len(finding.filenames) > 2 else ""
    figures = "".join(_figure(finding, index, pictures, "") for index in range(len(names)))
    width = 122 * len(names) + 8  # pixels: figures, the gaps between them, padding
    return (
        f"<div class=group style='width:{width}px'><p><b>{number}</b> {_HOW[finding.how]}{score}{more}</p>"
        f"<div class=sheet>{figures}</div></div>"
    )


def _figure(finding: Finding, index: int, pictures: Mapping[str, bytes], value: str) -> str:
    name, label = finding.filenames[index], finding.labels[index]
    marked = " class=bad" if finding.finding == "contradiction" else ""
    caption = f"<b{marked}><bdi>{text(label)}</bdi></b><br><bdi>{text(name)}</bdi>{value}"
    return figure(pictures.get(name, b""), finding.splits[index], caption)
