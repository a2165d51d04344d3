"""The command line: find the command, parse its flags, run it. `python main.py` and `kcnn` both call `main`.

A command is a module of `pipelines.commands`, found because it exists:

    its docstring   the help: a line on what it does, and a line with an example, `python main.py NAME ...`
    FLAGS           the flags that it reads, an `absl.flags.FlagValues`; no other command knows them
    run             the body: takes the arguments that are no flags and the parsed flags; returns the exit status
"""

import ast
import copy
import functools
import importlib
import inspect
import math
import os
import pkgutil
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from absl import flags

from kcnn.documents import read_document
from kcnn.errors import RefusedError, UserError, close_names, nearest
from kcnn.terminal import check_output, guard_streams, print_lines
from pipelines import commands

DEFAULT = "train"  # the command of a command line that names none
# Help lists these first, in this order, and then what else there is.
FIRST = (
    "train",
    "predict",
    "export",
    "serve",
    "pretrain",
    "probe",
    "find_rate",
    "data",
    "preview",
    "label",
    "rollback",
    "models",
    "lineage",
    "runs",
)
HELP_WIDTH = 100
_LINE = 8000  # letters of an error, which may quote a file or a server
_LONGEST_FLAG = 64  # letters
_FLAG_FILES = 10  # that lead to one another
_SPECIAL = {"help": False, "nohelp": False, "h": False, "undefok": True}  # flags of every command → followed by a value


def main() -> int:
    """Run the process's own command line; return the exit status."""
    _open_streams()
    _begin_anew()
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `main.py models | head` ends quietly
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # file names need not be text
    guard_streams()
    return run(sys.argv)


def _open_streams() -> None:
    """Open the standard streams that the caller closed, on nothing: else the next files would become them."""
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is None:
            nothing = os.open(os.devnull, os.O_RDWR)
            os.dup2(nothing, number)
            if nothing != number:
                os.close(nothing)
            os.set_inheritable(number, True)
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115


def _begin_anew() -> None:
    """Start the program again where Python's settings are none that it can work with.

    In a locale such as C, Python may take file names for ASCII: the names of classes are those of folders, and all
    files and reports hold them in UTF-8. keras-cv needs the docstrings that Python drops under PYTHONOPTIMIZE=2.
    """
    needed = {}
    if sys.getfilesystemencoding() != "utf-8":
        needed["PYTHONUTF8"] = "1"
    if sys.flags.optimize > 1:
        needed["PYTHONOPTIMIZE"] = "1"
    if not sys.executable or needed.items() <= os.environ.items():  # it has begun anew, and could not change them
        return
    os.environ.update(needed)
    options = len(sys.orig_argv) - len(sys.argv)  # of Python itself
    kept = [option for option in sys.orig_argv[1:options] if not option.startswith("-O")]
    os.execv(sys.executable, [sys.executable, *kept, *sys.orig_argv[options:]])


def run(argv: Sequence[str]) -> int:
    """Run a command line; print a mistake or an interruption as one line.

    Args:
        argv: the program's path, then flags and arguments.

    Returns:
        the exit status: 0; 1 where a gate refuses the result; 2 after a mistake of the user; 130 after Ctrl-C.
    """
    program = Path(argv[0]).name
    invocation = f"python {program}" if program.endswith(".py") else program
    try:
        status = _run_command(argv[1:], invocation)
        check_output()
        return status
    except KeyboardInterrupt as interruption:
        print_lines("", " ".join(["Interrupted.", *getattr(interruption, "__notes__", [])]), file=sys.stderr)
        return 130
    except RefusedError as error:
        status, line = 1, str(error)
    except UserError as error:
        status, line = 2, f"error: {error}"
    line = line if len(line) <= _LINE else f"{line[: _LINE // 2]} ... {line[-_LINE // 2 :]}"
    print_lines(f"{program}: {line.replace('python main.py', invocation)}", file=sys.stderr)
    return status


def command_names() -> list[str]:
    """Return the names of the commands: the modules of `pipelines.commands`, without its subpackages."""
    found = [module.name for module in pkgutil.iter_modules(commands.__path__) if not module.ispkg]
    return sorted(found, key=lambda name: (FIRST.index(name) if name in FIRST else len(FIRST), name))


@functools.cache
def load_command(name: str) -> ModuleType:
    """Import the module of a command."""
    return importlib.import_module(f"{commands.__name__}.{name}")


def _run_command(arguments: Sequence[str], invocation: str) -> int:
    """Parse the arguments by the flags of their command, and run it or print its help."""
    arguments = list(_read_flag_files(arguments))
    if found := next((argument for argument in arguments if "\0" in argument), None):
        raise UserError(f"--flagfile: {found!r} holds a NUL character; expected text")
    name, rest = _split_command(arguments)
    command = load_command(name or DEFAULT)
    values = copy.deepcopy(command.FLAGS)
    flags.DEFINE_bool("help", False, "Show this help.", short_name="h", flag_values=values)
    others = _parse(name or DEFAULT, values, rest)
    if values.help:
        text = _overview() if name is None else _command_help(command)
        print_lines(*text.replace("python main.py", invocation).split("\n"))
        return 0
    status: int = command.run(others, values)
    return status


