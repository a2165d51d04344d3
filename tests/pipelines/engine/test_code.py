"""The code that components reach: what an edit redoes, on a copy of the program."""

import importlib
import shutil
import types
from pathlib import Path

import pytest

from kcnn.recipes import build
from pipelines.engine import code

ROOT = Path(__file__).parents[3]
NAMES = sorted(path.stem for path in (ROOT / "pipelines" / "components").glob("[!_]*.py"))
MODEL = "lenet5"


def forget():
    for function in (code.find_source, code.digest_source, code._references):
        function.cache_clear()


@pytest.fixture
def program(tmp_path, monkeypatch):
    """A copy of the program, which `pipelines.engine.code` reads instead of the program itself."""
    for package in code.PROGRAM:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__", "starters"))
    monkeypatch.setattr(code, "ROOT", tmp_path)
    forget()
    yield tmp_path
    monkeypatch.undo()
    forget()


@pytest.fixture(scope="module")
def modules():
    """component → the modules that register the entries that it uses, with one network and one data set."""
    config = build("scratch", model=MODEL)
    run = types.SimpleNamespace(config=lambda: config)
    arguments = {"config": config.to_json(), "model": MODEL, "dataset": "digits", "model_run": run}
    components = {name: getattr(importlib.import_module(f"pipelines.components.{name}"), name) for name in NAMES}
    return {name: code.find_entry_modules(component, arguments) for name, component in components.items()}


def reached(program, name, modules):
    return code.reach(program / "pipelines" / "components" / f"{name}.py", modules[name])


def redone(program, modules, path, change):
    """The components whose key changes with a file."""
    before = {name: code.digest_files(reached(program, name, modules)) for name in NAMES}
    old = (program / path).read_text() if (program / path).exists() else None
    (program / path).write_text(change(old or ""))
    forget()
    after = {name: code.digest_files(reached(program, name, modules)) for name in NAMES}
    if old is None:
        (program / path).unlink()
    else:
        (program / path).write_text(old)
    forget()
    return {name for name in NAMES if before[name] != after[name]}


def with_other_code(text):
    return text + "\n_ANOTHER_LINE = 1\n"


def test_comments_docstrings_and_layout_redo_nothing(program, modules):
    before = {name: code.digest_files(reached(program, name, modules)) for name in NAMES}
    for path in [*program.rglob("*.py")]:
        lines = path.read_text().splitlines(keepends=True)
        if lines and lines[0].startswith('"""'):
            lines[0] = f'"""Another: {lines[0][3:]}'
        path.write_text("# a comment\n" + "".join(lines) + "\n\n# and another\n")
    forget()
    assert {name: code.digest_files(reached(program, name, modules)) for name in NAMES} == before


def test_docstrings_of_functions_and_classes_do_not_count(tmp_path):
    one, other, third = (tmp_path / name for name in ("one.py", "other.py", "third.py"))
    one.write_text('class A:\n    """One."""\n    def f(self):\n        """Two."""\n        return "text"\n')
    other.write_text('class A:\n    """1."""\n\n    def f(self):  # 2\n        return "text"\n')
    third.write_text('class A:\n    def f(self):\n        return "another text"\n')
    assert code.digest_source(one) == code.digest_source(other) != code.digest_source(third)


def test_the_server_redoes_nothing(program, modules):
    paths = sorted((program / "kcnn" / "serving" / "server").glob("*.py"))
    assert paths
    assert all(redone(program, modules, path, with_other_code) == set() for path in paths)


def test_neither_do_the_commands_the_graphs_and_the_engine(program, modules):
    paths = [*program.glob("pipelines/graphs/*.py"), *program.glob("pipelines/engine/*.py")]
    assert paths
    assert all(redone(program, modules, path, with_other_code) == set() for path in paths)


def test_statistics_redo_the_components_on_data(program, modules):
    path = Path(code.find_source("kcnn.data.validation.statistics"))
    changed = redone(program, modules, path, with_other_code)
    assert "statistics_gen" in changed
    assert not changed & {"example_gen", "trainer", "tuner", "exporter", "evaluator", "gate", "infra_validator"}


def test_the_layers_redo_what_builds_networks(program, modules):
    changed = redone(program, modules, "kcnn/nn/layers.py", with_other_code)
    assert {"trainer", "tuner", "pretrainer", "exporter", "label_audit"} <= changed
    assert not changed & {"example_gen", "statistics_gen", "image_scan", "evaluator", "gate"}


@pytest.mark.parametrize("path", ["kcnn/models/brand_new.py", "kcnn/weights/torch_names/brand_new.py"])
def test_a_new_architecture_redoes_nothing(program, modules, path):
    assert redone(program, modules, path, with_other_code) == set()


def test_a_new_data_set_redoes_nothing(program, modules):
    assert redone(program, modules, "kcnn/data/datasets/brand_new.py", with_other_code) == set()


def test_an_architecture_redoes_what_was_made_with_it(program, modules):
    own, other = modules["trainer"]["model"], "kcnn/models/vgg.py"
    (module,) = own
    changed = redone(program, modules, code.find_source(module), with_other_code)
    assert {"trainer", "tuner", "pretrainer", "exporter", "label_audit", "transform"} == changed
    assert redone(program, modules, other, with_other_code) == set()


def test_a_component_that_names_no_entries_reaches_all(tmp_path, monkeypatch):
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


def test_no_component_depends_on_half_of_the_program(program, modules):
    total = sum(1 for package in code.PROGRAM for _ in (program / package).rglob("*.py"))
    counts = {name: len(reached(program, name, modules)) for name in NAMES}
    assert max(counts.values()) < total / 2, counts
