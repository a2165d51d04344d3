"""Print the top classes of pictures.

python main.py predict mobilenetv2 a.jpg dir/

A picture is a file, a folder, a 'quoted/*.pattern', a URL, or - for one from standard input. The exit status is 2 when
a picture could not be answered.
"""

from absl import flags

from kcnn.errors import UserError
from pipelines.commands.shared.common_flags import define_json, define_runtime, define_saved_models
from pipelines.commands.shared.tensorflow import load_tensorflow

FLAGS = flags.FlagValues()
define_saved_models(FLAGS)
flags.DEFINE_integer("top", 5, "How many classes to name.", flag_values=FLAGS)
define_json(FLAGS)
flags.DEFINE_bool(
    "csv",
    False,
    "Comma-separated values for spreadsheets, with a header: file, error, class_1, probability_1, ...",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "files_from",
    None,
    "A file with a picture, folder, pattern or URL a line; - for standard input.",
    flag_values=FLAGS,
)
flags.DEFINE_integer("batch_size", 32, "Images in a request.", flag_values=FLAGS)
flags.DEFINE_bool("allow_urls", False, "Fetch pictures that are http or https URLs.", flag_values=FLAGS)
flags.DEFINE_bool(
    "allow_private_redirects",
    False,
    "With --allow_urls, also where a server redirects to an address that is not public.",
    flag_values=FLAGS,
)
define_runtime(FLAGS)


def run(arguments: list[str], values: flags.FlagValues) -> int:
    """Print an answer for each picture; return 2 when one could not be answered, 0 otherwise."""
    from kcnn.json_files import warn_of_damage
    from kcnn.serving.prediction import printing, runtimes
    from kcnn.serving.publishing import versions
    from kcnn.serving.publishing.card import read_card

    model, *pictures = arguments or [""]
    if values.json and values.csv:
        raise UserError("--json and --csv: expected one of the two")
    printing.check_arguments(
        pictures, values.files_from, values.top, values.batch_size, values.allow_urls, values.allow_private_redirects
    )
    version = versions.find_saved_model(versions.model_folder(model, values.saved_models))
    runtimes.find_runtime_file(values.runtime, version)
    warn_of_damage(read_card(version).damage)
    load_tensorflow()
    import kcnn

    failed = printing.print_predictions(
        kcnn.load_classifier(version, values.runtime),
        pictures,
        files_from=values.files_from,
        layout="json" if values.json else "csv" if values.csv else "text",
        top=values.top,
        batch_size=values.batch_size,
        allow_urls=values.allow_urls,
        private_redirects=values.allow_private_redirects,
    )
    return 2 if failed else 0
