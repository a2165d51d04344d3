"""Average files of weights: of one training's epochs, or of several trainings from the same start.

python main.py average --to mean.safetensors one.safetensors two.safetensors

Fine-tune or evaluate the mean with --weights mean.safetensors. The files are best.safetensors of a run's Trainer.
"""

from pathlib import Path

from absl import flags

from kcnn.errors import UserError

FLAGS = flags.FlagValues()
flags.DEFINE_string("to", None, "The file to write, a new one that ends in .safetensors.", flag_values=FLAGS)


def run(arguments: list[str], values: flags.FlagValues) -> int:
    """Write the mean; return 0."""
    if len(arguments) < 2:
        raise UserError("average: expected two files or more, as in: average --to mean.safetensors a.safetensors ...")
    if values.to is None or not values.to.endswith(".safetensors"):
        raise UserError(f"--to {values.to}: expected a file to write that ends in .safetensors")
    target, paths = Path(values.to), [Path(argument) for argument in arguments]
    if target.exists():
        raise UserError(f"--to {target}: expected a new file; it exists")
    if not target.parent.is_dir():
        raise UserError(f"--to {target}: expected a file in a folder that exists")
    for path in paths:
        if not path.is_file():
            raise UserError(f"{path}: expected a .safetensors file; there is none")
    from kcnn.terminal import print_lines
    from kcnn.weights.averages import average_files

    average_files(paths, target)
    print_lines(f"Wrote the mean of {len(paths)} files to {target}")
    return 0
