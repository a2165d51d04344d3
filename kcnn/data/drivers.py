"""The two drivers of the data components: a pool of processes on this machine, and Apache Beam.

A data component is a function of a task (a part of the data, or a shard) whose results merge the same in any grouping.
A driver applies the function to the tasks and returns the results in the tasks' order. So the outputs do not depend on
the driver nor on the number of machines. Tasks and results are small. Large results go to files, each written under
another name and renamed (`replacing`), since Beam may run a task twice.

Beam's workers need this program, and the same files under the same paths as the machine that starts it.
"""

import concurrent.futures
import contextlib
import functools
import importlib.util
import multiprocessing
import os
import pickle
import shlex
import signal
import tempfile
import textwrap
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, Protocol, TypeVar

from kcnn.errors import UserError, nearest
from kcnn.progress import bar
from kcnn.startup import import_tensorflow

# Beam's own DirectRunner first tries to download Prism, a program that replaces it, and then uses this runner.
_RUNNERS = {
    "DirectRunner": "apache_beam.runners.portability.fn_api_runner.FnApiRunner",
    "FlinkRunner": "FlinkRunner",
    "SparkRunner": "SparkRunner",
    "DataflowRunner": "DataflowRunner",
}
_GIVEN_UP = -(2**62)  # stands in place of the count of images: the workers exit
_REASON = 1000  # characters of a service's error message
_ALONE = 3  # tasks that this process finishes before another process would have loaded TensorFlow

T = TypeVar("T")
R = TypeVar("R")


class Driver(Protocol):
    """A function that applies a function to tasks and yields the results, in order."""

    def __call__(
        self, function: Callable[[T], R], tasks: Sequence[T], *, total: int | None, description: str
    ) -> Iterator[R]:
        """Run all tasks, with a progress bar.

        Args:
            function: pure, except for the files that it writes; importable by its name. It calls `advance_progress`.
            tasks: the arguments, picklable.
            total: how many images all calls together will report to `advance_progress`.
            description: the progress bar's text.

        Raises:
            UserError: `function` raised it.
        """


def beam_options(runner: str | None, options: Sequence[str]) -> list[str] | None:
    """Return Apache Beam's options for `open_driver`, or None without a runner.

    Args:
        runner: a value of `--beam_runner`.
        options: values of `--beam_options`; each holds one or more of Beam's options, split as by a shell.

    Raises:
        UserError: the runner is unknown, options are given without one, or Beam is not installed.
    """
    if runner is None:
        if options:
            raise UserError(f"--beam_options {options[0]}: expected with --beam_runner, one of {', '.join(_RUNNERS)}")
        return None
    if runner not in _RUNNERS:
        raise UserError(f"--beam_runner {runner!r}: {nearest(runner, _RUNNERS)}")
    if importlib.util.find_spec("apache_beam") is None:
        raise UserError(f"--beam_runner {runner}: Apache Beam is not installed: pip install 'apache-beam>=2.77'")
    return [f"--runner={_RUNNERS[runner]}", *(word for option in options for word in shlex.split(option))]


def open_driver(beam: Sequence[str] | None, folder: Path) -> contextlib.AbstractContextManager[Driver]:
    """Open the driver that `beam_options` select.

    Args:
        beam: Beam's options; None for processes of this machine.
        folder: a folder in which Beam's workers may leave results.
    """
    return local_driver() if beam is None else contextlib.nullcontext(functools.partial(_run_beam, tuple(beam), folder))


_advance: Callable[[int], Any] | None = None


def advance_progress(images: int = 1) -> None:
    """Move the progress bar of the driver that runs the caller; do nothing where the bar is on another machine."""
    if _advance is not None:
        _advance(images)


@contextlib.contextmanager
def local_driver() -> Iterator[Driver]:
    """Open the driver of this machine: this process for few tasks, else one process per core, started once."""
    with contextlib.ExitStack() as stack:

        @functools.cache
        def pool(module: str) -> tuple[concurrent.futures.ProcessPoolExecutor, Any]:
            context = multiprocessing.get_context("spawn")
            done = context.Value("q", 0)
            executor = concurrent.futures.ProcessPoolExecutor(os.cpu_count(), context, _begin_worker, (done, module))
            stack.callback(executor.shutdown, cancel_futures=True)
            stack.callback(setattr, done, "value", _GIVEN_UP)  # first: workers still at work need not finish
            return executor, done

        def run(function: Callable[[T], R], tasks: Sequence[T], *, total: int | None, description: str) -> Iterator[R]:
            with bar(total=total, description=description, unit="img") as progress:
                if len(tasks) <= _ALONE:
                    yield from _run_here(function, tasks, progress.update)
                else:
                    yield from _run_pool(*pool(_module(function)), function, tasks, progress)

        yield run


