"""The command line: which command it finds, which flags it takes, what it prints."""

import json
import os
import subprocess
import sys
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from PIL import Image

from pipelines import command_line, commands
from pipelines.command_line import command_names, load_command, run
from tests.endless_files import EMPTY, endless_files, time_limit

ROOT = Path(__file__).parents[2]
COMMAND = '''"""Greet somebody.

python main.py greet --name Ada
"""

from absl import flags

FLAGS = flags.FlagValues()
flags.DEFINE_string("name", "world", "The name.", flag_values=FLAGS)
flags.DEFINE_bool("loud", False, "In capitals.", flag_values=FLAGS)


def run(arguments, values):
    """Print a greeting; return 0."""
    print(f"Hello, {values.name}!", arguments)
    return 0
'''


@pytest.fixture
def greet(tmp_path, monkeypatch):
    """Add a command by a new file."""
    (tmp_path / "greet.py").write_text(COMMAND)
    monkeypatch.setattr(commands, "__path__", [*commands.__path__, str(tmp_path)])
    yield
    load_command.cache_clear()
    sys.modules.pop("pipelines.commands.greet", None)


def test_every_command_has_what_a_command_has():
    assert command_names()[: len(command_line.FIRST)] == list(command_line.FIRST)
    for name in command_names():
        command = load_command(name)
        summary, blank, example = command.__doc__.split("\n")[:3]
        assert summary.endswith(".")
        assert blank == ""
        assert example.startswith(f"python main.py {name}" if name != "train" else "python main.py --")
        assert callable(command.run)
        for flag in command.FLAGS:
            assert command.FLAGS[flag].help, f"{name} --{flag}"


def test_a_command_is_found_because_its_file_exists(greet, capsys):
    assert run(["main.py", "greet", "--name", "Ada", "x"]) == 0
    assert capsys.readouterr().out == "Hello, Ada! ['x']\n"
    assert run(["main.py", "--help"]) == 0
    overview = capsys.readouterr().out
    assert "python main.py greet --name Ada " in overview
    assert "Flags of greet:\n  --name: The name. (default: world)" in overview
    assert run(["main.py", "greet", "--epochs", "1"]) == 2
    assert "--epochs: greet does not read it; it goes with train, pretrain" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["greet", "--name=Ada", "x"],
        ["--name", "Ada", "greet", "x"],
        ["--name=Ada", "greet", "x"],
        ["greet", "x", "-name", "Ada"],
        ["--undefok", "loud", "greet", "x", "--name=Ada"],
        ["--noloud", "greet", "--name", "Ada", "--", "x"],
    ],
)
def test_flags_stand_before_and_behind_the_command_and_its_arguments(greet, arguments, capsys):
    assert run(["main.py", *arguments]) == 0
    assert capsys.readouterr().out == "Hello, Ada! ['x']\n"


def test_a_flag_file_may_hold_flags(greet, tmp_path, capsys):
    (tmp_path / "flags").write_text("--name=Ada\n")
    assert run(["main.py", "greet", f"--flagfile={tmp_path / 'flags'}"]) == 0
    assert capsys.readouterr().out == "Hello, Ada! []\n"


def test_flag_files_lead_to_others(greet, tmp_path, capsys):
    (tmp_path / "one").write_text(f"# of one\n\n  --flagfile={tmp_path / 'two'}\n--loud\n")
    (tmp_path / "two").write_text("// of two\n--name=Ada\n")
    assert run(["main.py", "greet", "--flagfile", str(tmp_path / "one"), "x", "--", "--flagfile=none"]) == 0
    assert capsys.readouterr().out == "Hello, Ada! ['x', '--flagfile=none']\n"


def test_a_flag_file_that_never_ends_is_told(greet, tmp_path, capsys):
    (tmp_path / "itself").write_text(f"--flagfile={tmp_path / 'itself'}\n")
    (tmp_path / "folder").mkdir()
    for name in ["itself", "folder", "", *sorted(set(endless_files(tmp_path)) - {*EMPTY})]:
        with time_limit():
            assert run(["main.py", "greet", f"--flagfile={name and tmp_path / name}"]) == 2
        printed, line = capsys.readouterr()
        assert printed == ""
        assert line.startswith("main.py: error: --flagfile")
        assert line.count("\n") == 1


