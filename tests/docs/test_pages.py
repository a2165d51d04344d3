"""README and docs: plain Markdown that holds together, and pages that are made from the program and agree with it."""

import importlib.util
import re

import pytest
from markdown import BLOCKS, PAGES, ROOT

LANGUAGES = {"python", "sh", "diff", "text", "{toctree}", "{api}"}
LINK = re.compile(r"!?\[[^\]]*\]\((?P<target>[^)\s]+)\)")


def anchors(page):
    """Return the anchors of a page's headings, as GitHub and MyST name them."""
    lines = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S).splitlines()
    titles = [line.lstrip("#").strip().lower() for line in lines if line.startswith("#")]
    return {re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for match in LINK.finditer(re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)):
        target, _, anchor = match["target"].partition("#")
        if "://" in target:
            continue
        file = (page.parent / target).resolve() if target else page
        assert file.exists(), f"{page}: {match['target']}"
        assert not anchor or anchor in anchors(file), f"{page}: {match['target']}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_lines_are_short(page):
    lines = enumerate(page.read_text().splitlines(), start=1)
    whole = "python3 -m venv .uv && "  # a command that people copy, and .ci/run reads, as one line
    assert [number for number, line in lines if len(line) > 120 and not line.startswith(whole)] == []


def test_the_readme_fits_on_a_few_screens():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120


def test_every_block_names_its_language():
    assert {str(block) for block in BLOCKS if block.language not in LANGUAGES} == set()


def test_files_that_the_pages_name_are_there():
    new = {block.title for block in BLOCKS if block.title} | {"kcnn/weights/torch_names/tinynet.py"}
    new |= {"tests/models/published/tinynet.csv"}
    for page in PAGES:
        for path in re.findall(r"`((?:kcnn|pipelines|tests|docs|\.ci)/[\w./-]+)`", page.read_text()):
            assert path in new or "NAME" in path or (ROOT / path).exists(), f"{page}: {path}"


def load(name):
    """Import a script of docs/, which is no package."""
    specification = importlib.util.spec_from_file_location(f"docs_{name}", ROOT / "docs" / f"{name}.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_the_architectures_page_agrees_with_the_registry():
    script = load("architectures")
    assert script.PAGE.read_text() == script.page(), "run: python docs/architectures.py"


def test_the_drawing_and_the_table_agree_with_the_pipeline():
    script = load("pipeline")
    assert script.PICTURE.read_text() == script.drawing(), "run: python docs/pipeline.py"
    table = (ROOT / "docs" / "pipeline.md").read_text()
    rows = re.findall(r"^\| (\w+) \|", table, flags=re.M)
    assert set(rows) - {"component"} == {node.name for node in script.components()}
