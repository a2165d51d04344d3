"""Train, export and use an image classifier.

python main.py --model mobilenetv2 --finetune              train on a data set, publish to saved_models/mobilenetv2/1
python main.py predict mobilenetv2 a.jpg dir/              the top classes of pictures
python main.py export mobilenetv2 --formats onnx           the same network in another form, as the next version
python main.py serve mobilenetv2                           a server with TensorFlow Serving's APIs, and a page
python main.py pretrain --model mobilenetv2                weights to start from, of images that formulas draw
python main.py data --dataset photos/                      what is in a data set, and what in it hurts a classifier
python main.py label mobilenetv2 stable=3 canary=4          which version clients get that ask for a label
python main.py rollback mobilenetv2 3                      serves an earlier version again
python main.py models [--family resnet] [--max_params 10]  the architectures: paper, cost, accuracy, weights
python main.py lineage saved_models/mobilenetv2/3          what made it: data, code, parameters, evaluation, weights
python main.py runs [3 5]                                  the runs of the pipeline, or what differs between two
"""

import json
import math
import os
import shlex
import signal
import sys
from pathlib import Path
from typing import Any

from absl import flags

from kcnn.config import SETTINGS, Config
from kcnn.errors import RefusedError, UserError, nearest
from kcnn.progress import import_quietly
from kcnn.tables import one_line

