"""The settings of the server: importable with nothing else, each value in its range."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from kcnn.errors import UserError
from kcnn.serving.server.settings import FLAG_FIELDS, ServedModel, Settings

HEAVY = {"tensorflow", "starlette", "uvicorn", "grpc", "google.protobuf", "numpy"}
MODELS = (ServedModel("model", Path("model")),)


def test_settings_import_no_heavy_package():
    code = f"import sys, kcnn.serving.server.settings; print(*({HEAVY!r} & sys.modules.keys()))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == ""


def test_each_flag_has_a_type_a_default_and_a_help_text():
    assert len(FLAG_FIELDS) == 15
    for field in FLAG_FIELDS:
        assert field.type in (int, float, str, bool)
        assert isinstance(field.default, field.type)
        assert field.metadata["help"].endswith(".")


@pytest.mark.parametrize("name", [field.name for field in FLAG_FIELDS if field.metadata["lowest"] is not None])
def test_values_below_their_range_are_refused(name):
    lowest = next(field.metadata["lowest"] for field in FLAG_FIELDS if field.name == name)
    assert getattr(Settings(MODELS, **{name: lowest}), name) == lowest
    with pytest.raises(UserError, match=re.escape(f"--{name} {lowest - 1}: expected {lowest}")):
        Settings(MODELS, **{name: lowest - 1})


@pytest.mark.parametrize("name", ["port", "rest_api_port"])
def test_ports_end_at_65535(name):
    with pytest.raises(UserError, match="65535"):
        Settings(MODELS, **{name: 65536})


def test_allowed_hosts_are_names_and_addresses():
    assert Settings(MODELS, allowed_hosts=" A.example, 10.0.0.7,::1,*").hosts == {"a.example", "10.0.0.7", "::1", "*"}
    for wrong in ("http://a.example", "a.example:80", "a b", "*.example"):
        with pytest.raises(UserError, match=re.escape(f"--allowed_hosts {wrong!r}: expected names")):
            Settings(MODELS, allowed_hosts=f"b.example,{wrong}")
