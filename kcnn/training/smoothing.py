"""Label smoothing in its two forms."""

import keras


def smoothed_crossentropy(smoothing: float, over: str, classes: int) -> keras.losses.CategoricalCrossentropy:
    """Return the loss of logits and one-hot labels, with labels smoothed as `smoothing_over_all` has it."""
    return keras.losses.CategoricalCrossentropy(
        from_logits=True, label_smoothing=smoothing_over_all(smoothing, over, classes)
    )


def smoothing_over_all(smoothing: float, over: str, classes: int) -> float:
    """Return the smoothing that Keras' losses take for the same labels: what they spread over all classes.

    Over all K classes, the labelled one gets 1 - ε + ε / K and each other one ε / K (Szegedy et al., CVPR 2016, section
    7). Over the others, it gets 1 - ε and each of them ε / (K - 1). The second is the first with ε K / (K - 1).

    Args:
        smoothing: ε, 0 to less than 1.
        over: "all" or "others".
        classes: K; a single class is labelled whatever is taken from it.
    """
    return smoothing * classes / (classes - 1) if over == "others" and classes > 1 else smoothing
