"""Flags that say what becomes of a trained network: its formats, and the gates before it is published."""

from typing import TYPE_CHECKING, Any

from absl import flags

from pipelines.commands.shared.common_flags import define_saved_models

if TYPE_CHECKING:
    from pipelines.graphs.publication import Publication

# The flags that are fields of a Publication, whose defaults stand there.
_FIELDS = (
    "optimize_for",
    "keep_versions",
    "min_accuracy",
    "min_slice_accuracy",
    "allow_worse",
    "max_latency_ms",
    "max_memory_mb",
)


def define_publication(values: flags.FlagValues) -> None:
    """Define the flags that `read_publication` reads."""
    flags.DEFINE_string(
        "optimize_for",
        None,
        "What the published model is made for: latency of single pictures, throughput of many, size on disk, or none. "
        "The first two may compute in bfloat16. (default: latency; of export, as before)",
        flag_values=values,
    )
    flags.DEFINE_list(
        "formats",
        None,
        "What it is written as: savedmodel, and beside it onnx, openvino, tflite-float16, tflite-dynamic, "
        "tflite-int8, tfjs. (default: savedmodel)",
        flag_values=values,
    )
    flags.DEFINE_integer(
        "keep_versions",
        None,
        "Leave only this many versions in the folder, 2 or more. (default: all)",
        flag_values=values,
    )
    flags.DEFINE_float(
        "min_accuracy",
        None,
        "Publish only a model that is right for this part of the test images, from 0 to 1.",
        lower_bound=0.0,
        upper_bound=1.0,
        flag_values=values,
    )
    flags.DEFINE_float(
        "min_slice_accuracy",
        None,
        "The same for every slice of them (class, size, format, label column) that is not too small.",
        lower_bound=0.0,
        upper_bound=1.0,
        flag_values=values,
    )
    flags.DEFINE_bool(
        "allow_worse",
        False,
        "Publish a model too that is worse than the last that was published.",
        flag_values=values,
    )
    flags.DEFINE_float(
        "max_latency_ms",
        None,
        "Publish only a model that answers 95 of 100 requests of one image within this time, on the CPU of this "
        "machine.",
        flag_values=values,
    )
    flags.DEFINE_float(
        "max_memory_mb",
        None,
        "Publish only a model whose serving process has at most this many MiB in memory.",
        flag_values=values,
    )
    define_saved_models(values)


def read_publication(values: flags.FlagValues, name: str, saved_models: str) -> "Publication":
    """Return what becomes of a trained network, to be published under `name` in the folder `saved_models`."""
    from pipelines.graphs.publication import Publication

    given: dict[str, Any] = {field: values[field].value for field in _FIELDS if values[field].present}
    if values.formats is not None:
        given["formats"] = tuple(values.formats)
    return Publication(name=name, saved_models=saved_models, **given)
