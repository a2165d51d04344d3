"""Sphinx' settings for the pages. Build: see .ci/run."""

import sys
import tomllib
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

project = "kcnn"
release = tomllib.loads(Path(__file__).parents[1].joinpath("pyproject.toml").read_text())["project"]["version"]
copyright = "the authors of kcnn, Apache-2.0"

extensions = ["myst_parser", "api"]
myst_heading_anchors = 3
nitpicky = True
smartquotes = False  # quotes in docstrings are code
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"kcnn {release}"
