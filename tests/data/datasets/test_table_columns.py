"""Tables as spreadsheets, competitions and scripts write them; where two readings are possible, a line asks."""

import re

import pytest

from kcnn.data.datasets.opening import open_dataset
from kcnn.errors import UserError

CSV = "path,label,split\na.png,cat,train\nb.png,dog,test\n"
PLAIN = [("a.png", "cat", None), ("b.png", "dog", None)]
SPLIT = [("a.png", "cat", "train"), ("b.png", "dog", "test")]


@pytest.fixture
def opened(tmp_path, monkeypatch):
    """Return a function that writes a table beside the files and opens it by its name."""
    monkeypatch.chdir(tmp_path)

    def write(text, files=("a.png", "b.png", "c.png"), name="list.csv", data_dir=None):
        for file in files:
            (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / file).write_bytes(b"x")
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        return open_dataset(name, data_dir=data_dir)

    return write


def rows(dataset):
    found = [(source.filename, source.label, source.split) for source in dataset.sources()]
    assert len(found) == dataset.count
    return found


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (CSV, None),
        (CSV.replace(",", ";"), "separator ';'"),
        (CSV.replace(",", "\t"), r"separator '\t'"),
        (CSV.replace(",", "|"), r"separator '|'"),
        (CSV.replace(",", " "), "separator ' '"),
        ("sep=;\r\n" + CSV.replace(",", ";"), "separator ';'"),
        ('"sep=,"\r\n' + CSV, None),
        ("a.png,cat,train,\nb.png,dog,test,\n", None),
        ("path,label,split,\na.png,cat,train,\nb.png,dog,test,\n", None),
        (CSV.replace("\n", "\r"), None),
        (CSV.replace("\n", "\r\n\r\n"), None),
        ("# by hand, 2026\n#\n" + CSV.replace("b.png", "# c.png,dog,train\nb.png"), None),
        ('"path", "label", "split"\n"a.png", "cat", "train"\nb.png, dog, test\n', None),
        (
            "label;filename;subset\ncat;a.png;Train\ndog;b.png;TEST\n",
            "path is column 'filename', label is column 'label'",
        ),
        ("File Name,Class-Name,Data Split\na.png,cat,train\nb.png,dog,test\n", "path is column 'File Name'"),
        (",path,label,partition\n0,a.png,cat,training\n1,b.png,dog,testing\n", "split is column 'partition'"),
        ("path,label,Usage\na.png,cat,Training\nb.png,dog,Testing\n", "split is column 'Usage'"),
        ("path,label,fold\na.png,cat,train\nb.png,dog,test\n", "split is column 'fold'"),
        ("path,label,aufteilung\na.png,cat,train\nb.png,dog,test\n", "split is column 'aufteilung'"),
        ("image,breed,phase\na.png,cat,train\nb.png,dog,test\n", "label is column 'breed'"),
        ("image,cultivar,phase\na.png,cat,train\nb.png,dog,test\n", "label is column 'cultivar'"),
        ("scan,class,phase\na.png,cat,train\nb.png,dog,test\n", "path is column 'scan'"),
        ("#path,label,split\na.png,cat,train\nb.png,dog,test\n", "path is column '#path'"),
        ("TRAIN,a.png,cat\nTEST,b.png,dog\n", "path is column 2, label is column 3, split is column 1"),
        ("a.png   cat train\nb.png   dog test\n", "path is column 1"),
        ("image_id,label,set\na,cat,train\nb,dog,test\n", "names were completed, as a to a.png"),
        ("path,label,split\n.\\a.png,cat,train\n./b.png,dog,test\n", r"names were completed, as .\a.png to a.png"),
    ],
)
def test_a_table_is_understood_and_what_is_not_plain_is_said_in_a_line(opened, text, said):
    found = opened(text)
    assert rows(found) == SPLIT
    assert found.flaws == ()
    if said is None:
        assert found.remarks == ()
    else:
        assert any(said in remark for remark in found.remarks), found.remarks
        assert all(remark.isprintable() for remark in found.remarks)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_the_encodings_of_spreadsheets(opened, encoding, end):
    text = CSV.replace(",", "\t").replace("cat", "chât").replace("\n", end)
    assert rows(opened(text.encode(encoding), name="list.txt")) == [("a.png", "chât", "train"), SPLIT[1]]