FLAGS = flags.FLAGS
flags.DEFINE_bool("help", False, "Show this help.", short_name="h")
# The commands → the flags that they read. A flag goes under the commands that are to know it; no other takes it.
GROUPS = {
    "train, pretrain, data": [
        flags.DEFINE_string(
            "dataset",
            "digits",
            "'digits', 'fractals', 'atoms' or 'formulas'; a folder of class folders, or of train/val/test folders of "
            "them; a CSV or TSV of path,label[,split]; or a tensorflow-datasets name. (with pretrain: fractals)",
        ),
        flags.DEFINE_string(
            "data_dir", None, "Where tensorflow-datasets keeps its data, or what a CSV's paths are relative to."
        ),
        flags.DEFINE_bool("offline", False, "Attempt no connection, for data or for weights."),
        flags.DEFINE_string(
            "beam_runner",
            None,
            "Where the data components run: DirectRunner, FlinkRunner, SparkRunner or DataflowRunner of Apache Beam. "
            "(default: processes of this machine)",
        ),
        flags.DEFINE_multi_string("beam_options", [], "Apache Beam's own options, as in '--flink_master=host:8081'."),
        flags.DEFINE_multi_string(
            "exclude",
            [],
            "A CSV of filename,finding,exclude: images to leave out, those with anything in the last column. The "
            "scan's exclusions.csv and the audit's label_errors.csv are such lists, to be filled in; it may be given "
            "for both.",
        ),
        flags.DEFINE_string("from", None, "Run only this component and what takes from it: Trainer, Evaluator, ..."),
        flags.DEFINE_string("to", None, "Run only this component and what it takes from."),
        flags.DEFINE_string("only", None, "Run only this component; what it takes from must be finished."),
    ],
    "train, data": [
        flags.DEFINE_string(
            "schema",
            None,
            "An edited schema.pbtxt of SchemaGen, to validate the data by. (default: inferred)",
        ),
    ],
    "train, pretrain": [
        flags.DEFINE_string("model", "mobilenetv2", "The architecture: a name that `python main.py models` lists."),
        flags.DEFINE_multi_string(
            "design", [], "NAME=VALUE: an argument of the architecture (width=0.5, dropout=0.3, norm=group)"
        ),
        flags.DEFINE_string("recipe", None, "How to train: scratch, finetune, linear_probe. (default: scratch)"),
        flags.DEFINE_string(
            "weights",
            None,
            "What to start from: imagenet, starter (ships with the project), a file, none, or auto (the first of these "
            "that can be had; the default with --finetune).",
        ),
        flags.DEFINE_integer(
            "unfreeze", None, "Fine-tune only this many of the backbone's last stages. (default: all)"
        ),
        flags.DEFINE_integer("epochs", None, "Epochs of the last phase. (default: the recipe's)"),
        flags.DEFINE_list(
            "augment",
            None,
            "Augmentations of the last phase, of flip, randaugment, cutmix, mixup, cutmix_mixup; '' for none. "
            "(default: the recipe's)",
        ),
        flags.DEFINE_integer(
            "image_size", None, "Height and width in pixels. (default: by the images and the architecture)"
        ),
        flags.DEFINE_float("learning_rate", None, "Peak learning rate of the last phase. (default: the recipe's)"),
        flags.DEFINE_string("optimizer", None, "adamw or sgd. (default: the recipe's)"),
        flags.DEFINE_float("weight_decay", None, "Decoupled, on kernels only. (default: the recipe's)"),
        flags.DEFINE_float("label_smoothing", None, "From 0 to 1. (default: the recipe's)"),
        flags.DEFINE_string("batch_norm", None, "In layers that train: 'train' or 'frozen'. (default: the recipe's)"),
        flags.DEFINE_integer(
            "patience", None, "Stop a phase after this many epochs without improvement. (default: the recipe's)"
        ),
        flags.DEFINE_string(
            "dtype", None, "float32, mixed_bfloat16 or mixed_float16 while training. (default: float32)"
        ),
        flags.DEFINE_integer("seed", None, "Of initialisation, order and augmentation. (default: 0)"),
        flags.DEFINE_bool(
            "resume", True, "Go on where a training of the same settings, data and program was interrupted."
        ),
    ],
    "train": [
        flags.DEFINE_bool(
            "finetune", False, "Start from pretrained weights: the head first, then the backbone. As --recipe finetune."
        ),
        flags.DEFINE_integer(
            "tune",
            0,
            "Try this many settings first, of learning rate, weight decay, label smoothing, batch size, augmentation, "
            "as far as no flag gives them, and train with the best. (2 or more; 0 for none)",
        ),
        flags.DEFINE_string("name", None, "Name to publish under. (default: the model's)"),
    ],
    "train, export": [
        flags.DEFINE_string(
            "optimize_for",
            None,
            "What the published model is made for: latency of single pictures, throughput of many, size on disk, or "
            "none. The first two may compute in bfloat16. (default: latency; of export, as before)",
        ),
        flags.DEFINE_list(
            "formats",
            ["savedmodel"],
            "What it is written as: savedmodel, and beside it onnx, openvino, tflite-float16, tflite-dynamic, "
            "tflite-int8, tfjs.",
        ),
        flags.DEFINE_integer(
            "keep_versions", None, "Leave only this many versions in the folder, 2 or more. (default: all)"
        ),
        flags.DEFINE_float(
            "min_accuracy",
            0.0,
            "Publish only a model that is right for this part of the test images, from 0 to 1.",
            lower_bound=0.0,
            upper_bound=1.0,
        ),
        flags.DEFINE_float(
            "min_slice_accuracy",
            0.0,
            "The same for every slice of them (class, size, format, label column) that is not too small.",
            lower_bound=0.0,
            upper_bound=1.0,
        ),
        flags.DEFINE_bool("allow_worse", False, "Publish a model too that is worse than the last that was published."),
        flags.DEFINE_float(
            "max_latency_ms",
            None,
            "Publish only a model that answers 95 of 100 requests of one image within this time, on the CPU of this "
            "machine.",
        ),
        flags.DEFINE_float(
            "max_memory_mb", None, "Publish only a model whose serving process has at most this many MiB in memory."
        ),
    ],
    "train, pretrain, predict": [
        flags.DEFINE_integer(
            "batch_size",
            None,
            "Images a step, over all devices; of predict, in a request. (default: the recipe's; of predict, 32)",
        ),
    ],
    "train, export, predict, serve, label, rollback": [
        flags.DEFINE_string("saved_models", "saved_models", "Folder of the published models."),
    ],
    "predict": [
        flags.DEFINE_bool(
            "csv", False, "Comma-separated values with a header: file, error, class_1, probability_1, ..."
        ),
        flags.DEFINE_integer("top", 5, "How many classes to name."),
        flags.DEFINE_string(
            "files_from", None, "A file with a picture, folder, pattern or URL a line; - for standard input."
        ),
        flags.DEFINE_bool("allow_urls", False, "Fetch pictures that are http or https URLs."),
        flags.DEFINE_bool(
            "allow_private_redirects",
            False,
            "With --allow_urls, also where a server redirects to an address that is not public.",
        ),
    ],
    "pretrain": [
        flags.DEFINE_string("objective", None, "classes, or rotation, which needs no labels. (default: classes)"),
    ],
    "train, pretrain, data, export, lineage, runs": [
        flags.DEFINE_string("pipeline_root", ".kcnn", "Folder for examples, checkpoints and logs."),
    ],
    "models": [
        flags.DEFINE_string("family", None, "Only those of this family."),
        flags.DEFINE_float("max_params", math.inf, "Only those of at most this many million parameters."),
        flags.DEFINE_float("max_macs", math.inf, "Only those of at most this many billion multiply-adds an image."),
    ],
    "lineage": [
        flags.DEFINE_string("drawing", None, "An SVG file to draw it in."),
    ],
    "serve": [
        flags.DEFINE_integer("port", 8500, "Of gRPC; 0 for any that is free."),
        flags.DEFINE_integer("rest_api_port", 8501, "Of the REST API and the page; 0 for any that is free."),
        flags.DEFINE_string("host", "127.0.0.1", "Address to listen on; 0.0.0.0 to serve other machines too."),
        flags.DEFINE_string("model_name", None, "The model's name in requests. (default: the argument)"),
        flags.DEFINE_string(
            "model_base_path",
            None,
            "The folder of its versions, the newest of which is served. (default: that of its name in --saved_models)",
        ),
        flags.DEFINE_string(
            "model_config_file", None, "TensorFlow Serving's models.config instead: several models, versions, labels."
        ),
        flags.DEFINE_bool("enable_batching", True, "Join requests into batches while the model is busy."),
        flags.DEFINE_integer("max_batch_size", 32, "Images in a batch."),
        flags.DEFINE_integer(
            "batch_timeout_micros", 0, "How long an idle model waits for a batch to fill, in microseconds."
        ),
        flags.DEFINE_integer(
            "max_enqueued_batches", 8, "Full batches that may wait; beyond it requests are refused (429)."
        ),
        flags.DEFINE_integer("num_batch_threads", 2, "Batches that run at once."),
        flags.DEFINE_integer("max_request_bytes", 16 * 2**20, "Larger requests are refused (413)."),
        flags.DEFINE_integer("max_pixels", 50_000_000, "Larger images are refused (400), by their header."),
        flags.DEFINE_integer("rest_api_timeout_in_ms", 30_000, "A request that takes longer is given up (504)."),
        flags.DEFINE_float("file_system_poll_wait_seconds", 1.0, "Between two looks for new versions."),
        flags.DEFINE_float("drain_seconds", 30.0, "What is in flight at SIGTERM has this long to be answered."),
    ],
    "predict, serve": [
        flags.DEFINE_enum(
            "runtime",
            "tensorflow",
            ["tensorflow", "openvino", "onnx"],
            "What runs the network: TensorFlow, OpenVINO or ONNX Runtime; the latter two where the model was exported "
            "with --formats openvino or onnx.",
        ),
    ],
    "predict, models, lineage, runs": [
        flags.DEFINE_bool("json", False, "A JSON line for each row; of lineage and of two runs, JSON."),
    ],
}
GATES = ["keep_versions", "min_accuracy", "min_slice_accuracy", "allow_worse", "max_latency_ms", "max_memory_mb"]
READ_BY = {flag.name: commands.split(", ") for commands, group in GROUPS.items() for flag in group}
HELP_WIDTH = 100