def _run_here(function: Callable[[T], R], tasks: Sequence[T], update: Callable[[int], Any]) -> Iterator[R]:
    global _advance  # noqa: PLW0603 - tasks find the bar under the same name here and in a pool
    for task in tasks:
        _advance = update
        try:
            result = function(task)
        finally:
            _advance = None
        yield result


def _run_pool(
    executor: concurrent.futures.ProcessPoolExecutor,
    done: Any,
    function: Callable[[T], R],
    tasks: Sequence[T],
    progress: Any,
) -> Iterator[R]:
    done.value = 0
    try:
        for future in [executor.submit(function, task) for task in tasks]:
            while not future.done():
                concurrent.futures.wait([future], timeout=0.2)
                progress.update(done.value - progress.n)
            yield future.result()
    except BrokenProcessPool:
        raise UserError(
            "a worker process was killed, usually because memory ran out; run again with more memory"
        ) from None


def _module(function: Callable[..., Any]) -> str:
    while isinstance(function, functools.partial):
        function = function.func
    return function.__module__


def _begin_worker(done: Any, module: str) -> None:
    global _advance  # noqa: PLW0603

    def add(images: int) -> None:
        with done.get_lock():
            done.value += images
        if done.value < 0:
            os._exit(1)

    def follow_parent() -> None:
        parent = multiprocessing.parent_process()
        if parent is not None:
            parent.join()
        os._exit(1)

    _advance = add
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"  # the accelerator is for the process that trains
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))  # the parent is interrupted too, and reports it
    threading.Thread(target=follow_parent, daemon=True).start()
    import_tensorflow()
    importlib.import_module(module)


def _run_beam(
    options: Sequence[str],
    folder: Path,
    function: Callable[[T], R],
    tasks: Sequence[T],
    *,
    total: int | None,
    description: str,
) -> Iterator[R]:
    from apache_beam.runners.runner import PipelineState

    with (
        tempfile.TemporaryDirectory(dir=folder.absolute(), prefix=".beam-") as results,
        bar(total=len(tasks), description=description, unit="task") as progress,
    ):
        running = _submit(options, functools.partial(_keep, function, results), tasks)
        while not PipelineState.is_terminal(running.state):
            time.sleep(1)
            progress.update(len(os.listdir(results)) - progress.n)
        running.wait_until_finish()
        progress.update(len(tasks) - progress.n)
        for number in range(len(tasks)):
            result, error = pickle.loads(Path(results, str(number)).read_bytes())
            if error is not None:
                raise UserError(error)
            yield result


def _submit(options: Sequence[str], function: Callable[[tuple[int, Any]], None], tasks: Sequence[Any]) -> Any:
    """Start a pipeline that applies `function` to the numbered tasks, and return its running result.

    Raises:
        UserError: the runner's service cannot be reached, or its options are wrong.
    """
    import apache_beam
    from apache_beam.options.pipeline_options import PipelineOptions

    runner = options[0].removeprefix("--runner=")
    try:
        pipeline = apache_beam.Pipeline(options=PipelineOptions(list(options)))
        numbered = pipeline | apache_beam.Create(list(enumerate(tasks))) | apache_beam.Reshuffle()
        numbered | apache_beam.Map(function)
        return pipeline.run()
    except Exception as error:
        if runner == _RUNNERS["DirectRunner"]:  # it needs no service, so the error is one of the work itself
            raise
        given = f" with --beam_options {shlex.join(options[1:])}" if options[1:] else ""
        reason = textwrap.shorten(f"{type(error).__name__}: {error}", _REASON, placeholder=" ...")
        raise UserError(f"--beam_runner {runner}: cannot be started{given}: {reason}") from error


def _keep(function: Callable[[T], R], folder: str, numbered: tuple[int, T]) -> None:
    """Write the result, or the UserError, to a file: runners return no results to the machine that started them."""
    number, task = numbered
    outcome: tuple[R | None, str | None]
    try:
        outcome = function(task), None
    except UserError as error:
        outcome = None, str(error)
    with replacing(Path(folder, str(number))) as partial:
        partial.write_bytes(pickle.dumps(outcome))


@contextlib.contextmanager
def replacing(path: Path, scratch: Path | None = None) -> Iterator[Path]:
    """Yield a temporary name for a file to write, beside `path` or in `scratch`; rename it to `path` at the end."""
    partial = (scratch or path.parent) / f".{path.name}-{uuid.uuid4().hex}"
    try:
        yield partial
        partial.rename(path)
    finally:
        partial.unlink(missing_ok=True)
