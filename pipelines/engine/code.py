"""Reachable code: the part of the program that can change what a component makes.

A component's key holds a digest of the files that its function can reach and of nothing else, so that an edit redoes
what it can change. Files are reached by what stands in them, and none is run for that:

- imports, those inside functions too, but for those under `if TYPE_CHECKING`;
- `import_module` of a literal name, and the module after a literal `"-m"`, which a process of its own runs;
- `import_module(f"{__name__}.…")`: all modules of the package;
- `Registry(kind, "package")`: all modules of the package, for the registry imports them; or, where the component
  names the entries that it uses, only the modules that register those.

A file counts without comments, docstrings and layout. Packages from elsewhere do not count. Neither does
`pipelines.engine`: it runs components, and decides nothing of what they make. The `__init__` of a package counts where
it is imported itself, not as the parent of a module.
"""

import ast
import functools
import hashlib
import inspect
import itertools
import subprocess
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pipelines.engine.component import Component

ROOT = Path(__file__).parents[2]
PROGRAM = ("kcnn", "pipelines")
ENGINE = "pipelines.engine"


@functools.cache
def find_source(module: str) -> Path | None:
    """Return the file of one of the program's modules, or None for any other name."""
    parts = module.split(".")
    if parts[0] not in PROGRAM or module == ENGINE or module.startswith(f"{ENGINE}."):
        return None
    path = ROOT.joinpath(*parts)
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


def _find_loaded(module: str) -> Path | None:
    """Return the file of a module that registers an entry from outside of the program, or None."""
    file = getattr(sys.modules.get(module), "__file__", None)
    return Path(file).resolve() if file is not None else None


def name_module(path: Path) -> str:
    """Return the dotted name of a file of the program; of any other file the name that it has without its suffix."""
    if not path.is_relative_to(ROOT):
        return path.stem
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


class _SourceFile(NamedTuple):
    """What counts of a file.

    Attributes:
        digest: SHA-256 without comments, docstrings and layout.
        imported: names that it imports, each of a module or of something in one.
        registries: (kind, package) of the registries that it makes.
    """

    digest: str
    imported: frozenset[str]
    registries: frozenset[tuple[str, str]]


@functools.cache
def read_source(path: Path) -> _SourceFile:
    """Read a file, once in a process: what was edited since is not what runs."""
    tree = ast.parse(path.read_bytes())
    module = name_module(path)
    imported: set[str] = set()
    registries: set[tuple[str, str]] = set()
    skipped: set[ast.AST] = set()
    for node in ast.walk(tree):  # a parent comes before its children
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and _has_docstring(
            node
        ):
            del node.body[0]
        if node in skipped:
            skipped.update(ast.iter_child_nodes(node))
        elif isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            skipped.update(node.body)
        else:
            imported |= _imports(node, module)
            registries |= _registries(node)
    digest = hashlib.sha256(ast.dump(tree).encode("utf-8", "surrogatepass")).hexdigest()
    return _SourceFile(digest, frozenset(imported), frozenset(registries))


def _has_docstring(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    first = node.body[0] if node.body else None
    return isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)


def _imports(node: ast.AST, module: str) -> set[str]:
    """Return the names that a node imports in a module."""
    match node:
        case ast.Import():
            return {alias.name for alias in node.names}
        case ast.ImportFrom(module=str(parent)):
            submodules = {f"{parent}.{alias.name}" for alias in node.names}
            return submodules if all(map(find_source, submodules)) else {parent, *submodules}
        case ast.Call(args=[ast.Constant(value=str(name)), *_]) if _called(node) == "import_module":
            return {name}
        case ast.Call(args=[ast.JoinedStr(values=[ast.FormattedValue(value=ast.Name("__name__")), *_]), *_]):
            return set(_modules_of(module)) if _called(node) == "import_module" else set()
        case ast.List(elts=words) | ast.Tuple(elts=words):
            texts = [str(word.value) if isinstance(word, ast.Constant) else "" for word in words]
            return {after for word, after in itertools.pairwise(texts) if word == "-m"}
    return set()


def _registries(node: ast.AST) -> set[tuple[str, str]]:
    """Return the kind and the package of the registry that a node makes, if it does."""
    match node:
        case ast.Call(args=[ast.Constant(value=str(kind)), ast.Constant(value=str(package)), *_]):
            return {(kind, package)} if _called(node) == "Registry" else set()
    return set()


def _called(call: ast.Call) -> str:
    """Return the last part of the name of what is called: "Registry" for `registry.Registry[T](...)`."""
    function = call.func.value if isinstance(call.func, ast.Subscript) else call.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _modules_of(package: str) -> list[str]:
    """Return the names of the modules that lie in one of the program's packages."""
    source = find_source(package)
    if source is None or source.name != "__init__.py":
        return []
    return [f"{package}.{path.stem}" for path in sorted(source.parent.glob("*.py")) if path.stem != "__init__"]


def reach(start: Path, entries: Mapping[str, Collection[str]] | None = None) -> dict[str, Path]:
    """Find the files that the code in a file can reach.

    Args:
        start: the file, which need not be one of the program's.
        entries: registry's kind → the modules that count among those of its package; of a registry that is not named
            here all count.

    Returns:
        name of a module → its file, sorted, with the start's own.
    """
    entries = entries or {}
    found = {name_module(start): start}
    waiting = [start]
    while waiting:
        source = read_source(waiting.pop())
        discovered = [name for kind, package in source.registries for name in entries.get(kind, _modules_of(package))]
        for name in [*source.imported, *discovered]:
            path = find_source(name) or (_find_loaded(name) if name in discovered else None)
            if path is not None and name not in found:
                found[name] = path
                waiting.append(path)
    return dict(sorted(found.items()))


def reach_component(component: Component, arguments: Mapping[str, Any]) -> dict[str, Path]:
    """Find the files that a component can reach.

    Args:
        component: the component.
        arguments: its parameters and input artifacts, by which it names the entries of registries that it uses.

    Returns:
        as `reach`.
    """
    return reach(find_start(component), find_entry_modules(component, arguments))


def find_start(component: Component) -> Path:
    """Return the file of a component's function."""
    return Path(inspect.getfile(component.function)).resolve()


def find_entry_modules(component: Component, arguments: Mapping[str, Any]) -> dict[str, set[str]]:
    """Return registry's kind → the modules of the entries that a component uses, for `reach`."""
    entries = component.entries(**arguments) if component.entries is not None else {}
    return {registry.kind: {registry.module(name) for name in names} for registry, names in entries.items()}


def digest_files(files: Mapping[str, Path]) -> str:
    """Return the SHA-256 of the names and the code of what `reach` found."""
    digest = hashlib.sha256()
    for name, path in files.items():
        digest.update(f"{name} {read_source(path).digest}\n".encode())
    return digest.hexdigest()


@functools.cache
def describe_commit() -> str | None:
    """Return the commit of the program's checkout, "-dirty" where it was changed; None where it is no checkout."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
