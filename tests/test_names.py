"""Names: one thing has one name, and one name means one thing."""

import ast
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parent.parent
SOURCES = sorted([*ROOT.glob("kcnn/**/*.py"), *ROOT.glob("pipelines/**/*.py"), ROOT / "main.py"])
# The names that the field gives to these modules.
ALIASES = {"numpy": "np", "tensorflow": "tf", "tensorflow_datasets": "tfds", "apache_beam": "beam"}
OURS = ("kcnn", "pipelines")


def parse(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def test_a_public_class_name_stands_once():
    homes = defaultdict(list)
    for path in SOURCES:
        for node in parse(path).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes[node.name].append(str(path.relative_to(ROOT)))
    assert {name: found for name, found in homes.items() if len(found) > 1} == {}


def test_what_is_imported_keeps_its_name():
    """The usual aliases of ALIASES aside, only a name of a library may get another, which no module of ours has."""
    modules = {part for path in SOURCES for part in path.relative_to(ROOT).with_suffix("").parts}
    wrong = []
    for path in SOURCES:
        for node in ast.walk(parse(path)):
            if not isinstance(node, ast.Import | ast.ImportFrom):
                continue
            for alias in node.names:
                if alias.asname in (None, ALIASES.get(alias.name)):
                    continue
                ours = isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] in OURS
                if isinstance(node, ast.Import) or ours or alias.asname in modules:
                    wrong.append(f"{path.relative_to(ROOT)}: {alias.name} as {alias.asname}")
    assert wrong == []
