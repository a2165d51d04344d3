"""The code that components reach: what an edit redoes, on a copy of the program."""

import importlib
import shutil
import sys
import types
import unittest.mock
from pathlib import Path

import pytest

from kcnn.data.datasets import DATASETS
from kcnn.data.input_pipeline.augmentations import AUGMENTATIONS
from kcnn.models.spec import MODELS
from kcnn.recipes import build
from kcnn.weights.torch_names import TORCH_NAMES
from pipelines.engine import code

ROOT = Path(__file__).parents[3]
NAMES = sorted(path.stem for path in (ROOT / "pipelines" / "components").glob("[!_]*.py"))
MODEL = "lenet5"


def forget():
    code.find_source.cache_clear()
    code.read_source.cache_clear()


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """Copy the program; `pipelines.engine.code` reads the copy."""
    folder = tmp_path_factory.mktemp("program")
    for package in code.PROGRAM:
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__", "starters"))
    with unittest.mock.patch.object(code, "ROOT", folder):
        forget()
        yield folder
    forget()


@pytest.fixture(scope="module")
def modules():
    """Return component → the modules of the entries that it uses, with one network and one data set."""
    config = build("scratch", model=MODEL)
    run = types.SimpleNamespace(config=lambda: config)
    arguments = {
        "config": config.to_json(),
        "model": MODEL,
        "dataset": "digits",
        "model_run": run,
        "models": [[MODEL, "", ""]],
    }
    components = {name: getattr(importlib.import_module(f"pipelines.components.{name}"), name) for name in NAMES}
    return {name: code.find_entry_modules(component, arguments) for name, component in components.items()}


@pytest.fixture(scope="module")
def reached(program, modules):
    """Return component → the files that it reaches."""
    return {name: code.reach(program / "pipelines" / "components" / f"{name}.py", modules[name]) for name in NAMES}


@pytest.fixture(scope="module")
def before(reached):
    return {name: code.digest_files(files) for name, files in reached.items()}


@pytest.fixture
def redone(program, modules, before):
    """Return a function that tells the components whose keys change with files."""

    def find(*paths, change=lambda text: f"{text}\n_ANOTHER_LINE = 1\n"):
        paths = [program / path for path in paths]
        olds = [path.read_text() if path.exists() else None for path in paths]
        for path, old in zip(paths, olds, strict=True):
            path.write_text(change(old or ""))
        forget()
        starts = {name: program / "pipelines" / "components" / f"{name}.py" for name in NAMES}
        after = {name: code.digest_files(code.reach(start, modules[name])) for name, start in starts.items()}
        for path, old in zip(paths, olds, strict=True):
            path.write_text(old) if old is not None else path.unlink()
        forget()
        return {name for name in NAMES if before[name] != after[name]}

    return find


def test_comments_and_docstrings_anywhere_redo_nothing(program, redone):
    def edited(text):
        lines = text.splitlines(keepends=True)
        if lines and lines[0].startswith('"""'):
            lines[0] = f'"""Another: {lines[0][3:]}'
        return "# a comment\n" + "".join(lines) + "\n\n# and another\n"

    assert redone(*program.rglob("*.py"), change=edited) == set()


def test_docstrings_of_functions_and_classes_do_not_count(tmp_path):
    one, other, third = (tmp_path / name for name in ("one.py", "other.py", "third.py"))
    one.write_text('class A:\n    """One."""\n    def f(self):\n        """Two."""\n        return "text"\n')
    other.write_text('class A:\n    """1."""\n\n    def f(self):  # 2\n        return "text"\n')
    third.write_text('class A:\n    def f(self):\n        return "another text"\n')
    assert code.read_source(one).digest == code.read_source(other).digest != code.read_source(third).digest


def test_the_server_the_commands_the_graphs_and_the_engine_redo_nothing(program, redone):
    folders = ["kcnn/serving/server", "pipelines/graphs", "pipelines/engine"]
    paths = [path for folder in folders for path in (program / folder).rglob("*.py")]
    assert len(paths) > len(folders)
    assert redone(*paths) == set()


def test_the_statistics_redo_what_computes_them(redone):
    changed = redone("kcnn/data/validation/statistics.py")
    assert "statistics_gen" in changed
    assert not changed & {"example_gen", "trainer", "tuner", "exporter", "evaluator", "gate", "infra_validator"}


def test_the_layers_redo_what_builds_networks(redone):
    changed = redone("kcnn/nn/layers.py")
    assert {"trainer", "tuner", "pretrainer", "exporter", "label_audit"} <= changed
    assert not changed & {"example_gen", "statistics_gen", "image_scan", "evaluator", "gate"}


