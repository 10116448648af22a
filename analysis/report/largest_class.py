"""The class of most images, which accuracy is read beside where classes are uneven."""

from dataclasses import dataclass

from analysis.load import Study

UNEVEN = 1.5
"""From so many times its even share the largest class is named beside an accuracy."""


@dataclass(frozen=True)
class LargestClass:
    """The class of a part's most images, and the accuracy of always naming it."""

    name: str
    share: float


def largest_class(study: Study, part: str) -> LargestClass | None:
    """None where the classes are about as large, or the study did not record it."""
    dataset = study.manifest["dataset"]
    largest = LargestClass(*dataset.get("largest_class", {}).get(part, ("", 0.0)))
    return largest if largest.share > UNEVEN / len(dataset["classes"]) else None
