"""The tally of parts that are merged, against one that holds all images in memory."""

import hashlib
import random
from collections import Counter, defaultdict

from kcnn.data.ingestion.parts import PartFiles, merge_readable, store_items
from kcnn.data.ingestion.splits import plan_splits
from kcnn.data.ingestion.summary import _median
from kcnn.data.ingestion.tally import ReadableImage, tally_images


def test_the_merge_counts_what_a_plain_look_at_everything_counts(tmp_path):
    for seed in range(30):
        rng = random.Random(seed)
        digests = [hashlib.sha256(rng.randbytes(4)).hexdigest() for _ in range(rng.randrange(10, 200))]
        given = rng.choice([[""], ["", "train"], ["train", "test"], ["", "train", "val", "test"]])
        size_of = {digest: (rng.randrange(1, 9999), rng.randrange(1, 60)) for digest in digests}
        images = [
            ReadableImage(digest, str(rng.randrange(4)), rng.choice(given), *size_of[digest])
            for digest in rng.choices(digests, k=rng.randrange(20, 400))
        ]
        occurring = {split or None for split in given}
        files = PartFiles(tmp_path / str(seed), rng.randrange(1, 9))
        files.folder.mkdir()
        for part in range(files.parts):
            store_items(files.readable(part), sorted(images[part :: files.parts]))
        plan = plan_splits(((one.sha256, one.label, one.given or None) for one in merge_readable(files)), occurring)
        found = tally_images(merge_readable(files), plan)

        plain = plan_splits([(image.sha256, image.label, image.given or None) for image in sorted(images)], occurring)
        places = [plain.split_of(image.sha256, image.given or None) for image in images]
        splits_of, labels_of = defaultdict(set), defaultdict(set)
        for image, place in zip(images, places, strict=True):
            splits_of[image.sha256].add(place)
            labels_of[image.sha256].add(image.label)
        assert found.images == Counter((place, image.label) for image, place in zip(images, places, strict=True))
        assert found.straddling == sum("train" in each and len(each) > 1 for each in splits_of.values())
        assert found.ambiguous == sum(len(each) > 1 for each in labels_of.values())
        sides = sorted(image.side for image, place in zip(images, places, strict=True) if place == "train")
        assert _median(found.sides) == sides[len(sides) // 2]
        for split in set(places):
            total = sum(image.bytes for image, place in zip(images, places, strict=True) if place == split)
            assert found.bytes[split] == total
