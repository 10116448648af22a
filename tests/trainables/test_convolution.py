import pytest
import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from trainables import convolution as module
from trainables.convolution import Conv2d


@pytest.fixture(params=[(0, 0), (4, 4), (9, 25)], ids=str)
def limits(request, monkeypatch):
    """What any processor may take, whatever this one would."""
    monkeypatch.setattr(module, "limits", lambda dtype, channels: request.param)


@pytest.mark.parametrize(
    ("height", "width", "kernel", "stride", "padding"),
    [(1, 1, 3, 1, 1), (2, 2, 3, 1, 1), (2, 2, 3, 2, 1), (3, 2, 3, 2, 1), (5, 5, 3, 1, 1),
     (8, 8, 3, 2, 1), (4, 4, 1, 2, 0), (3, 3, 1, 2, 0), (3, 3, 7, 2, 3), (2, 2, 7, 2, 3),
     (3, 3, 2, 1, 1), (4, 6, 5, 2, 2), (9, 9, 3, 1, 1)],
)  # fmt: skip
def test_equals_torch_in_double_precision(limits, height, width, kernel, stride, padding):
    torch.manual_seed(0)
    convolution = Conv2d(3, 5, kernel, stride, padding).to(memory_format=torch.channels_last)
    x = (
        torch.randn(6, 3, height, width)
        .contiguous(memory_format=torch.channels_last)
        .requires_grad_()
    )
    exact_x, exact_weight = (
        each.detach().double().requires_grad_() for each in (x, convolution.weight)
    )
    exact = F.conv2d(exact_x, exact_weight, None, stride, padding)
    gradient = torch.randn(exact.shape)
    got = convolution(x)
    # Not of the input's shape alone: the gradient that arrives may be in any memory layout.
    got.backward(gradient)
    exact.backward(gradient.double())
    for ours, theirs in (
        (got, exact),
        (x.grad, exact_x.grad),
        (convolution.weight.grad, exact_weight.grad),
    ):
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-5, atol=1e-5)
    assert convolution.weight.grad.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_in_bf16_it_is_as_close_as_torch_is(limits, size):
    torch.manual_seed(0)
    convolution = Conv2d(32, 32, 3, 1, 1).to(memory_format=torch.channels_last)
    x = torch.randn(8, 32, size, size).contiguous(memory_format=torch.channels_last)

    def results(convolve):
        leaf = x.clone().requires_grad_()
        convolution.weight.grad = None
        with torch.autocast("cpu", torch.bfloat16):
            out = convolve(leaf)
        assert out.dtype == torch.bfloat16
        out.float().square().sum().backward()
        return out.detach().float(), leaf.grad, convolution.weight.grad

    exact = F.conv2d(x, convolution.weight, None, 1, 1)
    ours = results(convolution)
    theirs = results(lambda leaf: F.conv2d(leaf, convolution.weight, None, 1, 1))
    assert (ours[0] - exact).abs().max() <= 2 * (theirs[0] - exact).abs().max()
    for mine, torchs in zip(ours, theirs, strict=True):
        assert mine.dtype == torch.float32
        torch.testing.assert_close(mine, torchs, rtol=0.05, atol=0.02 * torchs.abs().max().item())


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16], ids=str)
def test_weights_are_not_copied_for_every_row_of_a_map(precision):
    """`@` of a map and a matrix may become a batch of B×H products; in bf16 that took a hundred
    times as long."""
    convolution = Conv2d(16, 16, 3, 1, 1).to(memory_format=torch.channels_last)
    x = torch.randn(4, 16, 2, 2).contiguous(memory_format=torch.channels_last).requires_grad_()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
            out = convolution(x)
        out.sum().backward()
    counts = {event.key: event.count for event in profiler.key_averages()}
    # Nine taps, each a product in forward, two in backward.
    assert (counts["aten::mm"], counts.get("aten::bmm", 0)) == (27, 0)


class Converted(TorchDispatchMode):
    """Counts the elements that are converted to another precision."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if func.overloadpacket.__name__ == "_to_copy":
            self.elements += out.numel()
        return out


def test_only_the_taps_that_meet_a_pixel_are_converted():
    """In bf16 on a map of one pixel: one tap of nine; all of them took longer."""
    convolution = Conv2d(64, 64, 3, 1, 1).to(memory_format=torch.channels_last)
    x = torch.randn(4, 64, 1, 1, dtype=torch.bfloat16).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16), Converted() as converted:
        convolution(x).sum().backward()
    maps = 2 * x.numel()  # what comes out, and the gradient of what went in
    assert converted.elements == 64 * 64 + maps
