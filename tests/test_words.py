"""Words: what ruff's rules on docstrings cannot see, and the pages' lines."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted(path for folder in ("kcnn", "pipelines", "tests") for path in ROOT.glob(f"{folder}/**/*.py"))
PAGES = sorted([*ROOT.glob("*.md"), *(path for path in ROOT.glob("docs/**/*.md") if "_build" not in path.parts)])
# A function's docstring begins with a verb. These begin a noun phrase or a clause without a subject.
# fmt: off
BANNED = {
    "a", "all", "an", "and", "as", "behind", "by", "each", "every", "for", "how", "if", "in", "it", "its",
    "likewise", "most", "no", "of", "on", "one", "same", "some", "such", "that", "the", "their", "them", "there",
    "these", "they", "this", "those", "to", "under", "what", "when", "where", "whether", "which", "who", "whose",
    "with", "within", "without",
}
# fmt: on


def name_of(path):
    return str(path.relative_to(ROOT))


def is_property(function):
    names = {getattr(node, "attr", getattr(node, "id", "")) for node in function.decorator_list}
    return bool(names & {"property", "cached_property"})


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_the_docstring_of_a_function_begins_with_a_verb(path):
    wrong = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or is_property(node):
            continue
        words = (ast.get_docstring(node) or "").split()
        if words and words[0].strip(",.:;").lower() in BANNED and not node.name.startswith("test_"):
            wrong.append(f"{node.lineno}: {node.name}: {' '.join(words[:6])}")
    assert wrong == []


@pytest.mark.parametrize("path", [path for path in SOURCES if "tests" not in path.parts], ids=name_of)
def test_what_is_public_has_a_docstring(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    public = [
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
        and "overload" not in map(ast.unparse, node.decorator_list)
        and not node.name.startswith("_")
        and not ast.get_docstring(node)
    ]
    assert public == []
    assert ast.get_docstring(tree) or not tree.body, "a module without a docstring"


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_no_line_of_a_page_is_longer_than_120_characters(path):
    """But for a command that sets everything up, which is copied as one line."""
    lines = path.read_text(encoding="utf-8").splitlines()
    long = [number for number, line in enumerate(lines, start=1) if len(line) > 120]
    assert [number for number in long if not lines[number - 1].startswith("python3 -m venv")] == []
