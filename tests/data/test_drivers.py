"""The drivers: all write the same bytes, and a driver that cannot run is one line."""

import functools
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kcnn.data import drivers
from kcnn.errors import UserError

ROOT = Path(__file__).parents[2]

# A data set with copies across labels, given splits or none, other columns and a broken image, through ExampleGen and
# StatisticsGen in many parts and shards.
COMPONENTS = """
if __name__ == "__main__":  # not in the workers
    import dataclasses, functools, os, sys
    from pathlib import Path
    import kcnn.data.examples, kcnn.data.ingestion.ingest
    from kcnn.data import drivers
    from kcnn.data.datasets import DATASETS
    from kcnn.data.datasets.opening import open_dataset
    from pipelines.artifacts.examples import Examples
    from pipelines.artifacts.validation import ExampleStatistics
    from pipelines.components.example_gen import example_gen
    from pipelines.components.statistics_gen import statistics_gen

    def photos():
        digits = open_dataset("digits")
        def sources():
            for index, source in zip(range(400), digits.sources()):
                columns = {"writer": str(index % 7)} if index % 3 else {}
                read = functools.partial(bytes, b"broken") if index == 5 else source.read
                yield dataclasses.replace(source, read=read, columns=columns)
                if index % 50 == 0:
                    label = str((int(source.label) + 1) % 10)
                    yield dataclasses.replace(source, filename=f"copy/{index}.png", label=label)
        return dataclasses.replace(digits, sources=sources, count=408)

    kcnn.data.ingestion.ingest.PART, kcnn.data.examples.SHARD_BYTES = 90, 10_000
    os.cpu_count = lambda: 2
    DATASETS.add("photos", photos)
    for name in sys.argv[1:]:
        drivers._ALONE = 999 if name == "alone" else 3
        beam = drivers.beam_options("DirectRunner", []) if name == "beam" else None
        fingerprint = photos().fingerprint
        node = example_gen(
            dataset="photos", data_dir=None, offline=True, fingerprint=fingerprint, labelled=True, beam=beam
        )
        examples, statistics = Examples(Path(name, "examples")), ExampleStatistics(Path(name, "statistics"))
        statistics.path.mkdir(parents=True)
        node.component.function(**node.parameters, examples=examples)
        port = node.outputs["examples"]
        statistics_gen(examples=port).component.function(examples=examples, statistics=statistics, beam=beam)
"""


@pytest.fixture(scope="module")
def make(tmp_path_factory):
    """Return a function that runs the components in some ways: way → relative name → bytes of both artifacts."""

    def run(*ways):
        folder = tmp_path_factory.mktemp("made")
        (folder / "components.py").write_text(COMPONENTS)
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
        command = [sys.executable, "components.py", *ways]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return {
            way: {
                str(path.relative_to(folder / way)): path.read_bytes()
                for path in (folder / way).rglob("*")
                if path.is_file()
            }
            for way in ways
        }

    return run


@pytest.mark.slow
def test_two_workers_make_what_one_makes(make):
    made = make("alone", "pool")
    assert made["pool"] == made["alone"]
    assert sum(name.startswith("examples/Split-train/") for name in made["alone"]) > 3
    assert {name.split("/")[0] for name in made["alone"]} == {"examples", "statistics"}
    summary = json.loads(made["alone"]["examples/summary.json"])
    assert sum(sum(counts.values()) for counts in summary["counts"].values()) == 407
    assert summary["excluded"] == {"digits/5/0005.png": "not an image"}
    assert "8 images appear under two or more labels" in summary["warnings"]


@pytest.mark.slow
def test_beam_makes_what_this_machine_makes(make):
    pytest.importorskip("apache_beam")
    made = make("alone", "beam")
    assert made["beam"] == made["alone"]


def squares(numbers, task):
    if task < 0:
        raise UserError(f"{task} is negative")
    drivers.advance_progress()
    return numbers[task] ** 2


@pytest.mark.parametrize("count", [2, 9])
@pytest.mark.parametrize("runner", [None, pytest.param("DirectRunner", marks=pytest.mark.slow)])
def test_results_come_in_order_and_mistakes_in_a_line(tmp_path, runner, count):
    if runner:
        pytest.importorskip("apache_beam")
    function = functools.partial(squares, list(range(count)))
    with drivers.open_driver(drivers.beam_options(runner, []), tmp_path) as driver:
        for _ in range(2):
            found = driver(function, range(count), total=count, description="Squares")
            assert list(found) == [number**2 for number in range(count)]
        with pytest.raises(UserError, match=r"^-1 is negative$"):
            list(driver(function, [0, -1, *range(count)], total=count, description="Squares"))
    assert list(tmp_path.iterdir()) == []