def main(argv: list[str]) -> int:
    """Runs one command; returns the exit status."""
    command, *arguments = argv[1:] or ["train"]
    if command not in COMMANDS:
        raise UserError(f"unknown command {command!r}: {nearest(command, COMMANDS)}")
    if FLAGS.help:
        print(_help(command if argv[1:] else None))
        return 0
    for name, commands in READ_BY.items():
        if FLAGS[name].present and command not in commands:
            raise UserError(f"--{name}: {command} does not read it; it goes with {', '.join(commands)}")
    if command not in WITHOUT_TENSORFLOW:
        _import_tensorflow_quietly()
    return COMMANDS[command](arguments)


def _help(command: str | None) -> str:
    """The flags of a command, or what there is."""
    lines = [__doc__ if command is None else f"python main.py {command}: {COMMANDS[command].__doc__}"]
    for commands, group in GROUPS.items():
        if command is None or command in commands.split(", "):
            lines += [f"\nFlags of {commands}:"] if command is None else []
            lines += [_flag_help(FLAGS[flag.name]) for flag in group]
    return "\n".join(lines)


def _flag_help(flag: flags.Flag) -> str:
    default = "" if flag.default in (None, False, math.inf, []) else f" (default: {flag.default})"
    name = f"--{'[no]' * flag.boolean}{flag.name}"
    return flags.text_wrap(f"{name}: {flag.help}{default}", HELP_WIDTH, "      ", "  ")


