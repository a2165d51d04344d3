"""Example shards for tests that make their own images."""

from pathlib import Path

from kcnn.data import examples


def write(directory: Path, split: str, rows: list[examples.Example], count: int = 1) -> list[str]:
    """Write the rows to `count` shards, in ExampleGen's layout; return their paths."""
    paths = [examples.shard_path(directory, split, index, count) for index in range(count)]
    paths[0].parent.mkdir(parents=True, exist_ok=True)
    for index, path in enumerate(paths):
        examples.write_shard(path, rows[index::count], path.parent)
    return list(map(str, paths))
