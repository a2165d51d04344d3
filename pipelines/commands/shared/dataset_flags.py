"""Flags that name a data set."""

from absl import flags


def define_dataset(values: flags.FlagValues, default: str) -> None:
    """Define `--dataset` with its default, `--data_dir` and `--offline`."""
    flags.DEFINE_string(
        "dataset",
        default,
        "'digits', 'fractals', 'atoms', 'formulas' or, without labels, 'pictures'; a folder of class "
        "folders, or of train/val/test folders of "
        "them; a CSV or TSV of path,label[,split]; or a tensorflow-datasets name.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "data_dir",
        None,
        "Where tensorflow-datasets keeps its data, or what a CSV's paths are relative to.",
        flag_values=values,
    )
    flags.DEFINE_bool("offline", False, "Attempt no connection, for data or for weights.", flag_values=values)


def define_schema(values: flags.FlagValues) -> None:
    """Define `--schema`."""
    flags.DEFINE_string(
        "schema",
        None,
        "An edited schema.pbtxt of SchemaGen, to validate the data by. (default: inferred)",
        flag_values=values,
    )
