"""What is said of studies side by side."""

from collections.abc import Mapping, Sequence

from analysis.report import comparable
from analysis.report.wording.captions import CAVEAT
from analysis.report.wording.values import spoken

COMPARED: Mapping[comparable.Compared, str] = {
    comparable.Compared.ACCURACY: "Accuracies",
    comparable.Compared.COST: "Times and costs",
}


def comparison_scope(dataset: str) -> str:
    """What the scores of the compared studies are."""
    return f"Data set {dataset}. Scores: {CAVEAT}."


def incomparable_lines(differences: Sequence[comparable.Difference]) -> list[str]:
    """What makes accuracies or costs of studies not comparable, a line for each of both."""
    lines = []
    for compared, noun in COMPARED.items():
        texts = []
        for row in differences:
            if row.of in (compared, comparable.Compared.BOTH):
                values = ", ".join(f"{name}: {value}" for name, value in row.values.items())
                texts.append(f"{spoken(row.name)} ({values})")
        if texts:
            lines.append(f"{noun} are not comparable, for these differ: {'; '.join(texts)}.")
    return lines


def comparison_finding(complete: bool) -> str:
    """What the curves of the compared studies are of."""
    if complete:
        return "The best complete trial of each study"
    return "No study has a complete search trial"
