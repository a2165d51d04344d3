"""NASNet-A of timm."""

from kcnn.weights.torch_names import TORCH_NAMES, renamed


def _cell(stage: int, kind: str, index: int | str) -> str:
    if kind == "cell":
        return f"cell_{6 * (stage - 1) + int(index) - 1}"
    return f"cell_stem_{int(index) - 1}" if index else f"reduction_cell_{stage - 2}"


_CELL = r"stage(\d)_(cell|reduction)(\d?)_"
_INPUT = {"current": "conv_1x1.conv", "previous": "conv_prev_1x1.conv"}
_INPUT_NORM = {"current": "conv_1x1.bn", "previous": "conv_prev_1x1.bn"}
_HALVED = {"even": "path_1.conv", "odd": "path_2.conv", "norm": "final_path_bn"}

TORCH_NAMES.add(
    "nasnet",
    {
        "timm": renamed(
            (r"stem_conv", "conv0.conv"),
            (r"stem_conv_norm", "conv0.bn"),
            (_CELL + r"(current|previous)", lambda s, kind, i, x: f"{_cell(s, kind, i)}.{_INPUT[x]}"),
            (_CELL + r"(current|previous)_norm", lambda s, kind, i, x: f"{_cell(s, kind, i)}.{_INPUT_NORM[x]}"),
            (_CELL + r"halved_(even|odd|norm)", lambda s, kind, i, x: f"{_cell(s, kind, i)}.{_HALVED[x]}"),
            (
                _CELL + r"(left|right)(\d)_sep(\d)_(depthwise|pointwise)",
                lambda s, kind, i, side, row, sep, part: (
                    f"{_cell(s, kind, i)}.comb_iter_{row - 1}_{side}.separable_{sep}.{part}_conv2d"
                ),
            ),
            (
                _CELL + r"(left|right)(\d)_sep(\d)_norm",
                lambda s, kind, i, side, row, sep: f"{_cell(s, kind, i)}.comb_iter_{row - 1}_{side}.bn_sep_{sep}",
            ),
            (r"head_logits", "last_linear"),
        )
    },
)