def work_or_fail(task):
    if task == "fail":
        raise UserError("failed")
    for _ in range(600):
        time.sleep(0.1)
        drivers.advance_progress()


def test_nobody_works_on_when_one_has_failed():
    start = time.monotonic()
    with pytest.raises(UserError, match="failed"), drivers.local_driver() as driver:
        list(driver(work_or_fail, ["fail", *["work"] * 5], total=3000, description="Working"))
    assert time.monotonic() - start < 30


def die(task):
    os._exit(1)


def test_a_worker_that_is_killed_is_told_of():
    with drivers.local_driver() as driver, pytest.raises(UserError, match="worker process was killed"):
        list(driver(die, range(9), total=9, description="Dying"))


WORKERS = """
import os, sys, time
from kcnn.data import drivers
from work import wait
if __name__ == "__main__":
    with drivers.local_driver() as driver:
        list(driver(wait, [sys.argv[1]] * 9, total=9, description="Waiting"))
"""
WAIT = """
import os, time
from pathlib import Path
def wait(folder):
    Path(folder, str(os.getpid())).touch()
    time.sleep(60)
"""


def test_workers_do_not_outlive_the_process(tmp_path):
    (tmp_path / "run.py").write_text(WORKERS)
    (tmp_path / "work.py").write_text(WAIT)
    (tmp_path / "pids").mkdir()
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{tmp_path}"}
    with subprocess.Popen([sys.executable, tmp_path / "run.py", tmp_path / "pids"], env=environment) as process:
        deadline = time.monotonic() + 60
        while not (workers := list((tmp_path / "pids").iterdir())):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        process.kill()
    while any(Path("/proc", worker.name, "cmdline").exists() for worker in workers):
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("runner", "options", "message"),
    [
        ("FlinkRuner", [], r"--beam_runner 'FlinkRuner': did you mean 'FlinkRunner'\?"),
        ("x", [], "choose from DirectRunner, FlinkRunner, SparkRunner, DataflowRunner"),
        (None, ["--flink_master=a:1"], "--beam_options --flink_master=a:1: expected with --beam_runner"),
    ],
)
def test_what_cannot_run_is_told_before_anything_is_read(runner, options, message):
    with pytest.raises(UserError, match=message) as caught:
        drivers.beam_options(runner, options)
    assert "\n" not in str(caught.value)


def test_beam_that_is_missing_is_told_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    with pytest.raises(UserError, match="pip install 'apache-beam"):
        drivers.beam_options("DirectRunner", [])


def test_a_service_that_is_not_there_is_told_in_a_line(tmp_path, monkeypatch):
    apache_beam = pytest.importorskip("apache_beam")

    def refuse(pipeline):
        raise RuntimeError("no such service:\n\tlocalhost:1")

    monkeypatch.setattr(apache_beam.Pipeline, "run", refuse)
    options = drivers.beam_options("FlinkRunner", ["--flink_master=localhost:1"])
    with drivers.open_driver(options, tmp_path) as driver, pytest.raises(UserError) as caught:
        list(driver(squares, [1], total=1, description="Squares"))
    assert str(caught.value) == (
        "--beam_runner FlinkRunner: cannot be started with --beam_options --flink_master=localhost:1: "
        "RuntimeError: no such service: localhost:1"
    )
    direct = drivers.open_driver(drivers.beam_options("DirectRunner", []), tmp_path)
    with direct as driver, pytest.raises(RuntimeError, match="no such service"):  # not a mistake of the user
        list(driver(squares, [1], total=1, description="Squares"))
    assert list(tmp_path.iterdir()) == []


def test_beam_options_are_split_as_a_shell_does():
    pytest.importorskip("apache_beam")
    found = drivers.beam_options("FlinkRunner", ["--flink_master=a:1 --parallelism 4", "--job_name='my job'"])
    assert found == ["--runner=FlinkRunner", "--flink_master=a:1", "--parallelism", "4", "--job_name=my job"]