def _read_flag_files(arguments: Sequence[str], above: int = 0) -> Iterator[str]:
    """Yield the arguments with the lines of flag files in the place of `--flagfile`, as absl reads them.

    Args:
        arguments: a command line, or the lines of a flag file.
        above: how many flag files led to these arguments.

    Raises:
        UserError: a file cannot be read, or files lead to one another without an end.
    """
    rest = iter(arguments)
    for argument in rest:
        flag, separator, path = argument.partition("=")
        if flag not in ("--flagfile", "-flagfile"):
            yield argument
            if argument == "--":
                break
            continue
        path = os.path.expanduser(path if separator else next(rest, ""))
        if above == _FLAG_FILES:
            raise UserError(f"--flagfile {path}: more than {_FLAG_FILES} files that lead to one another")
        try:
            lines = [line.strip() for line in read_document(path).splitlines()]
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UserError(f"--flagfile: {path or 'no file'}: cannot be read: {reason}") from None
        yield from _read_flag_files([line for line in lines if line and not line.startswith(("#", "//"))], above + 1)
    yield from rest


def _split_command(arguments: Sequence[str]) -> tuple[str | None, list[str]]:
    """Return the command's name, the first argument that is no flag and no flag's value, and the other arguments.

    Returns:
        the name, None where there is none; the arguments without it.
    """
    position = 0
    while position < len(arguments):
        argument = arguments[position]
        if not argument.startswith("-") or not argument.strip("-"):
            if argument not in command_names():
                raise UserError(f"unknown command {argument!r}: {nearest(argument, command_names())}")
            return argument, [*arguments[:position], *arguments[position + 1 :]]
        flag, separator, _ = argument.lstrip("-").partition("=")
        position += 1 if separator or not _takes_value(flag) else 2
    return None, list(arguments)


def _takes_value(flag: str) -> bool:
    """Return whether a flag of any command is followed by its value; raise UserError for a flag of none."""
    if flag in _SPECIAL:
        return _SPECIAL[flag]
    readers = _readers(flag)
    if readers:
        return not load_command(readers[0]).FLAGS[flag].boolean
    if not _readers(flag.removeprefix("no")):
        known = {name for command in command_names() for name in load_command(command).FLAGS}
        raise UserError(_unknown(flag, known))
    return False


def _parse(command: str, values: flags.FlagValues, arguments: Sequence[str]) -> list[str]:
    """Parse the arguments into `values`; return those that are no flags."""
    for argument in arguments:
        name = argument.lstrip("-").partition("=")[0]
        if argument.startswith("-") and len(name) > _LONGEST_FLAG:  # absl would compare it letter by letter
            raise UserError(_unknown(name[:_LONGEST_FLAG], values))
    try:
        return values([command, *arguments])[1:]
    except flags.UnrecognizedFlagError as error:
        flag = next((flag for flag in (error.flagname, error.flagname.removeprefix("no")) if _readers(flag)), None)
        if flag is None:
            raise UserError(_unknown(error.flagname, values)) from None
        readers = ", ".join(_readers(flag))
        raise UserError(f"--{flag}: {command} does not read it; it goes with {readers}") from None
    except (flags.Error, ValueError) as error:
        raise UserError(str(error)) from None


def _readers(flag: str) -> list[str]:
    """Return the names of the commands that read a flag."""
    return [name for name in command_names() if flag in load_command(name).FLAGS]


def _unknown(flag: str, known: Iterable[str]) -> str:
    close = close_names(flag, known)
    suggestion = f". Did you mean: {', '.join(close)} ?" if close else ""
    return f"Unknown command line flag '{flag}'{suggestion}"


def _overview() -> str:
    """Return the help of the program: a line for each command, and all flags by the commands that read them."""
    loaded = {name: load_command(name) for name in command_names()}
    examples = [(_example(command), _summary(command)) for command in loaded.values()]
    width = max(len(example) for example, _ in examples)
    lines = [_summary(commands) + ".", ""]
    lines += [f"{example:<{width}}  {summary}" for example, summary in examples]
    readers: dict[str, list[str]] = {}
    for name, command in loaded.items():
        for text in _flag_helps(command.FLAGS):
            readers.setdefault(text, []).append(name)
    groups: dict[str, list[str]] = {}
    for text, names in readers.items():
        groups.setdefault(", ".join(names), []).append(text)
    for names_text, texts in groups.items():
        lines += [f"\nFlags of {names_text}:", *texts]
    return "\n".join(lines)


def _command_help(command: ModuleType) -> str:
    return "\n".join([_docstring(command).rstrip(), "", *_flag_helps(command.FLAGS)])


def _docstring(module: ModuleType) -> str:
    """Return a module's docstring, from its source where Python has dropped it (`python -OO`)."""
    return module.__doc__ or ast.get_docstring(ast.parse(inspect.getsource(module)), clean=False) or ""


def _summary(command: ModuleType) -> str:
    return _docstring(command).split("\n")[0].rstrip(".")


def _example(command: ModuleType) -> str:
    """Return the example in a command's docstring: the first line that calls the program."""
    return next((line for line in _docstring(command).split("\n") if line.startswith("python main.py")), "")


def _flag_helps(values: flags.FlagValues) -> list[str]:
    return [_flag_help(values[name]) for name in values]


def _flag_help(flag: flags.Flag[Any]) -> str:
    default = ", ".join(flag.default) if isinstance(flag.default, list) else flag.default
    shown = "" if default is False or default in (None, math.inf, "") else f" (default: {default})"
    name = f"--{'[no]' * flag.boolean}{flag.name}"
    return flags.text_wrap(f"{name}: {flag.help}{shown}", HELP_WIDTH, "      ", "  ")