def _import_tensorflow_quietly() -> None:
    """TensorFlow writes to the terminal while it loads, before any setting of its own is read."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ.pop("TF_USE_LEGACY_KERAS", None)  # keras-cv breaks under it
    import_quietly("tensorflow")


def train(arguments: list[str]) -> int:
    """The main job."""
    if arguments:
        raise UserError(f"unexpected argument {arguments[0]!r}: flags begin with --; see python main.py --help")
    if FLAGS.finetune and FLAGS.recipe not in (None, "finetune"):
        raise UserError(f"--finetune and --recipe {FLAGS.recipe}: expected one of the two")
    config = _config(FLAGS.recipe or ("finetune" if FLAGS.finetune else "scratch"))
    from kcnn.models.spec import model_spec
    from pipelines.graphs import image_classification

    job = image_classification.Job(
        config=config,
        publication=_publication(FLAGS.name or model_spec(config.model).name, FLAGS.saved_models),
        schema=FLAGS.schema,
        tune=FLAGS.tune,
        **_call(),
    )
    image_classification.run(job)
    return 0


def export(arguments: list[str]) -> int:
    """Publishes a network that was trained before in other formats or for another purpose, as the next version."""
    if len(arguments) != 1:
        raise UserError("export: expected a model's name or a version, as in: export saved_models/mobilenetv2/3")
    from kcnn.serving.publishing import versions

    version = versions.find(versions.named(arguments[0], FLAGS.saved_models))
    _import_tensorflow_quietly()
    from pipelines.graphs import export, job

    export.run(job.Job(**_call()), version, _publication(version.parent.name, str(version.parent.parent)))
    return 0


def _publication(name: str, saved_models: str) -> Any:
    """What becomes of a trained network."""
    from pipelines.graphs.publication import Publication

    settings = {setting: FLAGS[setting].value for setting in ("optimize_for", *GATES)}
    return Publication(name=name, saved_models=saved_models, formats=tuple(FLAGS.formats), **settings)


def pretrain(arguments: list[str]) -> int:
    """Makes weights to start from."""
    if arguments:
        raise UserError(f"unexpected argument {arguments[0]!r}: flags begin with --; see python main.py --help")
    from pipelines.graphs import pretraining

    config = _config(FLAGS.recipe or "pretrain")
    pretraining.run(pretraining.Job(config=config, **_call()))
    return 0


def data(arguments: list[str]) -> int:
    """Looks at a data set."""
    if arguments:
        raise UserError(f"data: unexpected argument {arguments[0]!r}; expected data --dataset DIR")
    from pipelines.graphs import data

    job = data.Job(
        dataset=FLAGS.dataset,
        data_dir=FLAGS.data_dir,
        offline=FLAGS.offline,
        schema=FLAGS.schema,
        **_call(),
    )
    data.run(job)
    return 0


def _config(recipe: str) -> Config:
    """The recipe with the settings that the flags give."""
    from kcnn import recipes

    overrides = {name: FLAGS[name].value for name in SETTINGS if name in FLAGS and FLAGS[name].present}
    if FLAGS.design:
        overrides["design"] = dict(map(_design, FLAGS.design))
    if FLAGS.augment is not None:
        overrides["augmentations"] = tuple(FLAGS.augment)
    return recipes.build(recipe, **overrides)


def _part() -> tuple[str | None, str | None]:
    """The first and the last component to run."""
    ends = FLAGS["from"].value, FLAGS.to
    if FLAGS.only is None:
        return ends
    if ends != (None, None):
        raise UserError("--only: expected without --from and --to")
    return FLAGS.only, FLAGS.only


def _call() -> dict[str, Any]:
    """What every pipeline's job says of how it was called."""
    from kcnn.data import drivers

    first, last = _part()
    return {
        "pipeline_root": FLAGS.pipeline_root,
        "command": shlex.join(["python", *sys.argv]),
        "beam": drivers.beam_options(FLAGS.beam_runner, FLAGS.beam_options),
        "exclude": FLAGS.exclude,
        "resume": FLAGS.resume,
        "first": first,
        "last": last,
    }


