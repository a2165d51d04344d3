"""JSON to arrays."""

import json

import numpy as np
import pytest

from kcnn.serving.server.runtime import ArraySpec
from kcnn.serving.server.status import StatusError
from kcnn.serving.server.tensors import json_to_array


def test_texts_do_not_get_the_room_of_the_longest():
    with pytest.raises(StatusError, match="found text"):
        json_to_array(["x" * 10**6] + [""] * 10**5, ArraySpec(np.dtype(np.uint8), (None,)), "images")


def test_texts_of_any_rank():
    anything = ArraySpec(np.dtype(object), None)
    assert json_to_array("a", anything, "x").tolist() == b"a"
    assert json_to_array([["a"], ["b"]], anything, "x").shape == (2, 1)
    assert json_to_array([], anything, "x").shape == (0,)
    with pytest.raises(StatusError, match="nested too deep"):
        json_to_array(json.loads("[" * 900 + "]" * 900), anything, "x")
