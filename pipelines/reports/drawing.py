"""The drawing of a lineage, an SVG.

Artifacts and executions are boxes in layers, time goes downwards, arrows lead from each to what it led to.

The layers are those of K. Sugiyama, S. Tagawa and M. Toda, "Methods for Visual Understanding of Hierarchical System
Structures", 1981: each box below all that it comes from, long arrows bent at each layer in between, and the order
within a layer by the mean position of what is above.
"""

import json
from typing import Any
from xml.sax.saxutils import escape

from pipelines.artifacts import find_class
from pipelines.engine.soundness import is_number

GAP, LAYER, LINE, MARGIN = 24, 56, 15, 20  # pixels: between boxes, between layers, of text, around
LETTER = 6.7  # pixels, of the monospaced font at 11 pixels
LONGEST = 38  # letters of a line
MOST = 3  # facts in a box, where the artifact's class does not choose
BEND = 12  # pixels, the width that an arrow takes in a layer that it passes

Box = tuple[str, ...]  # ("artifact" or "execution" or "bend", number...)


def draw_lineage(found: dict[str, Any]) -> str:
    """Draw what `pipelines.reports.lineage.find_lineage` found, as an SVG."""
    texts: dict[Box, list[str]] = {}
    edges: list[tuple[Box, Box]] = []
    for row in found["artifacts"]:
        texts["artifact", str(row["id"])] = [
            row["type"],
            row["uri"],
            row["fingerprint"][:16],
            *_facts(row["type"], row["properties"]),
        ]
    for row in found["executions"]:
        box: Box = ("execution", str(row["id"]))
        runs = "run " + ", ".join(map(str, row["runs"]))
        texts[box] = [row["component"], f"{runs}, {row['seconds']} s", row["started"], f"code {row['code'][:16]}"]
        edges += [(("artifact", str(artifact)), box) for artifact in row["inputs"].values()]
        edges += [(box, ("artifact", str(artifact))) for artifact in row["outputs"].values()]
    details: dict[Box, str] = {
        (kind, str(row["id"])): json.dumps(row, indent=1, ensure_ascii=False)
        for kind in ("artifact", "execution")
        for row in found[f"{kind}s"]
    }

    layers, edges = _layers(list(texts), edges)
    widths = {box: max(map(len, lines)) * LETTER + MARGIN for box, lines in texts.items()}
    centres = _centres(layers, edges, widths)
    left = min(centres[box] - widths.get(box, BEND) / 2 for box in centres)
    right = max(centres[box] + widths.get(box, BEND) / 2 for box in centres)
    tops: dict[Box, float] = {}
    bottoms: dict[Box, float] = {}
    y = float(MARGIN)
    for layer in layers:
        height = float(max(len(texts.get(box, [])) for box in layer) * LINE + LINE)
        for box in layer:
            own = len(texts[box]) * LINE + LINE if box in texts else height
            tops[box], bottoms[box] = y + (height - own) / 2, y + (height + own) / 2
        y += height + LAYER
    shapes = [_arrow(centres, tops, bottoms, edge) for edge in edges]
    shapes += [_box(centres[box], tops[box], widths[box], box, lines, details[box]) for box, lines in texts.items()]
    return _PAGE.format(
        left=left - MARGIN,
        width=right - left + 2 * MARGIN,
        height=y - LAYER + MARGIN,
        title=escape(_text(found["path"])),
        shapes="\n".join(shapes),
    )


_PAGE = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="{left:.0f} 0 {width:.0f} {height:.0f}" width="{width:.0f}" \
height="{height:.0f}" font-family="monospace" font-size="11">
<title>{title}</title>
<defs><marker id="tip" markerWidth="8" markerHeight="8" refX="7" refY="4" orient="auto">\
<path d="M0,1 L8,4 L0,7 z" fill="#555"/></marker></defs>
<rect x="{left:.0f}" width="{width:.0f}" height="{height:.0f}" fill="white"/>
{shapes}
</svg>
"""


def _facts(type_: str, properties: dict[str, Any]) -> list[str]:
    """Return a few facts, each in a line; the box's tooltip has all."""
    names = find_class(type_).shown or list(properties)[:MOST]
    return [_fact(name, properties[name]) for name in names if properties.get(name) not in (None, [], {})]


