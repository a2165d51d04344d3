"""LeNet and Network in Network layer by layer: figures that a count with 1000 classes and colour cannot show."""

import kcnn


def parameters(model):
    return {layer.name: layer.count_params() for layer in model.layers if layer.weights}


def test_lenet5_is_the_papers_layer_by_layer():
    """LeCun et al., section II.B; C1's 156 with one colour, of which there are three here."""
    found = parameters(kcnn.create_model("lenet5", 10))
    c3 = sum(count for name, count in found.items() if name.startswith("stage2_conv"))
    assert found["stage1_conv"] == 156 + 2 * 6 * 25
    assert found["stage1_subsample"] == 12
    assert c3 == 1516
    assert found["stage2_subsample"] == 32
    assert found["stage3_conv"] == 48_120
    assert found["head_fc1"] == 10_164


def test_lenet_of_caffe():
    """431,080 with one colour and 10 classes."""
    assert sum(parameters(kcnn.create_model("lenet_caffe", 10)).values()) == 431_080 + 2 * 20 * 25


def test_network_in_network_for_cifar():
    """966,986 with 10 classes: the count of imgclsmob."""
    assert sum(parameters(kcnn.create_model("nin_cifar", 10)).values()) == 966_986
