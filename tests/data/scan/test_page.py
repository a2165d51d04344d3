"""The page of a data set: names change nothing on it, and sheets are bounded."""

import collections
import io
import re
from html.parser import HTMLParser

from PIL import Image

from kcnn.data.examples import Example, encode_example
from kcnn.data.ingestion.summary import Summary
from kcnn.data.scan.page import PICTURES, pictured_files, render_data_page
from kcnn.data.scan.scan import judge_images, scan_shards
from kcnn.data.scan.thumbnails import make_thumbnails
from kcnn.data.validation.statistics import summarize_records
from kcnn.data.validation.statistics_proto import statistics_to_proto
from tests.data.scan.scan_pictures import encode, facts_of, picture
from tests.shards import write


class Page(HTMLParser):
    """The tags, texts and links that a browser finds in a page."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.text, self.links, self.ids = collections.Counter(), [], set(), set()
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags[tag] += 1
        attributes = dict(attrs)
        assert not [name for name in attributes if name.startswith("on")]
        self.links |= {attributes[name] for name in ("href", "src") if name in attributes}
        self.ids |= {attributes["id"]} if "id" in attributes else set()

    def handle_data(self, data):
        self.text.append(data)


EVIL = ["<script>alert(1)<b>.jpg", "'\"><img src=x onerror=alert(1)>.jpg", "&lt;i&gt;.jpg", "b\udcff.jpg"]


def test_names_do_nothing_on_the_page(tmp_path):
    label = "<b onclick='x'>cat</b>"
    rows = [
        Example(encode(picture(50 + i, (20, 20)), "PNG"), name, 0, label, "PNG", 20, 20, f"{i:064x}")
        for i, name in enumerate(EVIL)
    ]
    rows.append(Example(encode(picture(3)), "copy.jpg", 0, label, "JPEG", 120, 160, f"{103:064x}"))
    others = [Example(encode(picture(i)), f"{i}.jpg", 0, "dog", "JPEG", 120, 160, f"{i + 100:064x}") for i in range(10)]
    placed = {"train": rows, "test": others}
    shards = {split: write(tmp_path, split, some) for split, some in placed.items()}
    result = scan_shards(shards)
    paths = [path for group in shards.values() for path in group]
    pictures = make_thumbnails(paths, pictured_files(result))
    assert pictures.keys() == {*EVIL, "copy.jpg", "3.jpg"}
    for data in pictures.values():
        with Image.open(io.BytesIO(data)) as image:
            assert (image.format, max(image.size) <= 96) == ("WEBP", True)
    counts = {"train": {label: 5, "dog": 0}, "test": {label: 0, "dog": 10}}
    summary = Summary((label, "dog"), counts, {EVIL[0]: "<i>none</i>"}, (), 1, 1, True)
    parts = {
        split: statistics_to_proto(summarize_records(map(encode_example, some)), split).datasets[0]
        for split, some in placed.items()
    }
    html = render_data_page("<title>", summary, parts, [f"train: {EVIL[1]}"], result, pictures)
    assert html == render_data_page("<title>", summary, parts, [f"train: {EVIL[1]}"], result, pictures)
    html.encode()
    page = Page(html)
    assert not {"script", "i", "iframe", "link"} & set(page.tags)
    assert page.tags["img"] == page.tags["figure"] == 4 + 4 + 2 + 2  # tiny, wrong extension, leak, contradiction
    text = "".join(page.text)
    for name in [*EVIL[:3], label, "b\\udcff.jpg", "<i>none</i>"]:
        assert name in text
    assert all(link.startswith(("#", "data:image/webp;base64,")) for link in page.links)
    assert {link[1:] for link in page.links if link.startswith("#")} == page.ids
    assert not re.search(r"https?:", html)


def test_a_sheet_has_so_many_pictures_and_says_of_how_many():
    images = {f"{seed:03}.png": (encode(picture(seed, (16, 16)), "PNG"), "PNG") for seed in range(60)}
    many = {f"big{seed}.jpg": (encode(picture(seed)), "JPEG") for seed in range(100, 170)}
    result = judge_images(facts_of(images | many))
    assert len(pictured_files(result)) == PICTURES == 48