def _design(setting: str) -> tuple[str, Any]:
    name, separator, value = setting.partition("=")
    if not separator:
        raise UserError(f"--design {setting!r}: expected NAME=VALUE, as in --design width=0.5")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def predict(arguments: list[str]) -> int:
    """Prints the top classes of each picture: files, folders, 'quoted/*.patterns', - for one from standard input, URLs;
    2 when one could not be answered.
    """
    from kcnn.serving.prediction import command, runtimes
    from kcnn.serving.publishing import versions

    model, *pictures = arguments or [""]
    batch_size = 32 if FLAGS.batch_size is None else FLAGS.batch_size
    if FLAGS.json and FLAGS.csv:
        raise UserError("--json and --csv: expected one of the two")
    command.check(pictures, FLAGS.files_from, FLAGS.top, batch_size, FLAGS.allow_urls, FLAGS.allow_private_redirects)
    version = versions.find(versions.named(model, FLAGS.saved_models))
    runtimes.find(FLAGS.runtime, version)
    _import_tensorflow_quietly()
    import kcnn

    failed = command.run(
        kcnn.load_classifier(version, FLAGS.runtime),
        pictures,
        files_from=FLAGS.files_from,
        layout="json" if FLAGS.json else "csv" if FLAGS.csv else "text",
        top=FLAGS.top,
        batch_size=batch_size,
        allow_urls=FLAGS.allow_urls,
        private_redirects=FLAGS.allow_private_redirects,
    )
    return 2 if failed else 0


def label(arguments: list[str]) -> int:
    """Puts the labels stable and canary on versions, as in stable=3 canary=highest, and prints what there is."""
    if not arguments:
        raise UserError("label: expected a model's name, as in: label mobilenetv2")
    from kcnn.serving.publishing import release, versions

    release.label(versions.published(versions.named(arguments[0], FLAGS.saved_models)), arguments[1:])
    return 0


def rollback(arguments: list[str]) -> int:
    """Publishes an earlier version again, under the next number, by which it is the served one; removes nothing."""
    if len(arguments) != 2 or not arguments[1].isdecimal():
        raise UserError("rollback: expected a model's name and a version, as in: rollback mobilenetv2 3")
    from kcnn.serving.publishing import release, versions

    folder = versions.published(versions.named(arguments[0], FLAGS.saved_models))
    release.rollback(folder, int(arguments[1]), shlex.join(["python", *sys.argv]))
    return 0


