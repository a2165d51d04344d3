"""Lists of images to leave out: they exclude what they name, and an error in them is one line."""

import dataclasses
import os

import pytest
from PIL import Image

from kcnn.data.datasets.opening import open_dataset
from kcnn.data.ingestion import exclusions
from kcnn.data.ingestion.ingest import ingest
from kcnn.errors import UserError
from kcnn.spreadsheets import write_csv
from tests.endless_files import endless_files, time_limit

ODD = os.fsdecode(b"cat/\xff.png")  # a name that is no UTF-8


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    for label, shade in (("cat", 40), ("dog", 160)):
        (folder / label).mkdir(parents=True)
        for index in range(30):
            Image.new("RGB", (20, 20), (shade, index, 0)).save(folder / label / f"{index}.png")
    Image.new("RGB", (20, 20)).save(folder / ODD)
    return folder


def listed(tmp_path, *rows, header="filename,finding,exclude"):
    path = tmp_path / "list.csv"
    path.write_text("\n".join([header, *rows, ""]), encoding="utf-8", errors="surrogateescape")
    return path


def test_what_is_listed_is_excluded_by_name_with_the_finding_and_nothing_else(photos, tmp_path):
    path = listed(
        tmp_path, "cat/3.png,leak,x", "cat/3.png,blank,yes", "cat/4.png,leak,", "dog/5.png,,1", f"{ODD},odd,x"
    )
    before = sorted(os.listdir(photos / "cat"))
    summary = ingest(exclusions.exclude_images(open_dataset(str(photos)), [path]), tmp_path / "examples")
    assert summary.excluded == {
        "cat/3.png": f"excluded by {path}: leak, blank",
        "dog/5.png": f"excluded by {path}",
        ODD: f"excluded by {path}: odd",
    }
    assert sum(map(summary.total, summary.counts)) == 58
    assert any(line.startswith("3 files excluded") for line in summary.warnings)
    assert sorted(os.listdir(photos / "cat")) == before


def test_lists_add_up(photos, tmp_path):
    scan, audit = tmp_path / "scan.csv", tmp_path / "audit.csv"
    scan.write_text("filename,finding,exclude\ncat/3.png,leak,x\ncat/4.png,blank,x\n")
    audit.write_text("rank,filename,finding,exclude\n1,cat/4.png,label_error,x\n2,dog/5.png,doubt,\n3,dog/6.png,,x\n")
    both = exclusions.exclude_images(open_dataset(str(photos)), [scan, audit])
    assert {source.filename: source.reason for source in both.sources() if source.label is None} == {
        "cat/3.png": f"excluded by {scan}: leak",
        "cat/4.png": f"excluded by {scan}: blank; excluded by {audit}: label_error",
        "dog/6.png": f"excluded by {audit}",
    }
    assert exclusions.digest_exclusions([scan, audit]) != exclusions.digest_exclusions([scan])


@pytest.mark.parametrize("mark", ["no", "False", "0 "])
def test_a_no_is_refused(tmp_path, mark):
    with pytest.raises(UserError, match=f"line 3: '{mark.strip()}' in column exclude: expected anything else"):
        exclusions.read_exclusions(listed(tmp_path, "a.jpg,,x", f"b.jpg,,{mark}"))


def test_columns_come_in_any_order_and_others_are_ignored(tmp_path):
    path = listed(tmp_path, "1,,x,a.jpg", "2,,,b.jpg", header="\ufeffrank,finding,exclude,filename")
    assert exclusions.read_exclusions(path) == {"a.jpg": ""}


LIST = "filename,finding,exclude\na.jpg,leak,x\nb.jpg,,\n"


@pytest.mark.parametrize(
    "content",
    [
        LIST.replace(",", ";"),
        LIST.replace(",", "\t").encode("utf-16"),
        LIST.replace(",", "\t").encode("utf-16-le"),
        "\ufeffsep=;\r\n" + LIST.replace(",", ";").replace("\n", "\r\n"),
        LIST.replace("\n", "\r"),
        LIST.replace("\n", ",\n"),
        "# mine\n" + LIST.replace("filename", " Filename"),
    ],
)
def test_a_list_may_come_out_of_a_spreadsheet(tmp_path, content):
    (tmp_path / "list.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    assert exclusions.read_exclusions(tmp_path / "list.csv") == {"a.jpg": "leak"}


def test_names_with_blanks_and_line_breaks_stay(tmp_path):
    path = listed(tmp_path, " a .png,leak,x", '"b\nc.png","a ""b""",x')
    assert exclusions.read_exclusions(path) == {" a .png": "leak", "b\nc.png": 'a "b"'}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (['"a.jpg,leak,x', "b.jpg,,x"], "line 2: a quotation mark begins a cell and does not end it"),
        (['"a.jpg,leak,x', 'b.jpg,,x"'], "line 2: 1 columns; expected 3"),
        (['a.jpg,"leak,x', 'b.jpg,leak",x'], "line 2: a cell that begins with a quotation mark goes on"),
        (["c.jpg,,", "a, b.jpg,leak,x"], "line 3: 4 columns; expected 3"),
        (["c.jpg,,", "a\0.jpg,leak,x"], "line 3: a NUL character"),
        ([",leak,x"], "line 2: no filename"),
    ],
)
def test_a_row_that_is_damaged_is_told_by_its_line(tmp_path, rows, message):
    with pytest.raises(UserError, match=message):
        exclusions.read_exclusions(listed(tmp_path, *rows))


