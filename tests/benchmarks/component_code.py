"""Prints how many files of the program each component's key depends on.

python tests/benchmarks/component_code.py [--model mobilenetv2] [--dataset digits] [--list Trainer]

An edit in one of these files has the component do its work again; see `pipelines/engine/code.py`. What a component
depends on besides, by the registries, is told for one network and one data set.
"""

import argparse
import importlib
import os
import sys
import types
from pathlib import Path

from kcnn.terminal import print_lines

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).parents[2]))

from kcnn.recipes import build
from kcnn.tables import aligned
from pipelines.engine.code import PROGRAM, ROOT, digest_files, reach_component


def find_components():
    """Return the components by name."""
    modules = sorted(path.stem for path in (ROOT / "pipelines" / "components").glob("[!_]*.py"))
    found = [getattr(importlib.import_module(f"pipelines.components.{name}"), name) for name in modules]
    return {component.name: component for component in found}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mobilenetv2")
    parser.add_argument("--dataset", default="digits")
    components = find_components()
    parser.add_argument("--list", choices=components, metavar="COMPONENT", help="list a component's files")
    options = parser.parse_args()
    config = build("scratch", model=options.model)
    arguments = {
        "config": config.to_json(),
        "model": options.model,
        "dataset": options.dataset,
        "model_run": types.SimpleNamespace(config=lambda: config),
        "models": [[options.model, "", ""]],
    }
    files = {name: reach_component(component, arguments) for name, component in components.items()}
    if options.list:
        print("\n".join(files[options.list]))
        return
    total = sum(1 for package in PROGRAM for _ in (ROOT / package).rglob("*.py"))
    rows = [(name, f"{len(found)} of {total}", digest_files(found)[:12]) for name, found in files.items()]
    print_lines(*aligned([("component", "files", "digest"), *rows], right=[1]))


if __name__ == "__main__":
    main()
