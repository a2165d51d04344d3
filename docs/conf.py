"""Sphinx' settings for the pages. Build: see .ci/run."""

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

project = "kcnn"
release = re.search(r'__version__ = "(.+)"', Path(__file__).parents[1].joinpath("kcnn", "version.py").read_text())[1]
copyright = "the authors of kcnn, Apache-2.0"

extensions = ["myst_parser", "api"]
myst_heading_anchors = 3
nitpicky = True
smartquotes = False  # quotes in docstrings are code
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"kcnn {release}"
