"""What is settled before the work begins: where it may write, and which weights it starts from."""

import hashlib
import tempfile
from pathlib import Path

from kcnn.config import Config
from kcnn.data.augment import AUGMENTATIONS
from kcnn.errors import UserError
from kcnn.models.factory import create_model, model_spec
from kcnn.recipes import build
from kcnn.weights import find_imagenet, find_starter, load_weights


def settle_weights(config: Config) -> tuple[Config, str | None]:
    """What the training starts from, said in one line; without weights, fine-tuning gives way to the recipe "scratch".

    Returns:
        the Config to run, and the weights for `load_weights` or None.

    Raises:
        UserError: weights that were asked for by name cannot be had, or do not fit the model.
    """
    spec = model_spec(config.model)
    reasons: list[str] = []

    def load(source: str) -> tuple[Config, str]:
        load_weights(create_model(config.model, 2, **config.design), source, offline=config.offline)
        print(f"Weights: {source}" + (f" ({'; '.join(reasons)})" if reasons else ""))
        return config, source

    if config.weights not in ("auto", "none"):
        return load(config.weights)
    if config.weights == "none" and all(phase.unfreeze is None for phase in config.phases):
        return config, None
    if config.weights == "auto":
        found = {"imagenet": find_imagenet(spec, offline=config.offline), "starter": find_starter(spec.name)}
        for source in [source for source, path in found.items() if path is not None]:
            try:
                return load(source)
            except UserError as error:  # a damaged file, or a design that the weights are not for
                reasons.append(str(error))
        reasons = reasons or ["no pretrained weights to be had"]
    reason = "; ".join(reasons) or "--weights none"
    print(f"Weights: {reason}, so all of {spec.name} trains from scratch, in one phase")
    kept = {name: value for name, value in config.overrides.items() if name not in ("weights", "unfreeze")}
    return build("scratch", **kept), None


def check_names(config: Config) -> None:
    """Raises UserError unless there are such a model, design and augmentations, and they go together."""
    create_model(config.model, 2, config.image_size, **config.design)
    for augmentation in config.phases[-1].augmentations:
        AUGMENTATIONS.get(augmentation)


def check_writable(flag: str, folder: Path) -> None:
    """Raises UserError unless `folder` can be made and written to; makes nothing."""
    existing = next(parent for parent in [folder.absolute(), *folder.absolute().parents] if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise UserError(f"{flag} {folder}: cannot be written: {existing}: {error.strerror}") from None


def weights_digest(weights: str | None, model: str) -> str:
    """Of the file that `weights` are from, where that can change under its name."""
    path = find_starter(model_spec(model).name) if weights == "starter" else Path(weights or "")
    if path is None or not path.is_file():
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