def test_marks_of_files_that_were_joined(opened):
    assert rows(opened("\ufeff\ufeffpath,label\na.png,cat\n\ufeffb.png,dog\n")) == PLAIN


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ant,a.png\nbee,b.png\n", [("a.png", "ant"), ("b.png", "bee")]),
        ("label,filename\nant,a.png\nbee,b.png\n", [("a.png", "ant"), ("b.png", "bee")]),
        ("filename,class_id,class_name\na.png,0,ant\nb.png,1,bee\n", [("a.png", "ant"), ("b.png", "bee")]),
        ("id,image,label\n7,a.png,ant\n8,b.png,bee\n", [("a.png", "ant"), ("b.png", "bee")]),
        ("Width;ClassId;Path\n3;20;a.png\n4;0;b.png\n", [("a.png", "20"), ("b.png", "0")]),
        ("a.png;tench, Tinca tinca\nb.png;bee\n", [("a.png", "tench, Tinca tinca"), ("b.png", "bee")]),
        ('path,label\na.png,5" disk\n"b.png","a ""b"", c"\n', [("a.png", '5" disk'), ("b.png", 'a "b", c')]),
        ("path,label\na, b.png\n", [("a.png", "b.png")]),
        ("a,cat\nb,dog\n", [("a.png", "cat"), ("b.png", "dog")]),
        ("path,label,split\na.png,cat\nb.png,dog,\n", [("a.png", "cat"), ("b.png", "dog")]),
    ],
)
def test_columns_are_known_by_their_names_and_by_what_they_hold(opened, text, expected):
    assert [(path, label) for path, label, _ in rows(opened(text))] == expected


def test_lists_with_blanks_as_those_of_imagenet(opened):
    names = ("n01/my photo.JPEG", "n02/b.JPEG")
    found = opened("".join(f"{name} {index}\n" for index, name in enumerate(names)), names, "val.txt")
    assert rows(found) == [(names[0], "0", None), (names[1], "1", None)]


def test_names_of_other_systems_find_their_files(opened):
    files = ("x/1.jpg", "x/2.JPEG", "cafe\u0301.png", "# d.png")
    text = "path,label\nx\\1.jpg,a\nx/2,b\ncaf\u00e9.png,a\n# d.png,b\nx//../x/1,c\n"
    assert [path for path, _, _ in rows(opened(text, files))] == [*files, files[0]]
    table = opened("id,label\n1,a\n2,b\n", data_dir="x")
    assert rows(table) == [("1.jpg", "a", None), ("2.JPEG", "b", None)]
    assert [source.read() for source in table.sources()] == [b"x", b"x"]


