"""Write docs/architectures.md from the registry: python docs/architectures.py."""

import textwrap
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from pathlib import Path

import kcnn
from kcnn.models.spec import ModelSpec
from kcnn.weights import find_starter

PAGE = Path(__file__).with_suffix(".md")
WIDTH = 120
HEAD = """\
# Architectures

<!-- Written by docs/architectures.py from the registry. Edit the specs in kcnn/models/, not this page. -->

kcnn has {models} networks of {families} families. Each family is one file of `kcnn/models/` that reads like the paper's
table. The same list in the terminal: `python main.py models`.

```python
import kcnn

spec = kcnn.model_spec("squeezenet1.1")
model = kcnn.create_model("squeezenet1.1", num_classes=10, input_size=64)
print(spec.paper, spec.params, kcnn.macs(model, 224))
```

Every model takes raw RGB pixels from 0 to 255, float32 or uint8 [N, H, W, 3], and carries its own preprocessing. It
returns float32 logits [N, classes]. With `features_only=True` it returns the last feature map of every stride:

```python
import kcnn

maps = kcnn.create_model("convnexttiny", input_size=64, features_only=True).output
print({{name: tuple(value.shape) for name, value in maps.items()}})  # stride4, stride8, ...
```

In the tables:

- **parameters** are the trainable ones with 1000 classes, in millions;
- **mult-adds** are those of one image at the input size, in billions;
- **top-1** and **top-5** are accuracies on ImageNet's validation images, one central crop, in percent: of the weights
  that can be loaded where there are any, otherwise the paper's;
- **weights** are the projects whose ImageNet weights the network takes, and `starter` where the project ships
  [starter weights](guides/transfer.md#starter-weights);
- **design** lists the arguments of `kcnn.create_model` and of `--design`, with their defaults. The default of `width`
  is in the network's name.
"""
TITLES = ("name", "year", "parameters", "mult-adds", "input", "top-1", "top-5", "weights")


def page() -> str:
    """Return the whole page as Markdown."""
    specs = [kcnn.model_spec(name) for name in kcnn.list_models()]
    first_year = {family: min(spec.year for spec in specs if spec.family == family) for family in _families(specs)}
    specs.sort(key=lambda spec: (first_year[spec.family], spec.family))  # stable: a family's rows keep their order
    parts = [HEAD.format(models=len(specs), families=len(first_year))]
    parts += [_section(family, list(rows)) for family, rows in groupby(specs, key=lambda spec: spec.family)]
    return "\n".join(parts)


def _families(specs: list[ModelSpec]) -> list[str]:
    return list(dict.fromkeys(spec.family for spec in specs))


def _section(family: str, specs: list[ModelSpec]) -> str:
    lines = [f"## {family}", ""]
    for paper in dict.fromkeys(spec.paper for spec in specs):
        lines += [_wrapped(f"{paper}."), ""]
    lines += [_row(TITLES), _row("---" for _ in TITLES), *(_row(_cells(spec)) for spec in specs), ""]
    for design, names in _grouped(specs, _design):
        lines += [_wrapped(f"Design{names}: {design}."), ""]
    for note, names in _grouped(specs, lambda spec: spec.note):
        lines += [_wrapped(f"Note{names}: {note}"), ""] if note else []
    return "\n".join(lines)


def _grouped(specs: list[ModelSpec], text: Callable[[ModelSpec], str]) -> Iterator[tuple[str, str]]:
    """Yield each distinct text with the names it is for: "" where it is for all of them."""
    groups: dict[str, list[str]] = {}
    for spec in specs:
        groups.setdefault(text(spec), []).append(f"`{spec.name}`")
    for value, names in groups.items():
        yield value, "" if len(groups) == 1 else f" of {', '.join(names)}"


def _design(spec: ModelSpec) -> str:
    return ", ".join(f"`{name}`" if name == "width" else f"`{name}={value}`" for name, value in spec.design.items())


def _cells(spec: ModelSpec) -> tuple[str, ...]:
    weights = spec.weights + ["starter"] * bool(find_starter(spec.name))
    accuracies = ("" if value is None else f"{value:.1f}" for value in (spec.top1, spec.top5))
    cost = (f"{spec.params / 1e6:.2f}", f"{spec.macs / 1e9:.3f}", str(spec.input_size))
    return (f"`{spec.name}`", str(spec.year), *cost, *accuracies, ", ".join(weights))


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _wrapped(text: str) -> str:
    return textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
