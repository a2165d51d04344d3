"""The choice of an architecture for `--model auto`: by the weights at hand, the number of images, and the latency."""

import math

from kcnn.config import Config, override
from kcnn.data.datasets.opening import open_dataset
from kcnn.errors import UserError
from kcnn.models.factory import create_model
from kcnn.models.spec import ModelSpec, list_models, model_spec
from kcnn.terminal import print_lines
from kcnn.training.probing import measure_latency
from kcnn.weights import find_pretrained

AUTO = "auto"
# Fine-tuning takes three minutes on two cores with this many images of this many multiply-adds.
_IMAGES, _MACS = 500, 0.5e9


def models_with_weights() -> dict[str, list[str]]:
    """Return the architectures whose pretrained weights are on this machine, those with ImageNet weights first.

    Returns:
        name → `find_pretrained` of it.
    """
    found = {name: find_pretrained(model_spec(name), offline=True) for name in list_models()}
    return {name: kinds for best in ("imagenet", "starter") for name, kinds in found.items() if kinds[:1] == [best]}


def settle_model(config: Config, max_latency_ms: float | None) -> Config:
    """Settle the architecture where it is left to the program, and print it with the reason as one line.

    ImageNet weights go before starter weights; then accuracy on ImageNet decides, among networks that are not too slow:
    those within `max_latency_ms`, or else those that this number of images allows, of at most 0.5 G multiply-adds where
    there are 500 images or more.

    Args:
        config: whose model may be `AUTO`.
        max_latency_ms: of an image; None for no limit.

    Raises:
        UserError: the weights that were asked for go with one architecture, or with none; there is no such data set.
    """
    if config.model != AUTO:
        return config
    if config.weights not in ("auto", "imagenet", "starter"):
        raise UserError(f"--model auto with --weights {config.weights}: expected --weights auto, imagenet or starter")
    found = models_with_weights()
    with_imagenet = any("imagenet" in kinds for kinds in found.values())
    wanted = "imagenet" if config.weights != "starter" and with_imagenet else "starter"
    candidates = [model_spec(name) for name, kinds in found.items() if wanted in kinds]
    ranked = sorted(candidates, key=lambda spec: (-(spec.top1 or 0.0), spec.macs))
    if max_latency_ms is None:
        images = open_dataset(config.dataset, data_dir=config.data_dir, offline=config.offline).count
        most, limit = _MACS * max(1.0, _IMAGES / images), f", for {images} images"
    else:
        most, limit = math.inf, f" within {max_latency_ms:g} ms an image"
    chosen, reason = min(ranked, key=lambda spec: spec.macs), "the smallest"
    for spec in ranked:
        if spec.macs > most:
            continue
        if max_latency_ms is None or _latency(spec, config) <= max_latency_ms:
            chosen, reason = spec, f"the most accurate on ImageNet ({spec.top1:.1f}%)" if spec.top1 else "the largest"
            break
    print_lines(f"Model: {chosen.name}, {reason} of {len(ranked)} with {wanted} weights on this machine{limit}")
    return override(config, model=chosen.name)


def _latency(spec: ModelSpec, config: Config) -> float:
    return measure_latency(create_model(spec.name, 2, config.image_size, **config.design))