def test_cells_of_several_lines_stay_and_a_column_without_splits_is_one_of_the_data_sets(opened):
    found = opened('path,label,note,fold\na.png,cat,"one\ntwo, three",0\nb.png,dog,,1\n')
    assert [dict(source.columns) for source in found.sources()] == [
        {"note": "one\ntwo, three", "fold": "0"},
        {"fold": "1"},
    ]
    assert found.remarks == ("list.csv: column 'fold' holds no train, val or test, and was not taken for the split",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            'path,label\n"a.png,cat\nb.png,dog\nc.png,dog\n',
            "line 2: a quotation mark begins a cell and does not end it",
        ),
        ('path,label\nc.png,dog\na.png,"cat\nb.png,"dog"\n', "line 3: a quotation mark begins a cell"),
        ('path,label\n"a".png,cat\nb.png,dog\n', "line 2: a quotation mark begins a cell"),
        ('path,label\n"a.png,cat\n' + "b.png,dog\n" * 20000, "line 2: a quotation mark begins a cell"),
        ('path,label\n"a.png,cat\nb.png,dog"\nc.png,dog\n', "line 2: a cell .* goes on over 2 lines"),
        ('path,label,x\na.png,cat,"y\nb.png,dog,z"\nc.png,dog,z\n', "line 2: a cell .* goes on over 2 lines"),
        ("fichier,classe\na.png,cat\nb.png,dog\n", "line 1: 'fichier,classe' names no image, as the other lines do"),
        ("path,label,subset\na.png,cat,train\nb.png,dog,mine\n", "column 'subset': 'mine' in line 3 is no split"),
        ("path,label,partition\na.png,cat,0\nb.png,dog,2\n", "column 'partition': '0' in line 2 is no split"),
        ("path,label,usage\na.png,cat,Training\nb.png,dog,tset\n", "column 'usage': 'tset' .* did you mean 'test'"),
        ("name,label,is_valid\na.png,cat,False\nb.png,dog,True\n", "does 'is_valid' say the split"),
        ("path,label,set,phase\na.png,cat,train,val\nb.png,dog,test,test\n", "is the split in column 'set' or 'phase'"),
        ("filename,class,category\na.png,cat,x\nb.png,dog,y\n", "is the label in column 'class' or 'category'"),
        (
            "image,melanoma,nevus\na,1,0\nb,0,1\n",
            "'image' is the path, but no column's name says label among image, mel",
        ),
        ("0,a.png,cat\n1,b.png,dog\n", "column 2 names the images, and no other column holds train"),
        ("path,label\na, b.png,cat\nb.png,dog\n", "line 2: 3 columns; expected path,label, and quotation marks"),
        ("path,label\n,cat\nb.png,dog\n", "line 2: no path"),
        ("path,label\na.png,cat\nb\0.png,dog\n", "line 3: a NUL character"),
        ("path,label\na.png,cat\nb.png,d\0og\n", "line 3: a NUL character"),
        ("path,label\na.png,café\n".encode("latin-1"), "line 2: bytes that are not UTF-8"),
        (CSV.encode("utf-16") + b"x", "begins like UTF-16 and is none"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "line 1: .*; expected a directory, or a CSV or TSV file"),
        ("# nothing\n# yet\n", "comments alone"),
        ("one word\nor more\n", "line 1: 1 columns"),
    ],
)
def test_where_a_table_is_damaged_or_in_doubt_a_line_asks(opened, text, message):
    with pytest.raises(UserError, match=message) as caught:
        opened(text)
    assert str(caught.value).startswith("--dataset list.csv")
    assert "\n" not in str(caught.value)


def test_a_name_without_extension_that_two_files_have(opened):
    with pytest.raises(UserError, match=r"line 2: is 'd' d\.jpg or d\.png\?"):
        opened("id,label\nd,cat\na,dog\n", ("d.png", "d.jpg", "a.png"))


@pytest.mark.parametrize(
    ("text", "data_dir", "hint"),
    [
        ("image_id,label\n0001,cat\n0002,dog\n", None, r"did you mean --data_dir \./train\?"),
        ("path,label\ntrain\\0001.jpg,cat\ntrain\\0002.jpg,dog\n", "train", r"did you mean --data_dir /.*\?"),
        ("path,label\nC:\\data\\a.png,cat\nC:\\data\\b.png,dog\n", None, r"or to --data_dir$"),
    ],
)
def test_a_table_none_of_whose_files_is_there_is_not_trained_on(opened, text, data_dir, hint):
    (flaw,) = opened(text, ("train/0001.jpg", "train/0002.jpg"), data_dir=data_dir).flaws
    assert flaw.startswith("none of the 2 files that list.csv lists is there, such as ")
    assert re.search(hint, flaw)
