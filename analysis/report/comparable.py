"""What makes the accuracies or the costs of several studies not comparable."""

from collections.abc import Mapping
from enum import Enum, auto
from typing import Any, NamedTuple

from analysis.load import Study


class Compared(Enum):
    """What of two studies is compared."""

    ACCURACY = auto()
    COST = auto()
    BOTH = auto()


DEPENDS: Mapping[str, Compared] = {
    "epochs": Compared.BOTH,
    "training_images": Compared.BOTH,
    "precision": Compared.BOTH,
    "flip": Compared.ACCURACY,
    "code": Compared.ACCURACY,
    "torch": Compared.BOTH,
    "cpu": Compared.COST,
    "gpus": Compared.COST,
    "cores": Compared.COST,
    "cpus_per_trial": Compared.COST,
    "gpus_per_trial": Compared.COST,
    "max_concurrent": Compared.COST,
}
"""What accuracies and costs depend on, beside design, seed and number of samples."""


class Difference(NamedTuple):
    """A setting or a property of the machine in which studies differ, with its values by study."""

    name: str
    of: Compared
    values: Mapping[str, str]


def incomparable(named: Mapping[str, Study]) -> list[Difference]:
    """What differs between the studies that their accuracies or their costs depend on."""
    differences = []
    for name, of in DEPENDS.items():
        values = {study: _setting(each.manifest, name) for study, each in named.items()}
        if len(set(values.values())) > 1:
            differences.append(Difference(name, of, values))
    return differences


def _setting(manifest: Mapping[str, Any], name: str) -> str:
    """A setting or a property of the machine, as text."""
    if name in ("cpu", "gpus", "cores"):
        value = manifest.get("machine", {}).get(name)
    elif name in ("code", "torch"):
        value = manifest.get("git") if name == "code" else manifest.get("packages", {}).get(name)
    elif name == "training_images":
        value = manifest["dataset"]["counts"].get("train")
    else:
        value = manifest["settings"].get(name)
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "unknown" if value is None else str(value)
