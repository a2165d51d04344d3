"""Time per image and memory of ExampleGen and StatisticsGen, on more and more small images.

    python tests/benchmarks/ingestion.py [10000 100000 1000000]

The images are BMP files of 822 bytes, 16x16 pixels of noise, of a hundred classes, made when they are read. Each number
of them is gone through in a process of its own; the memory is that of the process and all its workers at the worst
moment, from /proc, pages that they share counted for each.
"""

import functools
import json
import os
import random
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from kcnn.data.datasets import DATASETS, Dataset, ImageSource

ROOT = Path(__file__).parents[2]
SIDE, CLASSES = 16, 100
SIZES = (10_000, 100_000)


def image(index: int) -> bytes:
    """Return the bytes of a file."""
    size = 3 * SIDE * SIDE
    header = struct.pack("<2sIIIIiiHHIIiiII", b"BM", 54 + size, 0, 54, 40, SIDE, SIDE, 1, 24, 0, size, 0, 0, 0, 0)
    return header + random.Random(index).randbytes(size)


def noise(count: int) -> Dataset:
    """Return the data set."""
    labels = tuple(f"class{klass:02d}" for klass in range(CLASSES))

    def sources() -> Iterator[ImageSource]:
        for index in range(count):
            label = labels[index * CLASSES // count]
            yield ImageSource(f"{label}/{index:07d}.bmp", label, None, functools.partial(image, index))

    return Dataset(name="noise", labels=labels, sources=sources, count=count, fingerprint=f"noise {count}")


def run(count: int, out: Path) -> dict[str, float]:
    """Run both components, in this process and its workers."""
    from pipelines.artifacts.examples import Examples
    from pipelines.artifacts.validation import ExampleStatistics
    from pipelines.components.example_gen import example_gen
    from pipelines.components.statistics_gen import statistics_gen

    examples, statistics = Examples(out / "examples"), ExampleStatistics(out / "statistics")
    statistics.path.mkdir(parents=True)
    marks = [time.perf_counter()]
    DATASETS.add("noise", functools.partial(noise, count))
    fingerprint = noise(count).fingerprint
    node = example_gen(dataset="noise", data_dir=None, offline=True, fingerprint=fingerprint, labelled=True)
    node.function(**node.parameters, examples=examples)
    marks.append(time.perf_counter())
    statistics_gen(examples=node.outputs["examples"]).function(examples=examples, statistics=statistics)
    marks.append(time.perf_counter())
    assert sum(map(examples.summary().total, ("train", "val", "test"))) == count
    return {
        "ingestion": (marks[1] - marks[0]) / count,
        "statistics": (marks[2] - marks[1]) / count,
        "total": (marks[2] - marks[0]) / count,
    }


def memory(process: int) -> float:
    """Return the resident MiB of a process and its descendants; 0 after its end."""
    try:
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
        children = [
            child for path in Path(f"/proc/{process}/task").glob("*/children") for child in path.read_text().split()
        ]
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20 + sum(memory(int(child)) for child in children)


def measure(count: int, out: str) -> dict[str, float]:
    """Return what `run` returns in another process, and "memory" in MiB."""
    command = [sys.executable, __file__, "--run", str(count), out]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        worst = 0.0
        while process.poll() is None:
            worst = max(worst, memory(process.pid))
            time.sleep(0.2)
        lines = process.stdout.read().splitlines()
    return {**json.loads(lines[-1]), "memory": worst}


def main(sizes: list[int]) -> None:
    """Make the images, measure the components, print the figures."""
    print("   images  images/s  ms/image: ExampleGen  StatisticsGen   both  times the first's  peak MiB")
    first = None
    for size in sizes:
        with tempfile.TemporaryDirectory() as directory:
            found = measure(size, directory)
        first = first or found["total"]
        print(
            f"{size:9d}{1 / found['total']:10.0f}{found['ingestion'] * 1e3:22.3f}"
            f"{found['statistics'] * 1e3:15.3f}{found['total'] * 1e3:7.3f}{found['total'] / first:19.2f}"
            f"{found['memory']:10.0f}",
            flush=True,
        )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--run"]:
        print(json.dumps(run(int(sys.argv[2]), Path(sys.argv[3]))))
    else:
        main([int(size) for size in sys.argv[1:]] or list(SIZES))
