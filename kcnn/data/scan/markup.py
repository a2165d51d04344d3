"""Parts of the HTML pages that reports are written to: one file without scripts, light or dark as the reader's system.

Every name and figure passes through `text` or `number`, so that no file name can change a page.
"""

import base64
from collections.abc import Iterable
from html import escape

from kcnn.terminal import one_line

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


def document(title: str, body: Iterable[str]) -> str:
    """Return the HTML of a page with a title and these parts, without the empty ones."""
    head = (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{text(title)}</title><style>{_STYLE}</style></head><body>"
    )
    return "\n".join([head, *filter(None, body), "</body></html>\n"])


def box(title: str, content: str) -> str:
    """Return a box of the page's head; `title` and `content` are HTML."""
    return f"<div class=box><h3>{title}</h3>{content}</div>"


def bullets(lines: Iterable[str]) -> str:
    """Return a list with an item for each line of text; "" without lines."""
    items = "".join(f"<li><bdi>{text(line)}</bdi></li>" for line in lines)
    return f"<ul>{items}</ul>" if items else ""


def figure(picture: bytes, split: str, caption: str) -> str:
    """Return a thumbnail above its split and a caption.

    Args:
        picture: WebP, as `kcnn.data.scan.thumbnails` makes it; b"" for none.
        split: "train", "val" or "test".
        caption: HTML.
    """
    content = base64.b64encode(picture).decode()
    image = f"<img alt='' src='data:image/webp;base64,{content}'>" if content else "<span class=dim>no picture</span>"
    return (
        f"<figure><div class=picture>{image}</div><figcaption><span class='tag {text(split)}'>{text(split)}</span> "
        f"{caption}</figcaption></figure>"
    )


def text(value: object) -> str:
    """Escape a value for HTML; what is escaped on a terminal (`one_line`) is escaped here too."""
    return escape(one_line(str(value)))


def number(count: int, unit: str, units: str = "") -> str:
    """Return a count with its unit, "1 image" or "2 images"; `units` is an irregular plural."""
    return f"{count:,} {unit if count == 1 else units or unit + 's'}"
