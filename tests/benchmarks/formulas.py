"""Images per second that each family of formulas draws and encodes.

Measured on one thread; on all cores as threads, as data sets are read; and as processes.

    python tests/benchmarks/formulas.py [--images 2000]
"""

import argparse
import functools
import itertools
import multiprocessing
import os
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from kcnn.data.datasets.opening import open_dataset


def read(name: str, images: int, parts: int, part: int) -> int:
    """Read every `parts`-th of `images` images that are spread evenly over the classes; return their number."""
    dataset = open_dataset(name)
    chosen = itertools.islice(dataset.sources(), 0, None, dataset.count // images)
    return sum(bool(source.read()) for source in itertools.islice(chosen, part, images, parts))


def rate(mapper: Callable[..., Iterable[int]], name: str, images: int, parts: int) -> tuple[float, float]:
    """Measure images per second when `mapper` reads them in `parts` parts, and processor milliseconds an image."""
    start, busy = time.perf_counter(), time.process_time()
    count = sum(mapper(functools.partial(read, name, images, parts), range(parts)))
    return count / (time.perf_counter() - start), 1000 * (time.process_time() - busy) / count


def main() -> None:
    """Print a line for each family."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=2000)
    images, cores = parser.parse_args().images, os.cpu_count() or 1
    context = multiprocessing.get_context("spawn")  # whatever threads there are do not survive a fork
    with ThreadPoolExecutor(cores) as threads, ProcessPoolExecutor(cores, context) as processes:
        for name in ("fractals", "atoms", "formulas"):
            for mapper in (map, processes.map):
                rate(mapper, name, 10 * cores, cores)  # imports, classes, textures
            one, milliseconds = rate(map, name, images, 1)
            threaded, _ = rate(threads.map, name, images, cores)
            spread, _ = rate(processes.map, name, images, cores)
            print(
                f"{name:9} {one:6.0f} img/s on one thread ({milliseconds:.2f} ms of processor time each), "
                f"{threaded:6.0f} on {cores} threads, {spread:6.0f} on {cores} processes",
                flush=True,
            )


if __name__ == "__main__":
    main()
