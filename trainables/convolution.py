"""A convolution that stays fast on a CPU where its maps have shrunk to a few pixels.

oneDNN, which computes torch's convolutions on a CPU, is made for large maps. At 1×1 and 2×2 pixels,
where the last stages of the network work on small images, its gradient of the weights takes up to a
hundred times what a matrix product of the same size takes. There a convolution is written as what
it is: the sum, over the taps (i, j) of its kernel, of a matrix product between the pixels that this
tap meets; taps that meet nothing but padding cost nothing. It is the same sum in another order:
equal to rounding.
"""

from collections.abc import Iterator
from functools import cache
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.grad import conv2d_input


@cache
def limits(dtype: torch.dtype, channels: int) -> tuple[int, int]:
    """Pixels of an output map up to which all is computed tap by tap, and up to which the gradient
    of the weights is.

    Found by timing both on one core, batch 128, on three kinds of processor: the more `channels`
    come out, the sooner oneDNN falls behind. In float32 its convolutions have AVX-512 where the
    processor does, the matrix products of MKL only on one of Intel's.
    """
    if dtype != torch.float32:
        return (25, 25) if channels >= 512 else (9, 25)
    processor = torch.cpu.get_capabilities()
    if not processor.get("avx512_f"):
        return (9, 25)
    return (25, 25) if channels >= 256 and "Intel" in processor.get("cpu_name", "") else (4, 4)


class Conv2d(nn.Conv2d):
    """`nn.Conv2d` of a square kernel, without bias; the same parameters under the same names."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, stride: int, padding: int
    ) -> None:
        super().__init__(in_channels, out_channels, kernel, stride, padding, bias=False)

    def forward(self, x_BxCxHxW: Tensor) -> Tensor:
        kernel, stride, padding = self.kernel_size[0], self.stride[0], int(self.padding[0])
        size = torch.Size(
            (pixels + 2 * padding - kernel) // stride + 1 for pixels in x_BxCxHxW.shape[2:]
        )
        if x_BxCxHxW.device.type != "cpu":
            return super().forward(x_BxCxHxW)
        dtype = (
            torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x_BxCxHxW.dtype
        )
        if size.numel() > limits(dtype, self.out_channels)[1]:
            return super().forward(x_BxCxHxW)
        out: Tensor = _SmallMapConvolution.apply(
            x_BxCxHxW.to(dtype), self.weight, size, stride, padding
        )
        return out


class _SmallMapConvolution(torch.autograd.Function):
    """Tap by tap where the map is small enough for it, else oneDNN with its gradient of the weights
    replaced.

    Computed in the precision of `x`. The weights keep theirs, and so does their gradient: on a map
    of one pixel a single tap of nine meets it, and to convert the others would take longer than the
    product.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x_BxCxHxW: Tensor,
        weight_OxCxKxK: Tensor,
        size: torch.Size,
        stride: int,
        padding: int,
    ) -> Tensor:
        ctx.stride, ctx.padding, ctx.weight = stride, padding, weight_OxCxKxK
        ctx.taps = _taps(x_BxCxHxW.shape[2:], size, weight_OxCxKxK.shape[2], stride, padding)
        ctx.by_taps = size.numel() <= limits(x_BxCxHxW.dtype, len(weight_OxCxKxK))[0]
        if not ctx.by_taps:
            weight_OxCxKxK = weight_OxCxKxK.to(x_BxCxHxW.dtype)
            ctx.save_for_backward(x_BxCxHxW, weight_OxCxKxK)
            return F.conv2d(x_BxCxHxW, weight_OxCxKxK, None, stride, padding)
        weights_OxC = [weight_OxCxKxK[tap].to(x_BxCxHxW.dtype) for tap, _, _ in ctx.taps]
        ctx.save_for_backward(x_BxCxHxW, *weights_OxC)
        x_BxHxWxC = x_BxCxHxW.permute(0, 2, 3, 1)
        out_BxHxWxO = torch.zeros(len(x_BxCxHxW), *size, len(weight_OxCxKxK))
        for (_, outputs, inputs), weight_OxC in zip(ctx.taps, weights_OxC, strict=True):
            out_BxHxWxO[outputs] += _product(x_BxHxWxC[inputs], weight_OxC.t())
        return out_BxHxWxO.to(x_BxCxHxW.dtype).permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, None, None, None]:
        (x_BxCxHxW, *weights), (grad_BxOxHxW,) = ctx.saved_tensors, gradients
        x_BxHxWxC, grad_BxHxWxO = x_BxCxHxW.permute(0, 2, 3, 1), grad_BxOxHxW.permute(0, 2, 3, 1)
        # In the memory layout of the weights, which the optimizer then need not copy.
        weight_grad_OxCxKxK = torch.empty_like(ctx.weight)
        if len(ctx.taps) < weight_grad_OxCxKxK[0, 0].numel():
            weight_grad_OxCxKxK.zero_()
        for tap, outputs, inputs in ctx.taps:
            grad_NxO, x_NxC = grad_BxHxWxO[outputs].flatten(0, 2), x_BxHxWxC[inputs].flatten(0, 2)
            if x_NxC.dtype == weight_grad_OxCxKxK.dtype:
                torch.mm(grad_NxO.t(), x_NxC, out=weight_grad_OxCxKxK[tap])
            else:
                weight_grad_OxCxKxK[tap] = grad_NxO.t() @ x_NxC
        if not ctx.needs_input_grad[0]:
            x_grad_BxCxHxW = None
        elif not ctx.by_taps:
            x_grad_BxCxHxW = conv2d_input(
                x_BxCxHxW.shape, weights[0], grad_BxOxHxW, ctx.stride, ctx.padding
            )
        else:
            x_grad_BxHxWxC = torch.zeros(x_BxHxWxC.shape)
            for (_, outputs, inputs), weight_OxC in zip(ctx.taps, weights, strict=True):
                x_grad_BxHxWxC[inputs] += _product(grad_BxHxWxO[outputs], weight_OxC)
            x_grad_BxCxHxW = x_grad_BxHxWxC.to(x_BxCxHxW.dtype).permute(0, 3, 1, 2)
        return x_grad_BxCxHxW, weight_grad_OxCxKxK, None, None, None


def _product(a_BxHxWxN: Tensor, b_NxM: Tensor) -> Tensor:
    """The product of all pixels with a matrix as one of two matrices; `@` makes B×H of it, with a
    copy of b each."""
    return (a_BxHxWxN.flatten(0, 2) @ b_NxM).view(*a_BxHxWxN.shape[:3], -1)


Index = tuple[slice | int, ...]


@cache
def _taps(
    size: torch.Size, out: torch.Size, kernel: int, stride: int, padding: int
) -> list[tuple[Index, ...]]:
    """Of each tap that meets a pixel: its O×C slice of the weights, the outputs it adds to, the
    inputs it reads."""

    def along(pixels: int, outputs: int) -> Iterator[tuple[int, slice, slice]]:
        """The same along one axis."""
        for tap in range(kernel):
            first = max(0, -((tap - padding) // stride))
            last = min(outputs - 1, (pixels - 1 + padding - tap) // stride)
            start, count = first * stride + tap - padding, last - first + 1
            if count > 0:
                yield tap, slice(first, last + 1), slice(start, start + count * stride, stride)

    every = slice(None)
    return [
        ((every, every, i, j), (every, out_rows, out_columns), (every, in_rows, in_columns))
        for (i, out_rows, in_rows), (j, out_columns, in_columns) in product(*map(along, size, out))
    ]
