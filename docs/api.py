"""A Sphinx directive that shows the signature and the docstring of a function or class, read without importing it.

    ```{api}
    kcnn.create_model
    kcnn.models.spec.ModelSpec
    ```

Griffe parses the sources, so that a build needs neither TensorFlow nor Keras.
"""

import functools
import re
from collections.abc import Iterator
from pathlib import Path

import griffe
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

ROOT = Path(__file__).parents[1]


@functools.cache
def package(name: str) -> griffe.Object | griffe.Alias:
    """Return a package of the project as Griffe has parsed it."""
    return griffe.load(
        name,
        search_paths=[str(ROOT)],
        try_relative_path=False,
        docstring_parser="google",
        docstring_options={"returns_multiple_items": False, "returns_named_value": False},
        allow_inspection=False,
    )


def find(path: str) -> griffe.Object:
    """Return a function, class or attribute; raise KeyError where there is none."""
    top, _, rest = path.partition(".")
    found = package(top)[rest]
    return found.final_target if found.is_alias else found


def as_markdown(path: str) -> str:
    """Return a heading, the signature, and the docstring's sections as Markdown."""
    found = find(path)
    lines = [f"### {path}", "", "```python", _signature(found), "```", ""]
    for section in found.docstring.parsed if found.docstring else ():
        lines += [*_section(section), ""]
    for method in _methods(found):
        lines += ["```python", _signature(method), "```", ""]
        for section in method.docstring.parsed if method.docstring else ():
            lines += [*_section(section), ""]
    return "\n".join(lines)


def _methods(found: griffe.Object) -> list[griffe.Object]:
    """Return a class's public methods and properties that have a docstring."""
    if not found.is_class:
        return []
    members = [member for name, member in found.members.items() if not name.startswith("_") and not member.is_alias]
    properties = [each for each in members if each.is_attribute and "property" in each.labels]
    return [each for each in members if each.is_function and each.docstring] + properties


def _signature(found: griffe.Object) -> str:
    if found.is_function:
        arguments = ",\n    ".join(_parameters(found))
        result = f" -> {found.returns}" if found.returns else ""
        one_line = f"def {found.name}({', '.join(_parameters(found))}){result}"
        return one_line if len(one_line) <= 90 else f"def {found.name}(\n    {arguments},\n){result}"
    if found.is_class:
        bases = ", ".join(str(base) for base in found.bases)
        return f"class {found.name}({bases})" if bases else f"class {found.name}"
    annotation = f": {found.annotation}" if found.annotation else ""
    return f"{found.name}{annotation}"


def _parameters(function: griffe.Function) -> Iterator[str]:
    """Yield each parameter as Python writes it, with the bare * before those that are given by name alone."""
    star = False
    for parameter in function.parameters:
        if parameter.name in ("self", "cls"):
            continue
        kind = parameter.kind
        if kind is griffe.ParameterKind.keyword_only and not star:
            yield "*"
        star = star or kind in (griffe.ParameterKind.keyword_only, griffe.ParameterKind.var_positional)
        stars = {griffe.ParameterKind.var_positional: "*", griffe.ParameterKind.var_keyword: "**"}.get(kind, "")
        text = stars + parameter.name + (f": {parameter.annotation}" if parameter.annotation else "")
        yield text if parameter.default is None or stars else f"{text} = {parameter.default}"


def _section(section: griffe.DocstringSection) -> list[str]:
    kind, value = section.kind, section.value
    if kind is griffe.DocstringSectionKind.text:
        return _paragraphs(value)
    if kind in (griffe.DocstringSectionKind.parameters, griffe.DocstringSectionKind.attributes):
        return [f"**{kind.value.capitalize()}**", "", *(f"- `{row.name}`: {_inline(row.description)}" for row in value)]
    if kind is griffe.DocstringSectionKind.raises:
        return ["**Raises**", "", *(f"- `{row.annotation}`: {_inline(row.description)}" for row in value)]
    if kind in (griffe.DocstringSectionKind.returns, griffe.DocstringSectionKind.yields):
        return [f"**{kind.value.capitalize()}**", "", *(_inline(row.description) for row in value)]
    return [str(value)]


def _paragraphs(text: str) -> list[str]:
    """Return a text as Markdown; indented lines that follow a line at once become a list."""
    lines: list[str] = []
    for line in _escape(text).splitlines():
        indented = line.startswith("    ") and bool(lines) and lines[-1] != ""
        if indented and not line.startswith("        "):
            lines += [*([] if lines[-1].startswith(("- ", "  ")) else [""]), f"- {line.strip()}"]
        else:
            lines.append(f"  {line.strip()}" if indented else line)
    return lines


def _inline(text: str) -> str:
    """Return a description on one line, so that a list in Markdown holds it."""
    return _escape(" ".join(text.split()))


def _escape(text: str) -> str:
    """Return a text in which "<" outside of code begins no HTML."""
    return re.sub(r"(`[^`]*`)|<", lambda match: match[1] or r"\<", text)


class Api(SphinxDirective):
    """The directive: one dotted name a line."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """Return the nodes of all names."""
        shown: list[nodes.Node] = []
        for path in filter(None, (line.strip() for line in self.content)):
            try:
                shown += self.parse_text_to_nodes(as_markdown(path), allow_section_headings=True)
            except (KeyError, griffe.AliasResolutionError):
                raise self.error(f"{{api}}: there is no {path}") from None
            self.env.note_dependency(find(path).filepath)
        return shown


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("api", Api)
    return {"parallel_read_safe": True}
