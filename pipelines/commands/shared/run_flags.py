"""Flags of a pipeline's run: where the data components run, what is left out, which part is run."""

import shlex
import sys
from pathlib import Path
from typing import Any

from absl import flags

from kcnn.errors import UserError


def define_part(values: flags.FlagValues) -> None:
    """Define the flags that `part_fields` reads: of Apache Beam, of excluded images, and of the part to run."""
    flags.DEFINE_string(
        "beam_runner",
        None,
        "Where the data components run: DirectRunner, FlinkRunner, SparkRunner or DataflowRunner of Apache Beam. "
        "(default: processes of this machine)",
        flag_values=values,
    )
    flags.DEFINE_multi_string(
        "beam_options", [], "Apache Beam's own options, as in '--flink_master=host:8081'.", flag_values=values
    )
    flags.DEFINE_multi_string(
        "exclude",
        [],
        "A CSV of filename,finding,exclude: images to leave out, those with anything in the last column. The scan's "
        "exclusions.csv and the audit's label_errors.csv are such lists, to be filled in; it may be given for both.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "from",
        None,
        "Run only this component and what takes from it: Trainer, Evaluator, ...",
        flag_values=values,
    )
    flags.DEFINE_string("to", None, "Run only this component and what it takes from.", flag_values=values)
    flags.DEFINE_string(
        "only", None, "Run only this component; what it takes from must be finished.", flag_values=values
    )


def define_resume(values: flags.FlagValues) -> None:
    """Define `--resume`."""
    flags.DEFINE_bool(
        "resume",
        True,
        "Go on where a training of the same settings, data and program was interrupted.",
        flag_values=values,
    )


def job_fields(values: flags.FlagValues) -> dict[str, Any]:
    """Return the fields that every pipeline's job has: where its results lie, and how it was called."""
    return {"pipeline_root": values.pipeline_root, "command": called_as()}


def part_fields(values: flags.FlagValues) -> dict[str, Any]:
    """Return the fields of a job that the flags of `define_part` set."""
    from kcnn.data import drivers

    first, last = _part(values)
    return {
        "beam": drivers.beam_options(values.beam_runner, values.beam_options),
        "exclude": values.exclude,
        "first": first,
        "last": last,
    }


def called_as() -> str:
    """Return the command line of this process as a shell takes it, for the records."""
    program, *arguments = sys.argv
    return shlex.join([*(["python", program] if program.endswith(".py") else [Path(program).name]), *arguments])


def _part(values: flags.FlagValues) -> tuple[str | None, str | None]:
    """Return the first and the last component to run; None for no bound."""
    ends = values["from"].value, values.to
    if values.only is None:
        return ends
    if ends != (None, None):
        raise UserError("--only: expected without --from and --to")
    return values.only, values.only
