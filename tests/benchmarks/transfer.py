"""Fine-tuning on few images: kcnn beside what a user would otherwise do, on the same images and the same cores.

    python tests/benchmarks/transfer.py DATA... [--shots 5 10 40 all] [--seeds 3] [--methods NAME...] [--results FILE]

DATA is "digits", or a folder of classes, or one with `train/` and `test/`. Every run is a process of its own, from the
folder of images to its answers on the test images, so that its seconds count all steps: for kcnn, those of the pipeline
up to a published model. A seed draws the training images of each class and everything after them; the test images are
the same in all runs. The table pools the test images of all seeds: accuracy, its 95% interval (Wilson), the worst and
the best seed, and the median seconds.

The methods of kcnn are flags of main.py; `--also` adds more. The others are programs in `transfer_methods/`. PyTorch is
asked where `tests/peers/run torch` has installed it. All that start from ImageNet start from the same weights, those of
EfficientNet-Lite0. With `--results`, each run is kept as a line of JSON, and runs that are there are not made again.
"""

import argparse
import json
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from kcnn.data.datasets.opening import open_dataset
from kcnn.evaluation.metrics import proportion

ROOT = Path(__file__).parents[2]
TORCH = ROOT / ".peers" / "torch"
FLAGS = {
    "scratch": "--model mobilenetv2 --weights none",
    "starter": "--model mobilenetv2 --finetune --weights starter",
    "imagenet": "--model efficientnetlite0 --finetune --weights imagenet",
    "auto": "--model auto --finetune",
}
PROGRAMS = {
    "linear_probe": ["linear_probe.py"],
    "keras_guide": ["keras_guide.py"],
    "torch_sgd": ["torch_finetuning.py", "sgd"],
    "torch_adamw": ["torch_finetuning.py", "adamw"],
}
TEST_SHARE, MOST_TESTED = 0.3, 100  # of a class, where the data have no test images; at most, in any case
Files = dict[str, list[Path]]


def read_folder(folder: Path) -> tuple[Files, Files]:
    """Return the files to draw training images from, and the test images, class by class."""

    def files(root: Path) -> Files:
        return {each.name: sorted(each.iterdir()) for each in sorted(root.iterdir()) if each.is_dir()}

    draw = np.random.default_rng(0).permutation
    if (folder / "test").is_dir():
        pool, tests = files(folder / "train"), files(folder / "test")
    else:
        pool, tests = {}, {}
        for name, paths in files(folder).items():
            cut, shuffled = round(TEST_SHARE * len(paths)), [paths[i] for i in draw(len(paths))]
            tests[name], pool[name] = shuffled[:cut], shuffled[cut:]
    tests = {name: [paths[i] for i in draw(len(paths))[:MOST_TESTED]] for name, paths in tests.items()}
    return pool, tests


def write_digits(folder: Path) -> Path:
    """Write the data set "digits" to a folder of classes."""
    for image in open_dataset("digits").sources():
        path = folder / str(image.label) / Path(image.filename).name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(image.read())
    return folder


def write_split(folder: Path, pool: Files, tests: Files, shots: str, seed: int) -> None:
    """Copy `shots` images of each class, drawn by `seed`, and the test images to `train/` and `test/`."""
    draw = np.random.default_rng(seed).permutation
    count = None if shots == "all" else int(shots)
    drawn = {name: [paths[i] for i in draw(len(paths))[:count]] for name, paths in pool.items()}
    for part, files in (("train", drawn), ("test", tests)):
        for name, paths in files.items():
            (folder / part / name).mkdir(parents=True)
            for path in paths:
                shutil.copy(path, folder / part / name / path.name)


def run_kcnn(flags: str, data: Path, seed: int, folder: Path) -> dict[str, int]:
    """Run main.py in an empty folder; return how many test images the published model gets right."""
    command = [sys.executable, str(ROOT / "main.py"), "--dataset", str(data), "--seed", str(seed), "--offline"]
    call([*command, *shlex.split(flags)], folder)
    (card,) = folder.glob("saved_models/*/1/assets.extra/card.json")
    metrics = json.loads(card.read_text())["test_metrics"]
    return {"correct": round(metrics["top1"]["value"] * metrics["examples"]), "tests": metrics["examples"]}