def test_the_fingerprint_follows_what_is_excluded(photos, tmp_path):
    whole = open_dataset(str(photos))
    prints = [
        exclusions.exclude_images(whole, [listed(tmp_path, *rows)]).fingerprint
        for rows in (["cat/3.png,,x"], ["cat/3.png,,yes", "cat/4.png,,"], ["cat/4.png,,x"], [])
    ]
    assert prints[0] == prints[1]
    assert len({whole.fingerprint, *prints}) == 4
    assert exclusions.exclude_images(whole, []) is whole
    assert exclusions.digest_exclusions([]) == ""


def test_a_list_of_nothing_leaves_all(photos, tmp_path):
    path = listed(tmp_path, "cat/3.png,leak, ")
    sources = list(exclusions.exclude_images(open_dataset(str(photos)), [path]).sources())
    assert [dataclasses.replace(source, read=None) for source in sources] == [
        dataclasses.replace(source, read=None) for source in open_dataset(str(photos)).sources()
    ]


@pytest.mark.parametrize(
    ("rows", "header", "message"),
    [
        (["cat/99.png,,x"], None, r"not in --dataset photos: cat/99\.png; its files have names like cat/0\.png"),
        (["cats/3.png,,x"], None, r"not in --dataset photos: cats/3\.png; did you mean cat/3\.png\?"),
        ([f"{i},,x" for i in range(9)], None, r"not in --dataset photos: 0, 1, 2 and 6 more"),
        (["cat/3.png,leak"], "filename,finding", "no column 'exclude': expected .* got 'filename,finding'"),
        (["3"], "", "no column 'filename': expected filename,finding,exclude"),
    ],
)
def test_what_is_wrong_with_a_list_is_one_line(photos, tmp_path, rows, header, message):
    path = listed(tmp_path, *rows, header="filename,finding,exclude" if header is None else header)
    with pytest.raises(UserError, match=f"--exclude {path}: {message}") as caught:
        exclusions.exclude_images(open_dataset(str(photos)), [path])
    assert "\n" not in str(caught.value)


def test_a_list_that_cannot_be_read(photos, tmp_path):
    for path in (tmp_path / "none.csv", tmp_path):
        for function in (exclusions.read_exclusions, lambda path: exclusions.digest_exclusions([path])):
            with pytest.raises(UserError, match=f"--exclude {path}: cannot be read"):
                function(path)
    (tmp_path / "model.bin").write_bytes(bytes(range(256)))
    with pytest.raises(UserError, match="--exclude"):
        exclusions.read_exclusions(tmp_path / "model.bin")


def test_what_the_program_lists_excludes_under_the_names_that_a_spreadsheet_would_run(tmp_path):
    folder = tmp_path / "photos"
    names = ["=1+1.png", "-a.png", "@b.png", "'=c.png", "d.png", "'e.png"]
    for label, shade in (("=cat", 40), ("+dog", 160)):
        (folder / label).mkdir(parents=True)
        for index, name in enumerate(names):
            Image.new("RGB", (20, 20), (shade, index, 0)).save(folder / label / name)
    dataset = open_dataset(str(folder))
    listed_names = [source.filename for source in dataset.sources()]
    write_csv(tmp_path / "list.csv", ["filename", "exclude"], [[name, "x"] for name in listed_names[::2]])
    assert b"'=cat/-a" in (tmp_path / "list.csv").read_bytes()
    left = exclusions.exclude_images(dataset, [tmp_path / "list.csv"])
    assert [source.filename for source in left.sources() if source.label is None] == listed_names[::2]


def test_a_list_never_ends(photos, tmp_path):
    (tmp_path / "endless").mkdir()
    with (tmp_path / "endless" / "sparse").open("wb") as file:
        file.truncate(2**40)
    for name in [*endless_files(tmp_path / "endless"), "sparse"]:
        with time_limit(), pytest.raises(UserError, match=r"^--exclude [^\n]*(not a regular|an empty|a line of more)"):
            exclusions.exclude_images(open_dataset(str(photos)), [tmp_path / "endless" / name])
