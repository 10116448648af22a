"""A convolution that stays fast on a CPU where its maps have shrunk to a few pixels.

oneDNN, which computes torch's convolutions on a CPU, is made for large maps. At 1×1 and 2×2 pixels, where
the last stages of the network work on small images, its gradient of the weights takes up to a hundred
times what a matrix product of the same size takes. There a convolution is written as what it is: the sum,
over the taps (i, j) of its kernel, of a matrix product between the pixels that this tap meets; taps that
meet nothing but padding cost nothing. It is the same sum in another order: equal to rounding.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

TAPS_UP_TO = 9
"""Pixels of an output map up to which all is computed tap by tap (`make bench` prints both ways)."""
WEIGHT_TAPS_UP_TO = 25
"""Pixels of an output map up to which the gradient of the weights is."""


class Conv2d(nn.Conv2d):
    """`nn.Conv2d` without bias, of a square kernel; the same parameters under the same names."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int, padding: int) -> None:
        super().__init__(in_channels, out_channels, kernel, stride, padding, bias=False)

    def forward(self, x_BxCxHxW: Tensor) -> Tensor:
        stride, padding = self.stride[0], int(self.padding[0])
        height, width = output_size(x_BxCxHxW, self.weight, stride, padding)
        if x_BxCxHxW.device.type != "cpu" or height * width > WEIGHT_TAPS_UP_TO:
            return super().forward(x_BxCxHxW)
        out: Tensor = _SmallMapConvolution.apply(x_BxCxHxW, self.weight, stride, padding)
        return out


def output_size(x_BxCxHxW: Tensor, weight_OxCxKxK: Tensor, stride: int, padding: int) -> tuple[int, int]:
    """Height and width of the convolution's result."""
    kernel = weight_OxCxKxK.shape[2]
    height, width = ((pixels + 2 * padding - kernel) // stride + 1 for pixels in x_BxCxHxW.shape[2:])
    return height, width


Span = tuple[slice, slice]


def taps(size: int, out: int, kernel: int, stride: int, padding: int) -> Iterator[tuple[int, Span]]:
    """Along one axis, each tap that meets a pixel: its place, and which outputs meet which inputs."""
    for tap in range(kernel):
        first = max(0, -((tap - padding) // stride))
        last = min(out - 1, (size - 1 + padding - tap) // stride)
        if first <= last:
            start = first * stride + tap - padding
            inputs = slice(start, (last - first) * stride + start + 1, stride)
            yield tap, (slice(first, last + 1), inputs)


class _SmallMapConvolution(torch.autograd.Function):
    """Tap by tap where the map is small enough for it, else oneDNN with its gradient of the weights replaced."""

    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu", cast_inputs=torch.bfloat16)  # type: ignore[untyped-decorator]
    def forward(ctx: Any, x_BxCxHxW: Tensor, weight_OxCxKxK: Tensor, stride: int, padding: int) -> Tensor:
        ctx.save_for_backward(x_BxCxHxW, weight_OxCxKxK)
        ctx.stride, ctx.padding = stride, padding
        height, width = output_size(x_BxCxHxW, weight_OxCxKxK, stride, padding)
        if height * width > TAPS_UP_TO:
            return F.conv2d(x_BxCxHxW, weight_OxCxKxK, None, stride, padding)
        x_BxHxWxC = x_BxCxHxW.permute(0, 2, 3, 1)
        out_BxHxWxO = torch.zeros(len(x_BxCxHxW), height, width, len(weight_OxCxKxK))
        for weight_OxC, outputs, inputs in _pairs(weight_OxCxKxK, x_BxHxWxC, out_BxHxWxO, stride, padding):
            out_BxHxWxO[outputs] += x_BxHxWxC[inputs] @ weight_OxC.t()
        return out_BxHxWxO.to(x_BxCxHxW.dtype).permute(0, 3, 1, 2)

    @staticmethod
    @torch.amp.custom_bwd(device_type="cpu")  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, None, None]:
        x_BxCxHxW, weight_OxCxKxK = ctx.saved_tensors
        x_BxHxWxC, grad_BxHxWxO = x_BxCxHxW.permute(0, 2, 3, 1), gradients[0].permute(0, 2, 3, 1)
        # In the memory layout of the weights, which the optimizer then need not copy.
        weight_grad_OxCxKxK = torch.empty_like(weight_OxCxKxK)
        pairs = list(_pairs(weight_grad_OxCxKxK, x_BxHxWxC, grad_BxHxWxO, ctx.stride, ctx.padding))
        if len(pairs) < weight_OxCxKxK.shape[2:].numel():
            weight_grad_OxCxKxK.zero_()
        for product_OxC, outputs, inputs in pairs:
            torch.mm(grad_BxHxWxO[outputs].flatten(0, 2).t(), x_BxHxWxC[inputs].flatten(0, 2), out=product_OxC)
        if not ctx.needs_input_grad[0]:
            return None, weight_grad_OxCxKxK, None, None
        if grad_BxHxWxO.shape[1:3].numel() > TAPS_UP_TO:
            x_grad_BxCxHxW = torch.ops.aten.convolution_backward(
                gradients[0], x_BxCxHxW, weight_OxCxKxK, None, (ctx.stride,) * 2, (ctx.padding,) * 2, (1, 1),
                False, (0, 0), 1, (True, False, False),
            )[0]  # fmt: skip
            return x_grad_BxCxHxW, weight_grad_OxCxKxK, None, None
        x_grad_BxHxWxC = torch.zeros(x_BxHxWxC.shape)
        for weight_OxC, outputs, inputs in _pairs(weight_OxCxKxK, x_BxHxWxC, grad_BxHxWxO, ctx.stride, ctx.padding):
            x_grad_BxHxWxC[inputs] += grad_BxHxWxO[outputs] @ weight_OxC
        return x_grad_BxHxWxC.to(x_BxCxHxW.dtype).permute(0, 3, 1, 2), weight_grad_OxCxKxK, None, None


Index = tuple[slice, slice, slice]


def _pairs(
    weight_OxCxKxK: Tensor, x_BxHxWxC: Tensor, out_BxHxWxO: Tensor, stride: int, padding: int
) -> Iterator[tuple[Tensor, Index, Index]]:
    """Of each tap that meets a pixel: its O×C slice of the kernel, where it writes and where it reads."""
    kernel, everywhere = weight_OxCxKxK.shape[2], slice(None)
    down = list(taps(x_BxHxWxC.shape[1], out_BxHxWxO.shape[1], kernel, stride, padding))
    across = list(taps(x_BxHxWxC.shape[2], out_BxHxWxO.shape[2], kernel, stride, padding))
    for i, (out_rows, in_rows) in down:
        for j, (out_columns, in_columns) in across:
            yield weight_OxCxKxK[:, :, i, j], (everywhere, out_rows, out_columns), (everywhere, in_rows, in_columns)