def _fact(name: str, value: Any) -> str:
    if isinstance(value, str):  # of a path the end tells more
        room = LONGEST - len(name) - len(": ")
        return f"{name}: {value if len(value) <= room else '...' + value[3 - room :]}"
    if isinstance(value, dict):
        parts = [f"{key} {part}" for key, part in value.items()]
        figure = value.get("value")
        value = f"{figure:.1%}" if is_number(figure) else len(value) if name == "excluded" else ", ".join(parts)
    line = f"{name}: {value}"
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 3]}..."


def _layers(boxes: list[Box], edges: list[tuple[Box, Box]]) -> tuple[list[list[Box]], list[tuple[Box, Box]]]:
    """Return the boxes layer by layer, and the edges with a bend in each layer that they pass."""
    above = {box: [source for source, target in edges if target == box] for box in boxes}
    depth: dict[Box, int] = {}

    def deep(box: Box) -> int:
        if box not in depth:
            depth[box] = 1 + max(map(deep, above[box]), default=-1)
        return depth[box]

    layers: list[list[Box]] = [[] for _ in range(1 + max(map(deep, boxes)))]
    for box in boxes:
        layers[depth[box]].append(box)
    short: list[tuple[Box, Box]] = []
    for source, target in edges:
        last = source
        for layer in range(depth[source] + 1, depth[target]):
            bend = ("bend", *source, *target, str(layer))
            layers[layer].append(bend)
            short.append((last, bend))
            last = bend
        short.append((last, target))
    return layers, short


def _centres(layers: list[list[Box]], edges: list[tuple[Box, Box]], widths: dict[Box, float]) -> dict[Box, float]:
    """Order the boxes of each layer, and return where each box's centre lies across."""
    above: dict[Box, list[Box]] = {}
    for source, target in edges:
        above.setdefault(target, []).append(source)
    centres: dict[Box, float] = {}
    for layer in layers:
        wanted = {box: sum(centres[b] for b in above[box]) / len(above[box]) if box in above else 0.0 for box in layer}
        layer.sort(key=wanted.__getitem__)
        x = 0.0
        start: list[float] = []
        for box in layer:  # as near to where it is wanted as those to its left allow
            half = widths.get(box, BEND) / 2
            start.append(max(wanted[box], x + half) if start else wanted[box])
            x = start[-1] + half + GAP
        shift = sum(wanted[box] - place for box, place in zip(layer, start, strict=True)) / len(layer)
        centres.update({box: place + shift for box, place in zip(layer, start, strict=True)})
    return centres


def _arrow(centres: dict[Box, float], tops: dict[Box, float], bottoms: dict[Box, float], edge: tuple[Box, Box]) -> str:
    source, target = edge
    x1, y1, x2, y2 = centres[source], bottoms[source], centres[target], tops[target]
    middle = (y1 + y2) / 2
    through = f" L{x2:.0f},{bottoms[target]:.0f}" if target[0] == "bend" else ""
    tip = "" if target[0] == "bend" else ' marker-end="url(#tip)"'
    curve = f"M{x1:.0f},{y1:.0f} C{x1:.0f},{middle:.0f} {x2:.0f},{middle:.0f} {x2:.0f},{y2:.0f}{through}"
    return f'<path d="{curve}" fill="none" stroke="#555"{tip}/>'


def _box(centre: float, top: float, width: float, box: Box, lines: list[str], detail: str) -> str:
    """Draw a box: an artifact has corners, an execution is round."""
    radius, fill = (0, "#eef3fb") if box[0] == "artifact" else (14, "#fdf2dc")
    rows = "".join(
        f'<tspan x="{centre:.0f}" y="{top + LINE * (row + 1.25):.0f}">{escape(_text(line))}</tspan>'
        for row, line in enumerate(lines)
    ).replace("<tspan", '<tspan font-weight="bold"', 1)
    return (
        f"<g><title>{escape(_text(detail))}</title>"
        f'<rect x="{centre - width / 2:.0f}" y="{top:.0f}" width="{width:.0f}" height="{(len(lines) + 1) * LINE}" '
        f'rx="{radius}" fill="{fill}" stroke="#555"/><text text-anchor="middle">{rows}</text></g>'
    )


def _text(text: str) -> str:
    """Replace what XML cannot hold; file names need not be text."""
    return "".join(letter if letter.isprintable() or letter == "\n" else "\N{REPLACEMENT CHARACTER}" for letter in text)
