"""The order of blocks, their strides and their drop rates."""

import pytest

from kcnn.nn.stages import block_positions


def test_blocks_in_order():
    found = list(block_positions((2, 1), (1, 2)))
    assert [at.name for at in found] == ["stage1_block1", "stage1_block2", "stage2_block1"]
    assert [(at.stage, at.index, at.strides) for at in found] == [(1, 1, 1), (1, 2, 1), (2, 1, 2)]
    assert {at.drop_rate for at in found} == {0}


@pytest.mark.parametrize(("strided", "expected"), [(0, [2, 1, 1, 2, 1]), (-1, [1, 1, 2, 1, 2]), (1, [1, 2, 1, 1, 2])])
def test_one_block_of_a_stage_has_its_stride(strided, expected):
    assert [at.strides for at in block_positions((3, 2), (2, 2), strided=strided)] == expected


def test_stochastic_depth_rises_to_the_rate_of_the_last_block():
    """Huang et al., section 3, linear decay: 1 - p_l = l / L * (1 - p_L)."""
    rates = [at.drop_rate for at in block_positions((2, 2), (1, 1), drop_path=0.4)]
    assert rates == pytest.approx([0.1, 0.2, 0.3, 0.4])
    rates = [at.drop_rate for at in block_positions((1, 2), (1, 1), drop_path=0.4, never_dropped=1)]
    assert rates == pytest.approx([0, 0.2, 0.4])


def test_names_have_the_word_for_a_block():
    assert [at.name for at in block_positions((1,), (1,), kind="unit")] == ["stage1_unit1"]


def test_stages_and_strides_must_be_as_many():
    with pytest.raises(ValueError, match="shorter"):
        list(block_positions((1, 2), (1,)))
