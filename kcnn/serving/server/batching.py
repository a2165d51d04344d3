"""Requests of the same signature and the same shapes are joined into batches.

While the model is idle a request runs at once. While it is busy, the requests that arrive wait and run as one batch.
"""

import asyncio
import dataclasses
import time
from collections import deque
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from grpc import StatusCode

from kcnn.serving.server.metrics import Metrics
from kcnn.serving.server.models import Servable
from kcnn.serving.server.runtime import Signature
from kcnn.serving.server.settings import Settings
from kcnn.serving.server.status import StatusError

Arrays = dict[str, np.ndarray]


@dataclasses.dataclass(eq=False)
class _Task:
    """A request, or a part of a large one, that waits.

    Attributes:
        arrived: when it came, in seconds of the loop's clock.
        due: when it may run although its batch is not full; at once where no other request can join it.
        answer: the outputs, once there are any.
    """

    servable: Servable
    signature: Signature
    inputs: Arrays
    rows: int
    arrived: float
    due: float
    answer: asyncio.Future[Arrays]


class Batcher:
    """The queue in front of all models. Its methods belong to one event loop; only the models run in threads."""

    def __init__(self, settings: Settings, metrics: Metrics):
        self._settings = settings
        self._metrics = metrics
        self._timeout = settings.batch_timeout_micros / 1e6
        self._queues: dict[Hashable, deque[_Task]] = {}  # none is empty
        self._rows = 0
        self._idle = settings.num_batch_threads
        self._threads = ThreadPoolExecutor(settings.num_batch_threads, "batch")
        self._running: dict[asyncio.Task, float] = {}  # each batch → when it began

    async def run(self, servable: Servable, signature: Signature, inputs: Arrays, rows: int) -> Arrays:
        """Return the model's outputs for the inputs, of `rows` rows where the signature has rows.

        Raises:
            StatusError: the model refuses the inputs, or RESOURCE_EXHAUSTED: the queue is full.
        """
        most = self._settings.max_batch_size
        joined = self._settings.enable_batching and signature.batched and rows > 0
        if self._rows + rows > self._settings.queue_rows:
            raise StatusError(
                StatusCode.RESOURCE_EXHAUSTED, f"the queue is full: {self._rows} rows wait; try again later"
            )
        starts = range(0, rows, most) if joined else [0]
        loop = asyncio.get_running_loop()
        tasks = []
        for start in starts:
            part = {name: array[start : start + most] for name, array in inputs.items()} if joined else inputs
            size = min(most, rows - start) if joined else max(1, rows)
            now = loop.time()
            due = now + self._timeout if joined else now
            task = _Task(servable, signature, part, size, now, due, loop.create_future())
            shapes = tuple(array.shape[1:] for array in part.values())
            key: Hashable = (servable, signature.name, shapes) if joined else task
            self._queues.setdefault(key, deque()).append(task)
            self._count(task.rows)
            tasks.append(task)
        self._start_what_is_due()
        if self._timeout and joined:
            loop.call_later(self._timeout, self._start_what_is_due)
        try:
            answers = [await task.answer for task in tasks]
        finally:  # of a request that ends early, nothing is left to do
            for task in tasks:
                task.answer.cancel()
            self._forget_cancelled(tasks)
        if len(answers) == 1:
            return answers[0]
        return {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]}

    @property
    def stuck_seconds(self) -> float:
        """The time since any batch began or ended, while there is no idle thread to run one; or 0."""
        return 0.0 if self._idle else asyncio.get_running_loop().time() - max(self._running.values())

    def _count(self, rows: int) -> None:
        self._rows += rows
        self._metrics.queue_rows.set(self._rows)

    def _forget_cancelled(self, tasks: list[_Task]) -> None:
        for key, queue in list(self._queues.items()):
            for task in tasks:
                if task in queue:
                    queue.remove(task)
                    self._count(-task.rows)
            if not queue:
                del self._queues[key]

    def _start_what_is_due(self) -> None:
        """Give the queues that have waited longest to idle threads, except those that still wait for a full batch."""
        now = asyncio.get_running_loop().time() + 1e-3  # the loop's clock may call a little early
        while self._idle:
            ready = [
                (queue[0].arrived, key)
                for key, queue in self._queues.items()
                if queue[0].due <= now or sum(task.rows for task in queue) >= self._settings.max_batch_size
            ]
            if not ready:
                return
            batch = self._take(min(ready, key=lambda pair: pair[0])[1])
            self._idle -= 1
            running = asyncio.get_running_loop().create_task(self._run(batch))
            self._running[running] = now  # the loop itself would forget it
            running.add_done_callback(self._running.pop)

    def _take(self, key: Hashable) -> list[_Task]:
        """Remove and return the next batch of a queue."""
        queue = self._queues[key]
        batch = [queue.popleft()]
        rows = batch[0].rows
        while queue and rows + queue[0].rows <= self._settings.max_batch_size:
            rows += queue[0].rows
            batch.append(queue.popleft())
        if not queue:
            del self._queues[key]
        self._count(-rows)
        return batch

    async def _run(self, batch: list[_Task]) -> None:
        servable, signature = batch[0].servable, batch[0].signature
        self._metrics.batch_rows.labels(servable.name).observe(sum(task.rows for task in batch))

        def run(inputs: Arrays) -> Arrays:
            return servable.model.run(signature.name, inputs)

        def work() -> list[Arrays | Exception]:
            start = time.perf_counter()
            try:
                return _answers(run, batch)
            finally:
                self._metrics.batch_seconds.labels(servable.name).observe(time.perf_counter() - start)

        answers: list[Arrays | Exception]
        try:
            with servable.in_use():  # whoever asked may have gone
                answers = await asyncio.get_running_loop().run_in_executor(self._threads, work)
        except Exception as error:
            answers = [error] * len(batch)
        for task, answer in zip(batch, answers, strict=True):
            if task.answer.done():
                continue
            if isinstance(answer, Exception):
                task.answer.set_exception(answer)
            else:
                task.answer.set_result(answer)
        self._idle += 1
        self._start_what_is_due()

    def close(self) -> None:
        """End the threads when the running batches are done."""
        self._threads.shutdown()


def _answers(run: Callable[[Arrays], Arrays], batch: list[_Task]) -> list[Any]:
    """Return each task's outputs, or its error.

    When the model refuses a batch its halves are asked again, down to the tasks that are to blame.
    """
    if len(batch) == 1:
        try:
            return [run(batch[0].inputs)]
        except StatusError as error:
            return [error]
    joined = {name: np.concatenate([task.inputs[name] for task in batch]) for name in batch[0].inputs}
    try:
        outputs = run(joined)
    except StatusError as error:
        if error.code is not StatusCode.INVALID_ARGUMENT:
            return [error] * len(batch)
        half = len(batch) // 2
        return _answers(run, batch[:half]) + _answers(run, batch[half:])
    ends = np.cumsum([task.rows for task in batch])
    wrong = [name for name, array in outputs.items() if array.shape[:1] != (ends[-1],)]
    if wrong:
        message = f"output {wrong[0]!r} has shape {outputs[wrong[0]].shape} for {ends[-1]} rows"
        return [StatusError(StatusCode.INTERNAL, message)] * len(batch)
    parts = {name: np.split(array, ends[:-1]) for name, array in outputs.items()}
    return [{name: parts[name][index] for name in outputs} for index in range(len(batch))]
