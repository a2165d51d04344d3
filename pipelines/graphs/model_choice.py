"""The choice of an architecture for `--model auto`: by the weights that can be had, and the wanted latency."""

from kcnn.config import Config, override
from kcnn.errors import UserError
from kcnn.models.factory import create_model
from kcnn.models.spec import ModelSpec, list_models, model_spec
from kcnn.training.probing import measure_latency
from kcnn.weights import find_imagenet, find_starter

AUTO = "auto"
_MOST_MACS = 0.5e9  # of an image: beyond, fine-tuning 500 photos on two cores takes more than three minutes


def find_weights(name: str, *, offline: bool) -> str | None:
    """Return the better weights of an architecture that can be had, "imagenet" or "starter"; None without any."""
    spec = model_spec(name)
    if find_imagenet(spec, offline=offline) is not None:
        return "imagenet"
    return "starter" if find_starter(spec.name) is not None else None


def models_with_weights() -> list[str]:
    """Return the architectures whose pretrained weights are on this machine, with ImageNet weights first."""
    found = {name: find_weights(name, offline=True) for name in list_models()}
    return [name for kind in ("imagenet", "starter") for name, weights in found.items() if weights == kind]


def settle_model(config: Config, max_latency_ms: float | None) -> Config:
    """Settle the architecture where it is left to the program, and print it with the reason as one line.

    ImageNet weights go before starter weights; then accuracy on ImageNet decides, among networks that are not too slow.

    Args:
        config: whose model may be `AUTO`.
        max_latency_ms: of an image; None for no limit.

    Raises:
        UserError: the weights that were asked for go with one architecture, or with none.
    """
    if config.model != AUTO:
        return config
    if config.weights not in ("auto", "imagenet", "starter"):
        raise UserError(f"--model auto with --weights {config.weights}: expected --weights auto, imagenet or starter")
    found = {name: find_weights(name, offline=True) for name in models_with_weights()}
    wanted = "starter" if config.weights == "starter" or "imagenet" not in found.values() else "imagenet"
    candidates = [model_spec(name) for name, weights in found.items() if weights == wanted]
    if wanted == "starter":
        candidates = [spec for spec in map(model_spec, found) if find_starter(spec.name) is not None]
    ranked = sorted(candidates, key=lambda spec: (-(spec.top1 or 0.0), spec.macs))
    chosen, reason = min(ranked, key=lambda spec: spec.macs), "the smallest"
    for spec in ranked:
        if spec.macs > _MOST_MACS and max_latency_ms is None:
            continue
        if max_latency_ms is None or _latency(spec, config) <= max_latency_ms:
            chosen, reason = spec, f"the most accurate on ImageNet ({spec.top1:.1f}%)" if spec.top1 else "the largest"
            break
    limit = f" within {max_latency_ms:g} ms an image" if max_latency_ms is not None else ""
    print(f"Model: {chosen.name}, {reason} of {len(ranked)} with {wanted} weights on this machine{limit}")
    return override(config, model=chosen.name)


def _latency(spec: ModelSpec, config: Config) -> float:
    return measure_latency(create_model(spec.name, 2, config.image_size, **config.design))