def run_program(arguments: list[str], data: Path, seed: int, folder: Path) -> dict[str, int]:
    """Run a program of `transfer_methods/`; return what it prints last."""
    name, *rest = arguments
    program = Path(__file__).parent / "transfer_methods" / name
    path = TORCH if name.startswith("torch") else ROOT
    output = call([sys.executable, str(program), str(data), str(seed), *rest], folder, PYTHONPATH=str(path))
    return json.loads(output.splitlines()[-1])


def call(command: list[str], folder: Path, **environment: str) -> str:
    """Run a program in a folder that is its home too; return what it prints."""
    environment = {**os.environ, "HOME": str(folder), **environment}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{shlex.join(command)} failed:\n{done.stderr[-2000:]}")
    return done.stdout


def runs(given: argparse.Namespace, methods: dict[str, Any], known: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Make the runs that are not known, one after the other, and yield all."""
    with tempfile.TemporaryDirectory() as temporary:
        for data in given.data:
            folder = write_digits(Path(temporary) / "digits") if data == "digits" else Path(data)
            pool, tests = read_folder(folder)
            for shots in given.shots:
                for seed in range(given.seeds):
                    split = Path(temporary) / "split"
                    write_split(split, pool, tests, shots, seed)
                    for method, how in methods.items():
                        key = {"data": folder.name, "shots": shots, "seed": seed, "method": method}
                        found = [run for run in known if key.items() <= run.items()]
                        yield found[0] if found else key | measure(how, split, seed)
                    shutil.rmtree(split)


def measure(how: str | list[str], split: Path, seed: int) -> dict[str, Any]:
    """Run a method in a new folder; return its answers and seconds."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        run = run_kcnn if isinstance(how, str) else run_program
        answers = run(how, split, seed, Path(folder))
        return {**answers, "seconds": round(time.monotonic() - began, 1)}


def row(method: str, found: list[dict[str, Any]]) -> str:
    """Return the line of a method for one set of data and one number of images."""
    share = proportion(sum(run["correct"] for run in found), sum(run["tests"] for run in found))
    each = sorted(run["correct"] / run["tests"] for run in found)
    seconds = statistics.median(run["seconds"] for run in found)
    return (
        f"  {method:<14}{share['value']:6.1%} ({share['low']:.1%} to {share['high']:.1%}; "
        f"seeds {each[0]:.1%} to {each[-1]:.1%})  {seconds:5.0f} s"
    )


def main() -> None:
    """Print a line for each method, number of images and set of data."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", help="digits, or folders")
    parser.add_argument("--shots", nargs="+", default=["5", "10", "40", "all"], help="training images of each class")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--methods", nargs="+", default=[*FLAGS, *PROGRAMS], choices=[*FLAGS, *PROGRAMS])
    parser.add_argument("--also", nargs="+", default=[], metavar="NAME=FLAGS", help="more flags of main.py to measure")
    parser.add_argument("--results", type=Path, help="a file of JSON lines")
    given = parser.parse_args()
    methods: dict[str, Any] = {name: (FLAGS | PROGRAMS)[name] for name in given.methods}
    methods |= dict(each.split("=", 1) for each in given.also)
    if not TORCH.is_dir() and any(name.startswith("torch") for name in methods):
        print("PyTorch is left out: `tests/peers/run torch` installs it")
        methods = {name: how for name, how in methods.items() if not name.startswith("torch")}
    kept = given.results and given.results.is_file()
    known = [json.loads(line) for line in given.results.read_text().splitlines()] if kept else []
    groups: dict[tuple[str, str], dict[str, list[dict[str, Any]]]] = {}
    for run in runs(given, methods, known):
        if given.results and run not in known:
            with given.results.open("a") as file:
                file.write(json.dumps(run) + "\n")
        group = groups.setdefault((run["data"], run["shots"]), {name: [] for name in methods})
        group[run["method"]].append(run)
        if all(len(found) == given.seeds for found in group.values()):
            print(f"{run['data']}, {run['shots']} a class, {run['tests']} test images, {given.seeds} seeds")
            print("\n".join(row(*item) for item in group.items()), flush=True)


if __name__ == "__main__":
    main()
