"""Single flags that several commands read."""

from absl import flags

from kcnn.serving.server.settings import Settings


def define_saved_models(values: flags.FlagValues) -> None:
    """Define `--saved_models`."""
    flags.DEFINE_string("saved_models", "saved_models", "Folder of the published models.", flag_values=values)


def define_pipeline_root(values: flags.FlagValues) -> None:
    """Define `--pipeline_root`."""
    flags.DEFINE_string("pipeline_root", ".kcnn", "Folder for examples, checkpoints and logs.", flag_values=values)


def define_runtime(values: flags.FlagValues) -> None:
    """Define `--runtime`, a name of `kcnn.serving.prediction.runtimes.RUNTIMES`."""
    flags.DEFINE_string(
        "runtime",
        Settings.runtime,
        "What runs the network: tensorflow, openvino or onnx; the latter two where the model was exported with "
        "--formats openvino or onnx.",
        flag_values=values,
    )


def define_json(values: flags.FlagValues) -> None:
    """Define `--json`."""
    flags.DEFINE_bool("json", False, "A JSON line for each row; of lineage and of two runs, JSON.", flag_values=values)
