"""How the pixels of images are normalised, in training and for whoever uses the network."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Pixels:
    """The mean and standard deviation of each channel, for pixels from 0 to 1."""

    mean_C: Tensor
    std_C: Tensor

    @classmethod
    def of(cls, normalize: str, images_NxCxHxW: Tensor) -> "Pixels":
        """Statistics over all pixels of the training part (`data`), or 0.5 and 0.5 (`half`)."""
        mean_C = std_C = torch.full(images_NxCxHxW.shape[1:2], 0.5, dtype=torch.float64)
        if normalize == "data":
            # 256 counts per channel hold the same information as millions of pixels, exactly.
            values_256 = torch.arange(256, dtype=torch.float64) / 255
            counts_Cx256 = torch.stack(
                [
                    torch.bincount(channel.flatten().int(), minlength=256)
                    for channel in images_NxCxHxW.unbind(1)
                ]
            )
            counts_Cx256 = counts_Cx256.cpu().double()
            mean_C = counts_Cx256 @ values_256 / counts_Cx256.sum(1)
            squares_Cx256 = counts_Cx256 * (values_256 - mean_C[:, None]) ** 2
            std_C = (squares_Cx256.sum(1) / counts_Cx256.sum(1)).sqrt()
            # A channel that never varies has no information; dividing by 1 leaves it at 0.
            std_C[std_C == 0] = 1
        return cls(*(each_C.float().to(images_NxCxHxW.device) for each_C in (mean_C, std_C)))

    def normalize(self, images_BxCxHxW: Tensor) -> Tensor:
        """uint8 to float32, zero mean and unit deviation."""
        scale_C, shift_C = 1 / (255 * self.std_C), -self.mean_C / self.std_C
        return images_BxCxHxW.float() * scale_C[:, None, None] + shift_C[:, None, None]