def test_a_new_architecture_data_set_or_augmentation_redoes_nothing(redone):
    packages = [
        "kcnn/models",
        "kcnn/weights/torch_names",
        "kcnn/data/datasets",
        "kcnn/data/input_pipeline/augmentations",
    ]
    assert redone(*(f"{package}/brand_new.py" for package in packages)) == set()


def test_an_architecture_redoes_what_was_made_with_it(modules, redone):
    (own,) = modules["trainer"]["model"]
    redone_by_it = {"exporter", "label_audit", "pretrainer", "prober", "rate_finder", "trainer", "transform", "tuner"}
    assert redone(code.find_source(own)) == redone_by_it
    assert redone("kcnn/models/vgg.py", "kcnn/weights/torch_names/vgg.py") == set()


def test_an_augmentation_redoes_what_was_trained_with_it(redone):
    """The recipe has flip and randaugment; a search may try any."""
    package = "kcnn/data/input_pipeline/augmentations"
    assert redone(f"{package}/flip.py") == {"pretrainer", "rate_finder", "trainer", "tuner"}
    assert redone(f"{package}/mixing.py") == {"tuner"}


@pytest.mark.parametrize("registry", [MODELS, TORCH_NAMES, DATASETS, AUGMENTATIONS], ids=lambda registry: registry.kind)
def test_entries_know_the_modules_that_define_them(registry):
    modules = {registry.module(name) for name in registry}
    assert all(code.find_source(module).name != "__init__.py" for module in modules)
    assert len(modules) > 1


def test_an_entry_from_outside_of_the_program_counts(tmp_path, monkeypatch):
    """Packages of registries may be extended by folders elsewhere."""
    (tmp_path / "outside.py").write_text("from kcnn.models import vgg\n")
    monkeypatch.setitem(sys.modules, "outside", types.SimpleNamespace(__file__=str(tmp_path / "outside.py")))
    found = code.reach(Path(code.find_source("kcnn.models.spec")), {"model": ["outside"]})
    assert found["outside"] == tmp_path / "outside.py"
    assert "kcnn.models.vgg" in found


def test_what_is_reached_and_how(tmp_path, monkeypatch):
    """Also what is imported in functions, run as a process of its own, and imported by a name that is put together."""
    files = {
        "pipelines/a.py": (
            "from typing import TYPE_CHECKING\n"
            "from kcnn import b\n"
            "if TYPE_CHECKING:\n    import kcnn.hints\n"
            "else:\n    import kcnn.otherwise\n"
            "def f():\n    from kcnn.c import name\n    return ['python', '-m', 'kcnn.d']\n"
            "import_module('kcnn.e')\n"
        ),
        "kcnn/__init__.py": "import kcnn.unreached",
        "kcnn/b.py": "import kcnn.kinds\nimport numpy",
        "kcnn/c.py": "import pipelines.engine.runner",
        "kcnn/d.py": "",
        "kcnn/e/__init__.py": "def g(x): return importlib.import_module(f'{__name__}.{x}')",
        "kcnn/e/one.py": "",
        "kcnn/hints.py": "",
        "kcnn/otherwise.py": "",
        "kcnn/unreached.py": "",
        "kcnn/kinds/__init__.py": "KINDS: Registry[int] = Registry('kind', 'kcnn.kinds')",
        "kcnn/kinds/one.py": "",
        "kcnn/kinds/two.py": "import kcnn.only_two",
        "kcnn/only_two.py": "",
        "pipelines/engine/runner.py": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(code, "ROOT", tmp_path)
    forget()
    found = list(code.reach(tmp_path / "pipelines" / "a.py"))
    some = list(code.reach(tmp_path / "pipelines" / "a.py", {"kind": ["kcnn.kinds.one"]}))
    monkeypatch.undo()
    forget()
    always = ["kcnn.b", "kcnn.c", "kcnn.d", "kcnn.e", "kcnn.e.one", "kcnn.kinds", "kcnn.kinds.one"]
    assert found == [*always, "kcnn.kinds.two", "kcnn.only_two", "kcnn.otherwise", "pipelines.a"]
    assert some == [*always, "kcnn.otherwise", "pipelines.a"]


def test_no_component_depends_on_half_of_the_program(program, reached):
    """`tests/benchmarks/component_code.py` prints the numbers."""
    total = sum(1 for package in code.PROGRAM for _ in (program / package).rglob("*.py"))
    counts = {name: len(files) for name, files in reached.items()}
    assert max(counts.values()) < total / 2, counts
