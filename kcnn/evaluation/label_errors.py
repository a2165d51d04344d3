"""Labels that are probably wrong, found by a classifier that has seen neither the image nor its copies.

The classifier is a logistic regression on embeddings. It is fitted on four fifths of the images and asked about the
last fifth, five times. From its answers, confident learning finds the labels to doubt, class by class (Northcutt, Jiang
and Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels", JAIR 2021; the library cleanlab).

A network that has learned its training labels by heart sees them confirmed, the wrong ones too. With 5% wrong labels in
CIFAR-10, average precision is 0.40 for the features of a network that errs as often on training images as on others,
0.12 for one that errs seven times less often, and 0.33 for the weights that training started from, which have seen no
label. `Audit.by_heart` separates the cases.

Memory: 512 bytes an image, and about 2 GiB more at most. More images than fill `_PART_BYTES` are audited in parts, each
by itself.
"""

import dataclasses
import warnings
from collections.abc import Iterable, Sequence

import numpy as np
from scipy import stats
from threadpoolctl import threadpool_limits

FOLDS = 5
COMPONENTS = 128  # principal components; 1280 dimensions give no better answers, and take 100 times as long
_SAMPLE = 10_000  # images that the components are fitted to
_CHUNK = 4096
_PART_BYTES = 2**28  # float32 answers about the images of a part
_PENALTIES = (0.01, 0.1, 1.0, 10.0)  # C: the one that makes the first fold's labels most likely is taken
_ITERATIONS = 100
BY_HEART = 0.5  # errors on training images, per error on others, below which the network has learned labels by heart
_SIGNIFICANCE = 0.01  # level of Fisher's exact test of the difference
# A doubted label looks wrong when another class is more probable by a factor: a hundred times the share of images that
# the classifier gets wrong, within these bounds. A classifier that knows little has to be sure. One that knows nearly
# all learned from wrong labels too, which keep its probabilities from the extremes. With 5% wrong labels in CIFAR-10
# and a network that is right for half of the images, 7 in 10 labels that look wrong are wrong; with 3% in digits, all.
ODDS = (5.0, 50.0)


@dataclasses.dataclass(frozen=True)
class Doubt:
    """A label that may be wrong.

    Attributes:
        index: the image's.
        given: the class that it is labelled as.
        suggested: the most probable class.
        score: the given class's probability, 0 to 1: the lower, the more doubtful.
        confidence: the suggested class's probability, 0 to 1.
        wrong: whether the label looks wrong, beyond the doubt that hard pictures arouse.
    """

    index: int
    given: int
    suggested: int
    score: float
    confidence: float
    wrong: bool


@dataclasses.dataclass(frozen=True)
class LabelError:
    """A doubt with the names of file and classes.

    Attributes:
        filename: as in the examples.
        split: "train", "val" or "test".
        given: the class that it is labelled as.
        suggested: the most probable class.
        score: the given class's probability, 0 to 1.
        confidence: the suggested class's probability, 0 to 1.
        wrong: whether the label looks wrong; else it is only doubted.
    """

    filename: str
    split: str
    given: str
    suggested: str
    score: float
    confidence: float
    wrong: bool


@dataclasses.dataclass(frozen=True)
class Audit:
    """The result of an audit.

    Attributes:
        doubts: the most doubtful label first.
        images: how many labels were judged. Classes without images to learn from in other folds are not.
        accuracy: of the out-of-fold predictions on images that the network was not trained on, 0 to 1; the lower, the
            less the doubts are worth. None without such images.
        accuracy_trained: the same on images that it was trained on.
        by_heart: whether the network knows the labels that it was trained on rather than the pictures.
    """

    doubts: tuple[Doubt, ...]
    images: int
    accuracy: float | None
    accuracy_trained: float | None
    by_heart: bool


def group_copies(filenames: Sequence[str], copies: Iterable[Sequence[str]]) -> np.ndarray:
    """Return the group of each image, int [N]; the copies of a picture are one group, which no fold may part.

    Args:
        filenames: the N images' names.
        copies: for each picture, the names of its copies.
    """
    first = {name: members[0] for members in copies for name in members}
    return np.unique([first.get(name, name) for name in filenames], return_inverse=True)[1]


def audit_labels(
    embeddings: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray,
    trained_on: np.ndarray,
    asked: np.ndarray | None = None,
) -> Audit:
    """Judge the labels of images.

    Args:
        embeddings: float [N, D], which may be mapped from a file.
        labels: int [N], from 0.
        groups: int [N], as `group_copies` makes them.
        trained_on: bool [N], whether the network was trained on the image.
        asked: bool [N], the images whose labels are judged; None for all.
    """
    # Threads wait for one another over small matrices: 60 times as long on a busy machine.
    with threadpool_limits(1):
        return _audit(reduce_dimensions(embeddings), labels, groups, trained_on, asked)


