"""The layers: which module may import which, read from the sources."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# The modules of the program that each part may import, besides itself.
BASE = {
    "kcnn.errors",
    "kcnn.registry",
    "kcnn.progress",
    "kcnn.config",
    "kcnn.tables",
    "kcnn.terminal",
    "kcnn.spreadsheets",
    "kcnn.documents",
    "kcnn.regular_files",
    "kcnn.checks",
    "kcnn.content",
    "kcnn.json_files",
    "kcnn.leftovers",
    "kcnn.startup",
    "kcnn.plain_paths",
    "kcnn.version",
}
MAY_IMPORT = {
    "kcnn.nn": {"kcnn.errors", "kcnn.registry"},
    "kcnn.models": {"kcnn.nn", "kcnn.errors", "kcnn.registry", "kcnn.tables", "kcnn.terminal", "kcnn.weights"},
    "kcnn.weights": {"kcnn.nn", "kcnn.models", "kcnn.errors", "kcnn.registry", "kcnn.progress"},
    "kcnn.data": {
        "kcnn.nn.keras_settings",
        "kcnn.errors",
        "kcnn.registry",
        "kcnn.progress",
        "kcnn.content",
        "kcnn.leftovers",
        "kcnn.startup",
        "kcnn.tables",
        "kcnn.terminal",
        "kcnn.spreadsheets",
        "kcnn.documents",
        "kcnn.regular_files",
    },
    "kcnn.training": BASE | {"kcnn.models", "kcnn.data", "kcnn.weights", "kcnn.nn"},
    "kcnn.evaluation": BASE | {"kcnn.models", "kcnn.data", "kcnn.weights", "kcnn.nn"},
    "kcnn.serving": BASE | {"kcnn.models", "kcnn.data", "kcnn.weights", "kcnn.nn"},
    "kcnn.recipes": BASE,
    "kcnn.config": {"kcnn.errors", "kcnn.optimizer_defaults"},
    "kcnn.optimizer_defaults": set(),
    "kcnn.registry": {"kcnn.errors"},
    "kcnn.progress": {"kcnn.terminal"},
    "kcnn.startup": set(),
    "kcnn.plain_paths": {"kcnn.errors"},
    "kcnn.tables": {"kcnn.terminal"},
    "kcnn.terminal": {"kcnn.errors"},
    "kcnn.spreadsheets": {"kcnn.terminal"},
    "kcnn.regular_files": set(),
    "kcnn.documents": {"kcnn.regular_files"},
    "kcnn.json_files": {"kcnn.documents", "kcnn.errors", "kcnn.regular_files", "kcnn.terminal"},
    "kcnn.checks": set(),
    "kcnn.content": {"kcnn.leftovers", "kcnn.progress", "kcnn.regular_files"},
    "kcnn.leftovers": set(),
    "kcnn.errors": set(),
    "kcnn": {"kcnn.version"},
    "pipelines.engine": BASE,
    "pipelines.entries": {"kcnn"},
    "pipelines.artifacts": {"kcnn", "pipelines.engine.component"},
    "pipelines.components": {
        "kcnn",
        "pipelines.artifacts",
        "pipelines.engine.component",
        "pipelines.entries",
        "pipelines.reports.card",
        "pipelines.training_data",
    },
    "pipelines": {"kcnn", "pipelines"},
    "main": {"pipelines.command_line"},
}
SOURCES = sorted([*ROOT.glob("kcnn/**/*.py"), *ROOT.glob("pipelines/**/*.py"), ROOT / "main.py"])


def module_name(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_name(path): path for path in SOURCES}


def run_at_some_time(tree):
    """Return the nodes of a file that are not under TYPE_CHECKING."""
    skipped = {
        child
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
        for statement in node.body
        for child in ast.walk(statement)
    }
    return [node for node in ast.walk(tree) if node not in skipped]


def imports(path):
    """Yield the modules that a file imports anywhere, in functions too, without those under TYPE_CHECKING."""
    for node in run_at_some_time(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names if node.module in ("kcnn", "pipelines"))


def imported_files(path):
    """Return the modules of the program that a file imports anywhere, named as their files; parents do not count."""
    found = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in run_at_some_time(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found.add(whole if whole in MODULES else node.module)
    return found & set(MODULES) - {module_name(path)}


def circle(graph):
    """Return the names along one circle of a graph {name: names}; [] where there is none."""
    done = set()

    def search(name, trail):
        if name in trail:
            return [*trail[trail.index(name) :], name]
        if name in done:
            return []
        done.add(name)
        return next(filter(None, (search(other, [*trail, name]) for other in sorted(graph[name]))), [])

    return next(filter(None, (search(name, []) for name in sorted(graph))), [])


def within(name, package):
    return name == package or name.startswith(package + ".")


def may_import(importer, imported):
    part = max((part for part in MAY_IMPORT if within(importer, part)), key=len, default=None)
    if part is None or imported == "kcnn":  # the package itself holds nothing but lazy names
        return True
    itself = [] if part == "pipelines.components" else [part]
    return any(within(imported, package) for package in [*MAY_IMPORT[part], *itself])


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_layers(path):
    name = module_name(path)
    for imported in imports(path):
        if within(imported, "keras_cv"):
            assert within(name, "kcnn.data.input_pipeline.augmentations"), f"{name} imports keras_cv"
        if within(imported, "absl"):
            assert name == "pipelines.command_line" or within(name, "pipelines.commands"), f"{name} imports absl"
        if within(imported, "pipelines.commands") or within(imported, "pipelines.command_line"):
            assert name in ("main", "pipelines.command_line") or within(name, "pipelines.commands"), (
                f"{name} imports the command line"
            )
        if within(imported, "kcnn") or within(imported, "pipelines"):
            assert may_import(name, imported), f"{name} may not import {imported}"


def test_the_search_for_circles_finds_one():
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_no_file_imports_itself_by_way_of_others():
    """A package's `__init__.py` counts as a file; an import of one of its modules alone does not import it here."""
    assert circle({name: imported_files(path) for name, path in MODULES.items()}) == []


def test_importing_kcnn_and_asking_for_help_load_no_tensorflow():
    code = (
        "import sys, kcnn; sys.argv = ['main.py', '--help']\n"
        "from pipelines.command_line import run; assert run(sys.argv) == 0\n"
        "assert not {'tensorflow', 'keras', 'numpy'} & set(sys.modules), 'slow imports'"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--model" in done.stdout
