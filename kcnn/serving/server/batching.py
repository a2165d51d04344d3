"""Requests of the same signature and the same shapes are joined into batches.

While the model is idle a request runs at once. While it is busy, the requests that arrive wait and run as one batch. A
large request waits in parts of a batch each, and these take turns with the other requests (`turns.py`).
"""

import asyncio
import dataclasses
import time
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from grpc import StatusCode

from kcnn.serving.server.metrics import Metrics
from kcnn.serving.server.models import Servable
from kcnn.serving.server.runtime import Signature
from kcnn.serving.server.settings import Settings
from kcnn.serving.server.status import StatusError
from kcnn.serving.server.turns import Turn, Turns

ROW_WORK = 5 * 10**6  # nanoseconds that a network takes for a row, about
_BATCH_WORK = 10**9  # nanoseconds of a batch of several rows: others wait as long for their turn

Arrays = dict[str, np.ndarray]


@dataclasses.dataclass(eq=False)
class _Task:
    """A request, or a part of a large one, that waits for its turn.

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
    turn: Turn
    answer: asyncio.Future[Arrays]


class Batcher:
    """The queue in front of all models. Its methods belong to one event loop; only the models run in threads."""

    def __init__(self, settings: Settings, metrics: Metrics):
        self._settings = settings
        self._metrics = metrics
        self._timeout = settings.batch_timeout_micros / 1e6
        self._queues: dict[Hashable, list[_Task]] = {}  # none is empty
        # The requests, the oldest first, with those of their tasks that wait.
        self._waiting: dict[int, list[_Task]] = {}
        self._turns = Turns()
        self._idle = settings.num_batch_threads
        self._threads = ThreadPoolExecutor(settings.num_batch_threads, "batch")
        self._running: dict[asyncio.Task, float] = {}  # each batch → when it began

    async def run(
        self, servable: Servable, signature: Signature, inputs: Arrays, works: Sequence[float], client: str = ""
    ) -> Arrays:
        """Return the model's outputs for the inputs of a client.

        `works` are the nanoseconds that each row takes, or the whole request where the signature has no rows.

        Raises:
            StatusError: the model refuses the inputs, or RESOURCE_EXHAUSTED: the queue is full.
        """
        joined = self._settings.enable_batching and signature.batched and len(works) > 0
        self._make_room(client, max(1, len(works)))
        parts = self._parts(works) if joined else [slice(0, max(1, len(works)))]
        turns = self._turns.enter(client, [sum(works[part]) for part in parts])
        loop = asyncio.get_running_loop()
        tasks = []
        for part, turn in zip(parts, turns, strict=True):
            content = {name: array[part] for name, array in inputs.items()} if joined else inputs
            now = loop.time()
            due = now + self._timeout if joined else now
            task = _Task(servable, signature, content, part.stop - part.start, now, due, turn, loop.create_future())
            shapes = tuple(array.shape[1:] for array in content.values())
            key: Hashable = (servable, signature.name, shapes) if joined else task
            self._queues.setdefault(key, []).append(task)
            tasks.append(task)
        number = id(tasks)
        self._waiting[number] = list(tasks)
        self._start_what_is_due()
        if self._timeout and joined:
            loop.call_later(self._timeout, self._start_what_is_due)
        try:
            answers = [await task.answer for task in tasks]
        finally:  # of a request that ends early, nothing is left to do
            for task in tasks:
                task.answer.cancel()
            self._forget(number)
        if len(answers) == 1:
            return answers[0]
        return {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]}

    @property
    def stuck_seconds(self) -> float:
        """The time since any batch began or ended, while there is no idle thread to run one; or 0."""
        return 0.0 if self._idle else asyncio.get_running_loop().time() - max(self._running.values())

    def _parts(self, works: Sequence[float]) -> list[slice]:
        """Cut rows into parts that a batch takes."""
        parts, start, work = [], 0, 0.0
        for row, one in enumerate(works):
            if row > start and (row - start == self._settings.max_batch_size or work + one > _BATCH_WORK):
                parts.append(slice(start, row))
                start, work = row, 0.0
            work += one
        return [*parts, slice(start, len(works))]

    def _make_room(self, client: str, rows: int) -> None:
        """Let a request in. In a full queue, the newest request of the client that waits with the most gives way.

        A request counts as one batch at most, however many rows it has: it takes no more of the queue at a time. Of the
        queue the last quarter is for small requests. Where nothing waits, every request may.

        Raises:
            StatusError: RESOURCE_EXHAUSTED: the queue is full, and no client waits with more.
        """
        batch = self._settings.max_batch_size
        most = self._settings.queue_rows
        most -= most * (min(batch, rows) - 1) // (4 * batch)
        waiting = {number: tasks for number, tasks in self._waiting.items() if tasks}
        sizes = {number: min(batch, sum(task.rows for task in tasks)) for number, tasks in waiting.items()}
        shares = Counter({client: min(batch, rows)})
        for number, size in sizes.items():
            shares[waiting[number][0].turn.name] += size
        full = StatusError(
            StatusCode.RESOURCE_EXHAUSTED, f"the queue is full: {sum(sizes.values())} rows wait; try again later"
        )
        while waiting and shares.total() > most:
            name, share = shares.most_common(1)[0]
            if name == client:
                raise full
            number = next(one for one in reversed(waiting) if waiting[one][0].turn.name == name)
            if share - sizes[number] < shares[client]:
                raise full
            shares[name] -= sizes[number]
            first = waiting.pop(number)[0]
            self._forget(number)
            if not first.answer.done():  # whoever asked may be going
                first.answer.set_exception(full)

    def _forget(self, number: int) -> None:
        """Take a request out of the queue."""
        for task in self._waiting.pop(number, ()):
            key = next(key for key, queue in self._queues.items() if task in queue)
            self._queues[key].remove(task)
            if not self._queues[key]:
                del self._queues[key]
            self._turns.leave(task.turn)
        self._count()

    def _count(self) -> None:
        self._metrics.queue_rows.set(sum(task.rows for tasks in self._waiting.values() for task in tasks))

    def _start_what_is_due(self) -> None:
        """Give the batches whose turn it is to idle threads, except those that still wait to be full."""
        now = asyncio.get_running_loop().time() + 1e-3  # the loop's clock may call a little early
        while self._idle:
            ready = [
                (min(map(_order, queue)), key)
                for key, queue in self._queues.items()
                if min(task.due for task in queue) <= now
                or sum(task.rows for task in queue) >= self._settings.max_batch_size
            ]
            if not ready:
                break
            batch = self._take(min(ready, key=lambda pair: pair[0])[1])
            self._idle -= 1
            running = asyncio.get_running_loop().create_task(self._run(batch))
            self._running[running] = now  # the loop itself would forget it
            running.add_done_callback(self._running.pop)
        self._count()

    def _take(self, key: Hashable) -> list[_Task]:
        """Remove and return the next batch of a queue."""
        batch: list[_Task] = []
        rows, work = 0, 0.0
        for task in sorted(self._queues[key], key=_order):
            if batch and (rows + task.rows > self._settings.max_batch_size or work + task.turn.work > _BATCH_WORK):
                continue
            rows, work = rows + task.rows, work + task.turn.work
            batch.append(task)
        rest = [task for task in self._queues[key] if task not in batch]
        if rest:
            self._queues[key] = rest
        else:
            del self._queues[key]
        for tasks in self._waiting.values():
            tasks[:] = [task for task in tasks if task not in batch]
        self._turns.start(task.turn for task in batch)
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


def _order(task: _Task) -> tuple[float, float, float]:
    """Return the key by which waiting tasks are ordered: whose turn it is, then who came first."""
    return *task.turn.order, task.arrived


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