def _audit(
    features: np.ndarray, labels: np.ndarray, groups: np.ndarray, trained_on: np.ndarray, asked: np.ndarray | None
) -> Audit:
    classes = int(labels.max()) + 1
    parts = -(-4 * len(labels) * classes // _PART_BYTES)
    places = spread_over_bins(labels, groups, parts * FOLDS)
    found: list[tuple[float, int, int, float]] = []  # score, image, suggested class, its probability
    answers = np.full(len(labels), -1)  # -1 where no label is judged
    for part in range(parts):
        members = np.flatnonzero(places // FOLDS == part)
        folds = places[members] % FOLDS
        members, folds = _judgeable(members, folds, labels)
        if not len(members):
            continue
        names, own = np.unique(labels[members], return_inverse=True)
        probabilities = predict_out_of_fold(features[members], own, folds)
        answers[members] = names[probabilities.argmax(axis=1)]
        if asked is not None:
            kept = asked[members]
            members, own, probabilities = members[kept], own[kept], probabilities[kept]
        for index, suggested, score, confidence in _doubted(own, probabilities):
            found.append((score, int(members[index]), int(names[suggested]), confidence))
    judged = answers >= 0
    count = int((judged if asked is None else judged & asked).sum())
    held_out, trained = ((answers == labels)[judged & part] for part in (~trained_on, trained_on))
    wrong = ~(held_out if len(held_out) else trained)
    odds = np.clip(100 * wrong.mean(), *ODDS) if len(wrong) else 0.0
    doubts = tuple(
        Doubt(index, int(labels[index]), suggested, score, confidence, bool(confidence > odds * score))
        for score, index, suggested, confidence in sorted(found)
    )
    return Audit(doubts, count, _share(held_out), _share(trained), _by_heart(trained, held_out))


def _share(right: np.ndarray) -> float | None:
    return float(right.mean()) if len(right) else None


def _by_heart(trained: np.ndarray, held_out: np.ndarray) -> bool:
    """Return whether answers on trained images are right so much more often than others, beyond chance."""
    if not len(trained) or not len(held_out):
        return False
    table = [[int((~right).sum()), int(right.sum())] for right in (trained, held_out)]
    fewer = (~trained).mean() < BY_HEART * (~held_out).mean()
    return bool(fewer and stats.fisher_exact(table, alternative="less").pvalue < _SIGNIFICANCE)


def reduce_dimensions(embeddings: np.ndarray) -> np.ndarray:
    """Return the first principal components of embeddings, K of `COMPONENTS` at most, of variance 1 all together.

    Args:
        embeddings: float [N, D], which may be mapped from a file.

    Returns:
        float32 [N, K].
    """
    from sklearn.decomposition import PCA

    sample = embeddings[:: -(-len(embeddings) // _SAMPLE)]
    count = min(COMPONENTS, *sample.shape)
    projection = PCA(count, svd_solver="randomized", random_state=0).fit(sample)
    features = np.empty((len(embeddings), count), np.float32)
    for start in range(0, len(embeddings), _CHUNK):
        features[start : start + _CHUNK] = projection.transform(embeddings[start : start + _CHUNK])
    return features / max(float(features.std()), 1e-12)


def spread_over_bins(labels: np.ndarray, groups: np.ndarray, bins: int) -> np.ndarray:
    """Return each image's bin, int [N]: every class is spread over all bins evenly, and no group is parted.

    Args:
        labels: int [N]; a group counts for the class of its first image.
        groups: int [N], from 0 on.
        bins: how many there are.
    """
    first = np.unique(groups, return_index=True)[1]
    order = np.argsort(labels[first], kind="stable")  # class by class; the next class goes on where the last one ended
    of_group = np.empty(len(first), int)
    of_group[order] = np.arange(len(first)) % bins
    return of_group[groups]


def _judgeable(members: np.ndarray, folds: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the members, and their folds, of classes that are in two folds or more, if there are two such classes."""
    pairs = np.unique(np.stack([labels[members], folds]), axis=1)
    names, spread = np.unique(pairs[0], return_counts=True)
    enough = names[spread > 1]
    kept = np.isin(labels[members], enough) & (len(enough) > 1)
    return members[kept], folds[kept]


def predict_out_of_fold(features: np.ndarray, labels: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Return each image's class probabilities by a classifier that is fitted on the other folds.

    Args:
        features: float [N, K], of about variance 1.
        labels: int [N], from 0 to C - 1, each in two folds at least.
        folds: int [N].

    Returns:
        float32 [N, C].
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss

    classes = np.arange(labels.max() + 1)
    probabilities = np.zeros((len(labels), len(classes)), np.float32)

    def answer(penalty: float, fold: int) -> np.ndarray:
        known, asked = folds != fold, folds == fold
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a fit that is cut short answers as well
            fitted = LogisticRegression(C=penalty, max_iter=_ITERATIONS).fit(features[known], labels[known])
        return fitted.predict_proba(features[asked]).astype(np.float32)

    present = np.unique(folds).tolist()
    asked = folds == present[0]
    tried = {penalty: answer(penalty, present[0]) for penalty in _PENALTIES}
    best = min(tried, key=lambda penalty: log_loss(labels[asked], tried[penalty], labels=classes))
    for fold in present:
        probabilities[folds == fold] = tried[best] if fold == present[0] else answer(best, fold)
    return probabilities


def _doubted(labels: np.ndarray, probabilities: np.ndarray) -> list[tuple[int, int, float, float]]:
    """Return the doubted images: index, suggested class, and the probabilities of the given and the suggested class.

    Where all images are of one class there are none: how probable another class has to be follows from its own images.
    """
    from cleanlab.filter import find_label_issues

    if len(np.unique(labels)) < 2:
        return []
    doubted = np.flatnonzero(find_label_issues(labels, probabilities, filter_by="both", n_jobs=1))
    suggested = probabilities[doubted].argmax(axis=1)
    scores, confidences = probabilities[doubted, labels[doubted]], probabilities[doubted, suggested]
    return list(zip(doubted.tolist(), suggested.tolist(), scores.tolist(), confidences.tolist(), strict=True))