def test_a_long_error_loses_its_middle(greet, capsys):
    assert run(["main.py", "greet", "--name", "x", f"--{'é' * 10**6}"]) == 2
    assert len(capsys.readouterr().err) < 9000


@pytest.mark.parametrize("content", [b"--name=A\0da\n", b"--name\nA\0da\n", b"--name=\xff\n"])
def test_a_flag_file_that_is_no_text_is_told(greet, tmp_path, content, capsys):
    (tmp_path / "flags").write_bytes(content)
    assert run(["main.py", "greet", f"--flagfile={tmp_path / 'flags'}"]) == 2
    printed, line = capsys.readouterr()
    assert printed == ""
    assert line.startswith("main.py: error: --flagfile: ")
    assert line.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "unknown command 'trian': did you mean 'train' or 'pretrain'?"),
        (["--flagfile=missing", "models"], "--flagfile: "),
        (["--jsn", "models"], "Unknown command line flag 'jsn'. Did you mean: json ?"),
        (["models", "--famly", "x"], "Unknown command line flag 'famly'. Did you mean: family ?"),
        (["data", "--noresume"], "--resume: data does not read it; it goes with train, pretrain"),
        (["predict", "m", "--top", "many"], "flag --top=many: invalid literal for int()"),
        (["predict", "m", "--top"], "Missing value for flag --top"),
        (["predict", "m", "--nojson=1"], "--nojson=1 does not take an argument"),
        (["export", "--min_accuracy", "2"], "flag --min_accuracy=2: 2.0 is not a number in the range [0.0, 1.0]"),
    ],
)
def test_mistakes(arguments, message, capsys):
    assert run(["main.py", *arguments]) == 2
    printed, line = capsys.readouterr()
    assert printed == ""
    assert line.startswith(f"main.py: error: {message}")
    assert line.count("\n") == 1


def test_messages_name_the_program_as_it_was_called(capsys):
    assert run(["/opt/venv/bin/kcnn", "trian"]) == 2
    assert capsys.readouterr().err == "kcnn: error: unknown command 'trian': did you mean 'train' or 'pretrain'?\n"
    assert run(["/opt/venv/bin/kcnn", "train", "photos"]) == 2
    assert capsys.readouterr().err.endswith("see kcnn --help\n")
    assert run(["/opt/venv/bin/kcnn", "serve", "--help"]) == 0
    assert "\nkcnn serve mobilenetv2\n" in capsys.readouterr().out


def test_the_flags_of_serve_are_the_settings_of_the_server():
    from kcnn.serving.server.settings import FLAG_FIELDS

    for field in FLAG_FIELDS:
        flag = load_command("serve").FLAGS[field.name]
        assert (flag.default, flag.help) == (field.default, field.metadata["help"])


