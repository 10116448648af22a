"""The network against torchvision's, an independent count of its cost, and every point of the
space."""

import itertools
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import resnet18, resnet34

from trainables.config import DEPTHS, TrialConfig
from trainables.resnet import (
    BasicBlock,
    BatchNorm2d,
    ZeroPaddingShortcut,
    build_resnet,
    load_resnet,
    network_cost,
    save_resnet,
)

IMAGE_SHAPES = [(1, 16, 16), (1, 28, 28), (3, 32, 32)]


def torchvision_name(name: str) -> str:
    """Our name of a parameter or buffer -> torchvision's."""
    name = (
        name.replace("stem.conv.", "conv1.").replace("stem.norm.", "bn1.").replace("head.", "fc.")
    )
    name = (
        name.replace(".norm1.", ".bn1.")
        .replace(".norm2.", ".bn2.")
        .replace("shortcut", "downsample")
    )
    for stage in range(4):
        name = name.replace(f"stages.{stage}.", f"layer{stage + 1}.")
    return name


@pytest.mark.parametrize(("depth", "reference"), [(18, resnet18), (34, resnet34)])
def test_equals_torchvision(depth, reference):
    theirs = reference(num_classes=10).eval()
    ours = build_resnet(TrialConfig(depth=depth), (3, 64, 64), 10).eval()
    shapes = {torchvision_name(name): tensor.shape for name, tensor in ours.state_dict().items()}
    assert shapes == {name: tensor.shape for name, tensor in theirs.state_dict().items()}

    ours.load_state_dict(
        {name: theirs.state_dict()[torchvision_name(name)] for name in ours.state_dict()}
    )
    images = torch.randn(4, 3, 64, 64)
    for mode in (True, False):
        torch.testing.assert_close(
            ours.train(mode)(images), theirs.train(mode)(images), rtol=1e-4, atol=1e-4
        )


@pytest.mark.parametrize("shape", IMAGE_SHAPES, ids=str)
def test_every_point_of_the_space_builds_and_takes_a_step(shape):
    space = itertools.product((2, 3, 5, 7), (1, 2), (True, False), DEPTHS)
    images, labels = torch.randn(2, *shape), torch.tensor([0, 1])
    for kernel, stride, pool, depth in space:
        config = TrialConfig(
            stem_kernel=kernel, stem_stride=stride, stem_maxpool=pool, depth=depth, width=4
        )
        model = build_resnet(config, shape, 10)
        before = model.stem.conv.weight.clone()
        logits = model(images)
        assert logits.shape == (2, 10)
        F.cross_entropy(logits, labels).backward()
        torch.optim.SGD(model.parameters(), 0.1).step()
        # At least one weight of the first layer moved: the gradient came all the way.
        assert not torch.equal(model.stem.conv.weight, before), config.arm


@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("shortcut", ["projection", "zero-padding"])
@pytest.mark.parametrize("depth", [10, 34])
def test_cost_is_an_independent_count(residual, shortcut, depth):
    config = TrialConfig(
        stem_kernel=3, stem_stride=1, depth=depth, residual=residual, shortcut=shortcut
    )
    cost = network_cost(config, (3, 32, 32), 10)
    # Not on a CPU, where convolutions on small maps leave out what meets padding only.
    model = build_resnet(config, (3, 32, 32), 10).eval().to("meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, 3, 32, 32, device="meta"))
    assert cost.forward_flops == counter.get_total_flops()
    assert cost.parameters == sum(parameter.numel() for parameter in model.parameters())
    sizes = []
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda _, __, output: sizes.append(output.numel()))
    model(torch.zeros(1, 3, 32, 32, device="meta"))
    assert cost.activations == sum(sizes)


def test_cost_by_hand():
    # One block a stage, width 1, 1×1×8×8 images, 3×3 stem of stride 1, no pool, plain, 2 classes.
    config = TrialConfig(
        stem_kernel=3, stem_stride=1, stem_maxpool=False, depth=10, width=1, residual=False
    )
    stem = 9 * 64
    stages = 64 * (9 + 9) + 16 * (18 + 36) + 4 * (72 + 144) + 1 * (288 + 576)
    head = 8 * 2
    cost = network_cost(config, (1, 8, 8), 2)
    assert cost.forward_flops == 2 * (stem + stages + head)
    convolutions = 9 + 9 + 9 + 18 + 36 + 72 + 144 + 288 + 576
    norms = 2 * (1 + 2 * (1 + 2 + 4 + 8))
    assert cost.parameters == convolutions + norms + 8 * 2 + 2
    assert cost.activations == 64 + 2 * (64 + 16 * 2 + 4 * 4 + 1 * 8)


