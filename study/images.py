"""The images of a study: which, why them, and their parts."""

import logging
import tempfile
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from study.record import has_study
from study.settings import SAME, StudySettings
from trainables.config import UsageError
from trainables.datasets import load_images
from trainables.mirror import mirrored_classes
from trainables.named import DataUnavailable
from trainables.parts import ImageData, Split, duplicates, split_images

log = logging.getLogger("study")


@dataclass(frozen=True)
class Images:
    """The images of a study: where they came from, why them, and their parts."""

    data: ImageData
    split: Split
    chosen: str | None

    @cached_property
    def duplicates(self) -> dict[str, int]:
        """See `trainables.parts.duplicates`."""
        return duplicates(self.split)

    @cached_property
    def mirrored(self) -> list[tuple[str, str]]:
        """The pairs of classes that mirroring in training mixes up; see
        `trainables.mirror.mirrored_classes`."""
        if not self.data.flip:
            return []
        names = self.data.classes
        pairs = mirrored_classes(self.split.train, len(names))
        return [(names[one], names[other]) for one, other in pairs]

    def to_dict(self) -> dict[str, Any]:
        """What the record and `study.json` hold of them, ready for JSON."""
        data = self.data
        return {
            "name": data.name,
            "chosen": self.chosen,
            "fingerprint": data.fingerprint,
            "counts": {name: len(part) for name, part in vars(self.split).items()},
            "available": len(data.train),
            "image_shape": list(data.image_shape),
            "classes": list(data.classes),
            "skipped": data.skipped,
            "value_range": data.value_range,
            "duplicates": self.duplicates,
            "mirrored": self.mirrored,
        }

    @property
    def notes(self) -> list[str]:
        """What a person should know of these images before a study, a line each."""
        notes = [f"data set: {remark}" for remark in self.data.remarks]
        if self.data.value_range:
            low, high = self.data.value_range
            notes.append(f"data set: values {low:g} to {high:g} of deep images become 0 to 255")
        if any(self.duplicates.values()):
            copies = " and ".join(f"{count} {part}" for part, count in self.duplicates.items())
            notes.append(f"data set: {copies} images equal a training image, pixel by pixel")
        height, width = (pixels // 8 for pixels in self.data.image_shape[1:])
        padding = f"{height}" if height == width else f"{height}×{width}"
        flip = "mirrored at random (--no-flip: not)" if self.data.flip else "not mirrored"
        notes.append(f"augmentation: padded by {padding} pixels and cropped at random, {flip}")
        return notes


def resolve_images(settings: StudySettings, recorded: str | None = None) -> Images:
    """The asked data set, or the default one with the reason for it.

    Raises:
        UsageError: there is no such data set, too little in it, something else is where the study
            would be, or the images have not the fingerprint that is recorded.
        DataUnavailable: it is unavailable.
    """
    if settings.dataset is not None:
        images = _images(settings, settings.dataset, None)
        if recorded not in (None, images.data.fingerprint):
            found = f"invalid value {settings.dataset!r} with fingerprint {images.data.fingerprint}"
            raise UsageError(f"--dataset: {found}, the study has {recorded}: {SAME}")
        return images
    if not torch.cuda.is_available():
        return _images(
            settings, "digits", "no --dataset given, and no GPU on this machine for cifar10"
        )
    try:
        return _images(settings, "cifar10", "no --dataset given, and this machine has a GPU")
    except DataUnavailable as error:
        return _images(
            settings, "digits", f"no --dataset given, and cifar10 is unavailable: {error}"
        )


def _images(settings: StudySettings, dataset: str, chosen: str | None) -> Images:
    log.info("data set: %s", f"{dataset} ({chosen})" if chosen else dataset)
    folder = settings.folder(dataset)
    try:
        with tempfile.TemporaryFile(
            dir=next(parent for parent in folder.parents if parent.exists())
        ):
            pass
    except OSError as error:
        expected = f"expected a folder that can be written to ({error.strerror})"
        raise UsageError(
            f"--results-dir: invalid value {settings.results_dir!r}: {expected}"
        ) from error
    # A driver that was killed before its first line leaves an empty record.
    empty = not folder.exists() or (
        folder.is_dir() and {path.name for path in folder.iterdir()} <= {"record.jsonl"}
    )
    if not empty and not has_study(folder):
        raise UsageError(
            f"--name: invalid value {folder.name!r}: {folder} exists and is no study: "
            "expected a name not taken"
        )
    data = load_images(
        dataset, Path(settings.data_dir), settings.image_size, settings.skip_bad_images
    )
    if settings.flip is not None:
        data = replace(data, flip=settings.flip)
    images = Images(data, split_images(data, settings.train_images), chosen)
    if images.mirrored:
        pairs = ", ".join(f"{one} and {other}" for one, other in images.mirrored[:5])
        log.warning(
            "mirrored in training, though classes look like each other's mirror image: %s; "
            "--no-flip turns mirroring off",
            pairs,
        )
    return images
