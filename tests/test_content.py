"""The content of folders: what counts, and what does not."""

from kcnn import content
from kcnn.leftovers import is_data


def test_leftovers_of_systems_are_no_content(tmp_path):
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets" / "labels.txt").write_text("cat\ndog\n")
    before = content.fingerprint(tmp_path), content.size(tmp_path)
    for name in ("Thumbs.db", ".DS_Store", "assets/desktop.ini", "@eaDir/labels.txt@SynoEAStream"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    assert (content.fingerprint(tmp_path), content.size(tmp_path)) == before
    (tmp_path / "assets" / "more.txt").touch()
    assert content.fingerprint(tmp_path) != before[0]


def test_names_of_data():
    assert all(map(is_data, ("cat", "a.jpg", "@user", "$20", "#1", "~a", "found", "thumbs", "System", "recycled")))
    assert not any(map(is_data, (".a", "THUMBS.DB", "Desktop.ini", "$Recycle.Bin", "found.012", "@eadir", "~$a.docx")))