PEAK = r"""
import re
import numpy as np
from trainables.config import TrialConfig
from trainables.parts import Part, TrialData
from trainables.training import Trainer, prepare_process

prepare_process(1)
config = TrialConfig(stem_kernel=3, stem_stride=1, stem_maxpool=False, depth=10)
images = np.zeros((128, 3, 32, 32), np.uint8)
part = Part(images, np.arange(128) % 10)
Trainer(config, TrialData(part, None, None, 10, False)).train_epoch()
print(re.search(r"VmHWM:\s+(\d+) kB", open("/proc/self/status").read())[1])
"""
# Not ru_maxrss of getrusage: Linux hands that on from the process that starts this one, here
# pytest, whose own peak may be the higher one.


@pytest.mark.slow
def test_memory_is_about_what_a_process_takes():
    done = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, check=True)
    config = TrialConfig(stem_kernel=3, stem_stride=1, stem_maxpool=False, depth=10)
    expected = network_cost(config, (3, 32, 32), 10).training_bytes(128)
    assert 1024 * int(done.stdout) == pytest.approx(expected, rel=0.3)


def test_known_costs_on_cifar():
    """MFLOP an image and millions of parameters, as published for these networks."""
    known = {
        (7, 2, True, 18): (74, 11.2),
        (3, 1, True, 34): (582, 21.3),
        (3, 1, False, 10): (507, 4.9),
    }
    for (kernel, stride, pool, depth), (mflop, million) in known.items():
        config = TrialConfig(stem_kernel=kernel, stem_stride=stride, stem_maxpool=pool, depth=depth)
        cost = network_cost(config, (3, 32, 32), 10)
        assert round(cost.forward_flops / 1e6) == mflop
        assert round(cost.parameters / 1e6, 1) == million


def test_plain_network_has_no_addition_and_residual_is_identity_when_its_branch_is_zero():
    image = torch.rand(1, 4, 5, 5)
    residual = BasicBlock(TrialConfig(), 4, 4, 1).eval()
    plain = BasicBlock(TrialConfig(residual=False), 4, 4, 1).eval()
    for block in (residual, plain):
        nn.init.zeros_(block.norm2.weight)
    # Identity by construction: with nothing learnt a residual block passes its (non-negative) input
    # on.
    torch.testing.assert_close(residual(image), image)
    torch.testing.assert_close(plain(image), torch.zeros_like(image))
    assert not [name for name, _ in plain.named_parameters() if "shortcut" in name]


def test_zero_padding_shortcut_by_hand():
    image = torch.arange(16.0).reshape(1, 1, 4, 4)
    out = ZeroPaddingShortcut(1, 3, 2)(image)
    assert out.shape == (1, 3, 2, 2)
    assert out[0, 0].tolist() == [[0, 2], [8, 10]]
    assert not out[0, 1:].any()


def test_initialisation():
    he = build_resnet(TrialConfig(init="he"), (3, 32, 32), 10)
    default = build_resnet(TrialConfig(init="default"), (3, 32, 32), 10)
    for model, std in ((he, (2 / (9 * 512)) ** 0.5), (default, (1 / (3 * 9 * 512)) ** 0.5)):
        # 2.4 million draws: the standard deviation is known to a tenth of a percent.
        assert model.stages[3][1].conv2.weight.std().item() == pytest.approx(std, rel=5e-3)


def test_weights_are_a_pure_function_of_the_config():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first = build_resnet(TrialConfig(width=4, seed=1), (3, 32, 32), 10)
    assert torch.equal(torch.rand(1), expected), "the global random state was moved"
    again = build_resnet(TrialConfig(width=4, seed=1), (3, 32, 32), 10)
    other = build_resnet(TrialConfig(width=4, seed=2), (3, 32, 32), 10)
    assert all(
        torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True)
    )
    assert not torch.equal(first.head.weight, other.head.weight)


def test_saved_network_answers_as_before(tmp_path):
    config = TrialConfig(width=4, depth=10)
    model = build_resnet(config, (3, 32, 32), 3).eval()
    save_resnet(
        tmp_path, config, (3, 32, 32), ("a", "b", "c"), [0.5] * 3, [0.2] * 3, model.state_dict()
    )
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(load_resnet(tmp_path)(images), model(images))


@pytest.mark.parametrize("size", [1, 2])
def test_batch_norm_equals_torchs_on_maps_of_one_pixel_too(size):
    torch.manual_seed(0)
    ours, theirs = BatchNorm2d(5), nn.BatchNorm2d(5).double()
    x = torch.randn(8, 5, size, size, requires_grad=True)
    exact_x = x.detach().double().requires_grad_()
    gradient = torch.randn(8, 5, size, size)
    got, exact = ours(x), theirs(exact_x)
    got.backward(gradient)
    exact.backward(gradient.double())
    pairs = ((got, exact), (x.grad, exact_x.grad), (ours.weight.grad, theirs.weight.grad))
    for mine, torchs in (*pairs, (ours.running_var, theirs.running_var)):
        torch.testing.assert_close(mine.double(), torchs, rtol=1e-5, atol=1e-5)
    ours.eval(), theirs.eval()
    torch.testing.assert_close(ours(x).double(), theirs(exact_x), rtol=1e-5, atol=1e-5)
    assert ours.state_dict().keys() == theirs.state_dict().keys()
