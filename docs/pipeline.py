"""Draw the main job's graph to docs/images/pipeline.svg: python docs/pipeline.py."""

from pathlib import Path
from xml.sax.saxutils import escape

from kcnn.recipes import build
from pipelines.engine.component import Node, order_nodes
from pipelines.graphs.image_classification import TrainingJob, graph
from pipelines.graphs.publication import Publication

PICTURE = Path(__file__).parent / "images" / "pipeline.svg"
TOP, ROW, LANE, LEFT = 30, 40, 26, 20  # pixels: above the first row, from row to row, from lane to lane, margin
BOX = 150  # pixels, the width of a component's box
COLOURS = ("#3366cc", "#b82e2e", "#109618", "#b0620c", "#7a3fa0", "#00838f", "#c2185b", "#4e6b12", "#5d4037")


def components() -> list[Node]:
    """Return the components of the main job in the order in which they run, the Tuner among them."""
    job = TrainingJob(
        pipeline_root=".kcnn",
        command="",
        config=build("finetune"),
        publication=Publication(name="model", saved_models="saved_models"),
        tune=2,
    )
    return order_nodes(graph(job, weights=None, fingerprint=""))


def drawing() -> str:
    """Return an SVG: a row for each component, a vertical lane for each artifact from its maker to its last reader."""
    nodes = components()
    rows = {node.name: TOP + index * ROW for index, node in enumerate(nodes)}
    readers: dict[tuple[str, str], list[str]] = {}
    for node in nodes:
        readers |= {(node.name, output): [] for output in node.outputs}
        for port in node.inputs.values():
            readers[port.node.name, port.name].append(node.name)
    lanes = {artifact: LEFT + BOX + LANE * (index + 1) for index, artifact in enumerate(readers)}
    types = {(node.name, output): port.type.__name__ for node in nodes for output, port in node.outputs.items()}

    shapes: list[str] = []
    for node in nodes:
        y = rows[node.name]
        taken = [lanes[port.node.name, port.name] for port in node.inputs.values()]
        made = [lanes[node.name, output] for output in node.outputs]
        shapes.append(f'<path class="row" d="M{LEFT + BOX} {y}H{max(taken + made)}"/>')
        shapes.append(f'<rect class="box" x="{LEFT}" y="{y - 13}" width="{BOX}" height="26" rx="5"/>')
        shapes.append(f'<text class="name" x="{LEFT + BOX / 2}" y="{y + 4}">{escape(node.name)}</text>')
    for index, (artifact, names) in enumerate(readers.items()):
        x, y, colour = lanes[artifact], rows[artifact[0]], COLOURS[index % len(COLOURS)]
        last = max((rows[name] for name in names), default=y)
        shapes.append(f'<path stroke="{colour}" stroke-width="2" d="M{x} {y}V{last}"/>')
        shapes += [f'<circle fill="{colour}" cx="{x}" cy="{rows[name]}" r="4"/>' for name in names]
        shapes.append(f'<rect fill="{colour}" x="{x - 5}" y="{y - 5}" width="10" height="10"/>')
        siblings = [other for other in readers if other[0] == artifact[0]]
        side = 4 + 14 * (siblings.index(artifact) - (len(siblings) - 1) / 2)
        right = max(lanes[other] for other in siblings)
        shapes.append(f'<text fill="{colour}" x="{right + 10}" y="{y + side}">{escape(types[artifact])}</text>')
    width, height = max(lanes.values()) + 150, max(rows.values()) + TOP
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size}>',
            "<style>text { font: 12px sans-serif; } .name { font-weight: bold; text-anchor: middle; fill: #222; }",
            ".box { fill: #eef2f7; stroke: #8a97a8; } .row { stroke: #c9d1db; } path { fill: none; }</style>",
            f'<rect width="{width}" height="{height}" fill="white"/>',
            *shapes,
            "</svg>\n",
        ]
    )


if __name__ == "__main__":
    PICTURE.write_text(drawing(), encoding="utf-8")