def test_help_needs_no_server_and_no_numbers():
    code = (
        "import sys\n"
        "for name in ('tensorflow', 'keras', 'numpy', 'starlette', 'grpc', 'tensorflow_serving'):\n"
        "    sys.modules[name] = None\n"
        "from pipelines.command_line import run\n"
        "sys.exit(run(['main.py', '--help']) or run(['main.py', 'serve', '--help']))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_an_installation_has_the_command_kcnn(tmp_path):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    entry = EntryPoint(name="kcnn", group="console_scripts", value=project["scripts"]["kcnn"])
    assert entry.load() is command_line.main
    program = tmp_path / "kcnn"
    program.write_text(f"import sys\nfrom {entry.module} import {entry.attr}\nsys.exit({entry.attr}())\n")
    environment = {"PYTHONPATH": str(ROOT)}
    for arguments, status in ((["models", "--help"], 0), (["trian"], 2)):
        answers = [
            subprocess.run(
                [sys.executable, str(path), *arguments], capture_output=True, text=True, env=environment, check=False
            )
            for path in (program, ROOT / "main.py")
        ]
        assert [answer.returncode for answer in answers] == [status, status]
        shown = [(answer.stdout + answer.stderr).replace("python main.py", "kcnn") for answer in answers]
        assert shown[0] == shown[1].replace("main.py: ", "kcnn: ")


def program(arguments, redirections="", python=(), **environment):
    """Return the process of a shell that runs the program, with the standard streams that are not redirected."""
    return subprocess.run(
        ["sh", "-c", f'"$@" {redirections}', "sh", sys.executable, *python, str(ROOT / "main.py"), *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        check=False,
    )


def test_help_needs_no_docstrings(capsys):
    commands_of_help = [[], *([name] for name in command_names())]
    code = (
        "import json, sys\n"
        "from pipelines.command_line import run\n"
        "[run(['main.py', *words, '--help']) for words in json.loads(sys.argv[1])]"
    )
    command = [sys.executable, "-OO", "-c", code, json.dumps(commands_of_help)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    for words in commands_of_help:
        assert run(["main.py", *words, "--help"]) == 0
    assert done.stdout == capsys.readouterr().out


@pytest.mark.parametrize(("python", "level"), [((), "1"), ((), "2"), (("-OO",), ""), (("-OO", "-B"), "2")])
def test_the_program_runs_at_every_level_of_optimisation(python, level):
    done = program(["trian", "-OO"], python=python, PYTHONOPTIMIZE=level)
    assert done.returncode == 2
    assert done.stderr.decode() == "main.py: error: unknown command 'trian': did you mean 'train' or 'pretrain'?\n"


@pytest.mark.parametrize("redirections", ["<&-", ">&-", "2>&-", "<&- >&-", "<&- 2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_standard_streams_may_be_closed(redirections):
    done = program(["--help"], redirections)
    assert done.returncode == 0
    assert bool(done.stdout) == (">&-" not in redirections.split())
    assert done.stderr == b""
    done = program(["trian"], redirections)
    assert done.returncode == 2
    assert done.stderr.count(b"\n") == ("2>&-" not in redirections)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
@pytest.mark.parametrize("name", [[], ["runs"]])
def test_a_full_disk_is_told_in_a_line(name):
    done = program([*name, "--help"], "> /dev/full")
    assert done.returncode == 2
    assert done.stderr == b"main.py: error: standard output: No space left on device\n"
    assert program([*name, "--help"], "2> /dev/full").returncode == 0
    done = program([*name, "--nosuch"], "2> /dev/full")
    assert (done.returncode, done.stdout) == (2, b"")
    assert program([*name, "--help"], "> /dev/full 2> /dev/full").returncode == 2


def test_standard_output_that_cannot_be_written_is_told(tmp_path):
    done = program(["--help"], "1< /dev/null")
    assert done.returncode == 2
    assert done.stderr == b"main.py: error: standard output: Bad file descriptor\n"


def test_a_closed_pipe_ends_the_program_quietly():
    done = program(["--help"], "| head -1")
    assert done.stdout == b"Train, export and use an image classifier.\n"
    assert done.stderr == b""


@pytest.mark.parametrize(
    ("environment", "shown"),
    [
        ({"LC_ALL": "C"}, "'café'"),
        ({"LC_ALL": "C", "PYTHONUTF8": "0"}, "'café'"),
        ({"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, "'café'"),
        ({"PYTHONIOENCODING": "ascii"}, r"'caf\xe9'"),
    ],
)
def test_names_are_utf8_in_every_locale(environment, shown):
    done = program(["café"], **environment)
    assert done.stderr.decode().startswith(f"main.py: error: unknown command {shown}: ")


@pytest.mark.slow
def test_classes_keep_their_names_in_a_locale_of_ascii(tmp_path):
    for name in ("café", "thé"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for index in range(5):
            Image.new("RGB", (24, 24), (9 * index, 99, 0)).save(tmp_path / "photos" / name / f"{index}.png")
    done = program(
        ["data", "--dataset", str(tmp_path / "photos"), "--pipeline_root", str(tmp_path / "[root]")],
        "<&- 2>&-",
        LC_ALL="C",
        PYTHONUTF8="0",
        PYTHONOPTIMIZE="2",
    )
    assert done.returncode == 0
    (summary,) = (tmp_path / "[root]").glob("ExampleGen/examples/*/summary.json")
    assert json.loads(summary.read_text(encoding="utf-8"))["labels"] == ["café", "thé"]
