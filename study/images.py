"""The images of a study: which, why them, and their parts."""

import logging
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from study.record import has_study
from study.resources import has_gpu
from study.settings import SAME, StudySettings
from trainables.config import UsageError, invalid
from trainables.datasets import NAMES, UnusableDataDir, load_images
from trainables.layout import MOST_NAMED
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

    @property
    def largest_class(self) -> dict[str, tuple[str, float]]:
        """By part its largest class and that class's share, the accuracy of always naming it."""
        largest = {}
        for name, part in vars(self.split).items():
            counts_K = np.bincount(part.labels)
            share = float(counts_K.max() / counts_K.sum())
            largest[name] = (self.data.classes[counts_K.argmax()], share)
        return largest

    def to_dict(self) -> dict[str, Any]:
        """What the record and `study.json` hold of them, ready for JSON."""
        data = self.data
        return {
            "name": data.name,
            "chosen": self.chosen,
            "fingerprint": data.fingerprint,
            "counts": {name: len(part) for name, part in vars(self.split).items()},
            "largest_class": self.largest_class,
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


def resolve_images(settings: StudySettings, recorded: Mapping[str, Any] | None = None) -> Images:
    """The data set that is asked for, or the default one with the reason for it; `recorded` is the
    header of the study that the settings continue.

    Raises:
        UsageError: there is no such data set, too little in it, something else is where the study
            would be, or the images are not those that are recorded.
        DataUnavailable: it is unavailable.
    """
    if settings.dataset is not None:
        return _images(settings, settings.dataset, None, recorded)
    reason = "no GPU on this machine for cifar10"
    if has_gpu():
        try:
            return _images(settings, "cifar10", "no --dataset given, and this machine has a GPU")
        except DataUnavailable as error:
            reason = f"cifar10 is unavailable: {error}"
    return _images(settings, "digits", f"no --dataset given, and {reason}")


def compare_images(settings: StudySettings, recorded: Mapping[str, Any]) -> None:
    """Compare the images that the settings name with those of a complete study, by its header; warn
    where they are gone.

    Raises:
        UsageError: they are different, or cannot be read.
    """
    dataset = settings.dataset
    assert dataset is not None, "a record has one"
    _check_name(dataset, recorded)
    if dataset in NAMES:
        return  # its images are the same wherever it comes from
    problem = f"{dataset} is not there any more"
    if os.path.isdir(os.path.expanduser(dataset)):
        try:
            _check_same(settings, _load(settings, dataset), recorded)
            return
        except UnusableDataDir as error:
            problem = str(error)
    log.warning("the images could not be compared with those of the study: %s", problem)


def dataset_for_record(dataset: str) -> str:
    """The name of a data set, or the absolute path of a folder: a study may be resumed from another
    directory."""
    return dataset if dataset in NAMES else absolute(dataset)


def absolute(path: str) -> str:
    """The path from the root, however it is spelled."""
    return str(Path(os.path.expanduser(path)).resolve())


def _check_name(dataset: str, recorded: Mapping[str, Any]) -> None:
    """Refuse a named data set for a study of another one; folders are compared by their images."""
    previous = recorded["settings"]["dataset"]
    if dataset != previous and {dataset, previous} & set(NAMES):
        raise UsageError(
            f"--dataset: invalid value {dataset!r}, the study has {previous!r}: {SAME}"
        )


def _check_same(settings: StudySettings, data: ImageData, recorded: Mapping[str, Any]) -> None:
    """Refuse other images than the study has; and other augmentation than its record, which older
    ones do not name, means."""
    fingerprint = recorded["dataset"]["fingerprint"]
    if data.fingerprint != fingerprint:
        raise UsageError(
            f"--dataset: invalid value {settings.dataset!r}: its images are not those of the study "
            f"(fingerprint {data.fingerprint[:12]}, the study has {fingerprint[:12]}): {SAME}"
        )
    flip = recorded["settings"].get("flip", data.flip)
    if settings.flip not in (None, flip):
        raise UsageError(f"--flip: invalid value {settings.flip}, the study has {flip}: {SAME}")


def _warn_of_mirrored(images: Images) -> None:
    if images.mirrored:
        pairs = ", ".join(f"{one} and {other}" for one, other in images.mirrored[:MOST_NAMED])
        log.warning(
            "mirrored in training, though classes look like each other's mirror image: %s; "
            "--no-flip turns mirroring off",
            pairs,
        )


def _images(
    settings: StudySettings,
    dataset: str,
    chosen: str | None,
    recorded: Mapping[str, Any] | None = None,
) -> Images:
    log.info("data set: %s", f"{dataset} ({chosen})" if chosen else dataset)
    _check_directory(settings, settings.folder(dataset))
    if recorded is not None:
        _check_name(dataset, recorded)
    data = _load(settings, dataset)
    if recorded is not None:
        _check_same(settings, data, recorded)
    if settings.flip is not None:
        data = replace(data, flip=settings.flip)
    images = Images(data, split_images(data, settings.train_images), chosen)
    _warn_of_mirrored(images)
    return images


def _load(settings: StudySettings, dataset: str) -> ImageData:
    return load_images(
        dataset, Path(settings.data_dir), settings.image_size, settings.skip_bad_images
    )


def _check_directory(settings: StudySettings, folder: Path) -> None:
    """Refuse a directory for the study that cannot be made, or that holds something else."""
    parent = next(parent for parent in folder.parents if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=parent):
            pass
    except OSError as error:
        expected = "a folder that can be written to"
        where, problem = settings.results_dir, str(error.strerror)
        raise invalid("--results-dir", where, expected, problem) from error
    # A driver that was killed before its first line leaves an empty record.
    empty = not folder.exists() or (
        folder.is_dir() and {path.name for path in folder.iterdir()} <= {"record.jsonl"}
    )
    if not empty and not has_study(folder):
        problem = f"{folder} exists and is no study"
        raise invalid("--name", folder.name, "a name not taken", problem)
