"""The models to serve: one folder of versions, or the models of a `models.config`, TensorFlow Serving's file."""

import os
import re
from pathlib import Path

from tensorflow_serving.config import model_server_config_pb2

from kcnn.documents import parse_prototext, read_document
from kcnn.errors import UserError
from kcnn.serving.publishing.versions import complete_versions
from kcnn.serving.server.settings import ServedModel

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def served_folder(name: str, base_path: str | os.PathLike) -> ServedModel:
    """Return the model whose versions stand in a folder, of which the newest is served.

    Raises:
        UserError: the name is none that a URL can hold, or the folder has no versions.
    """
    model = ServedModel(name, Path(base_path))
    _check_served_model(model, f"--model_base_path {str(base_path)!r}")
    return model


def read_models_config(config_file: str | os.PathLike) -> tuple[ServedModel, ...]:
    """Return the models of a `models.config`: the text of a ModelServerConfig.

    The file that a run writes beside the versions has their folder as the container sees it, /models/<name>. Where that
    folder does not exist, the folder of the file is taken.

    Source: https://www.tensorflow.org/tfx/serving/serving_config

    Raises:
        UserError: the file cannot be read, or one of its models does not exist.
    """
    where = f"--model_config_file {str(config_file)!r}"
    try:
        config = parse_prototext(read_document(config_file), model_server_config_pb2.ModelServerConfig())
    except OSError as error:
        raise UserError(f"{where}: cannot be read: {error.strerror}") from error
    except ValueError as error:  # a NUL in the path, no UTF-8, no ModelServerConfig
        raise UserError(f"{where}: no ModelServerConfig: {error}") from error
    found = {}
    for entry in config.model_config_list.config:
        policy = entry.model_version_policy
        latest = 0 if policy.HasField("all") else policy.latest.num_versions or 1
        base, here = Path(entry.base_path), Path(config_file).resolve().parent
        if not base.exists() and base.name == here.name:
            base = here
        model = ServedModel(entry.name, base, latest, tuple(policy.specific.versions), dict(entry.version_labels))
        _check_served_model(model, f"{where}: base_path {entry.base_path!r}")
        if entry.name in found:
            raise UserError(f"{where}: two models are named {entry.name!r}")
        found[entry.name] = model
    if not found:
        raise UserError(f"{where}: expected model_config_list with one model or more")
    return tuple(found.values())


def _check_served_model(model: ServedModel, where: str) -> None:
    if not _NAME.fullmatch(model.name):
        raise UserError(f"model name {model.name!r}: expected letters, digits, '.', '_' and '-'")
    if (model.base_path / "saved_model.pb").is_file():
        raise UserError(f"{where} is one version: expected the folder around it, {str(model.base_path.parent)!r}")
    if not complete_versions(model.base_path):
        raise UserError(f"{where}: no numbered versions there, as {str(model.base_path / '1' / 'saved_model.pb')!r}")