def serve(arguments: list[str]) -> int:
    """Answers TensorFlow Serving's REST API and gRPC, and shows a page to try a model on, until SIGTERM or Ctrl-C."""
    asked = arguments[0] if arguments else FLAGS.model_name
    if len(arguments) > 1 or (asked is None) == (FLAGS.model_config_file is None):
        raise UserError("serve: expected a model's name or --model_config_file FILE, as in: serve mobilenetv2")
    from kcnn.serving.prediction import runtimes
    from kcnn.serving.publishing import versions
    from kcnn.serving.server import check_installed

    check_installed()
    runtimes.check(FLAGS.runtime)
    from kcnn.serving.server import models_config
    from kcnn.serving.server.settings import FLAG_FIELDS, Settings

    if FLAGS.model_config_file is not None:
        served = models_config.read_models_config(FLAGS.model_config_file)
    else:
        folder = FLAGS.model_base_path or versions.named(asked, FLAGS.saved_models)
        served = (models_config.served_folder(FLAGS.model_name or Path(asked).name, folder),)
    settings = Settings(served, FLAGS.runtime, **{field.name: FLAGS[field.name].value for field in FLAG_FIELDS})
    _import_tensorflow_quietly()
    from kcnn.serving.server import process

    process.serve(settings)
    return 0


def models(arguments: list[str]) -> int:
    """Prints the registry."""
    from kcnn.models import catalogue

    specs = catalogue.choose(arguments, FLAGS.family, max_params=FLAGS.max_params, max_macs=FLAGS.max_macs)
    print(catalogue.json_lines(specs) if FLAGS.json else catalogue.table(specs))
    return 0


def lineage(arguments: list[str]) -> int:
    """Prints, and with --drawing draws, where a model or another artifact comes from."""
    if len(arguments) != 1:
        raise UserError("lineage: expected one folder, as in: lineage saved_models/mobilenetv2/3")
    from pipelines.reports import drawing, lineage

    found = lineage.lineage(Path(FLAGS.pipeline_root), Path(arguments[0]))
    if FLAGS.drawing is not None:
        try:
            Path(FLAGS.drawing).write_text(drawing.svg(found), encoding="utf-8")
        except OSError as error:
            raise UserError(f"--drawing {FLAGS.drawing}: cannot be written: {error.strerror}") from None
    print(json.dumps(found, indent=2) if FLAGS.json else lineage.tree(found))
    return 0


def runs(arguments: list[str]) -> int:
    """Prints the runs, or what differs between two of them."""
    if len(arguments) not in (0, 2) or not all(number.isdecimal() for number in arguments):
        raise UserError("runs: expected nothing, or the numbers of two runs, as in: runs 3 5")
    from pipelines.reports import lineage

    root = Path(FLAGS.pipeline_root)
    if not arguments:
        rows = lineage.runs(root)
        print("\n".join(map(json.dumps, rows)) if FLAGS.json else lineage.table(rows))
        return 0
    numbers = int(arguments[0]), int(arguments[1])
    differences = lineage.compare(root, numbers)
    print(json.dumps(differences, indent=2) if FLAGS.json else lineage.comparison(differences, numbers))
    return 0


COMMANDS = {
    "train": train,
    "pretrain": pretrain,
    "data": data,
    "export": export,
    "predict": predict,
    "serve": serve,
    "label": label,
    "rollback": rollback,
    "models": models,
    "lineage": lineage,
    "runs": runs,
}
# Which takes seconds to load; predict, export and serve check first.
WITHOUT_TENSORFLOW = ("predict", "export", "label", "rollback", "serve", "lineage", "runs")


def run(argv: list[str]) -> int:
    """Parses the flags and runs; a user's mistake becomes one line and exit status 2, an interruption 130."""
    try:
        return main(FLAGS(argv))
    except KeyboardInterrupt as interruption:
        print("\nInterrupted.", *getattr(interruption, "__notes__", []), file=sys.stderr)
        return 130
    except RefusedError as error:
        print(f"main.py: {one_line(str(error))}", file=sys.stderr)
        return 1
    except UserError as error:
        message = one_line(str(error))  # file names may hold anything
    except flags.Error as error:
        message = str(error).replace("FATAL Flags parsing error: ", "")
    print(f"main.py: error: {message}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `main.py models | head` ends quietly
    sys.stdout.reconfigure(errors="backslashreplace")  # file names need not be text
    sys.exit(run(sys.argv))
