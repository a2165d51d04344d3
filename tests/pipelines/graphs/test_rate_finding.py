"""find_rate by its command."""

import json

import numpy as np
import pytest
from PIL import Image

from pipelines import command_line


def find_rate(folder, *arguments):
    flags = ["--dataset", folder / "photos", "--pipeline_root", folder / "root", "--model", "lenet5", "--offline"]
    return command_line.run(["main.py", "find_rate", *map(str, [*flags, *arguments])])


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """Two classes of 30 pictures: dark ones and bright ones."""
    folder = tmp_path_factory.mktemp("work")
    rng = np.random.default_rng(0)
    for split, count in (("train", 30), ("val", 5), ("test", 5)):
        for label, level in (("dark", 60), ("bright", 190)):
            (folder / "photos" / split / label).mkdir(parents=True)
            for index in range(count):
                pixels = rng.normal(level, 30, (32, 32, 3)).clip(0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / "photos" / split / label / f"{index}.png")
    return folder


def test_it_suggests_a_rate_and_keeps_no_weights(workplace, capsys):
    assert find_rate(workplace, "--steps", 60, "--optimizer", "momentum") == 0
    out = capsys.readouterr().out
    (found,) = (workplace / "root" / "RateFinder" / "found").iterdir()
    record = json.loads((found / "rates.json").read_text())
    assert f"Suggested: --learning_rate {record['suggested']:.2g} (without the flag it is 0.0125)" in out
    assert f"Plot: {found / 'rates.png'}" in out
    rates, losses = np.array(record["rates"]), record["losses"]
    assert len(rates) == len(losses) > 20
    np.testing.assert_allclose(rates[1:] / rates[:-1], 1e5 ** (1 / 59), rtol=1e-6)  # exponential
    assert rates[0] == pytest.approx(0.0125e-3)
    assert rates[0] < record["suggested"] < rates[-1]
    with Image.open(found / "rates.png") as picture:
        assert min(picture.size) > 400
    assert {path.name for path in found.iterdir()} == {"rates.json", "rates.png"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--steps", 3], "--steps 3: expected 20 to 100000; the nearest is 20"),
        (["--optimizer", "adm"], "--optimizer 'adm': did you mean 'adam'"),
        (["--model", "auto"], "--model auto: expected an architecture's name"),
        (["--recipe", "scratch", "--finetune"], "expected one of the two"),
        (["photos"], "find_rate: unexpected argument 'photos'"),
    ],
)
def test_mistakes(workplace, capsys, arguments, message):
    assert find_rate(workplace, *arguments) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
