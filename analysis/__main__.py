"""`python -m analysis STUDY [--out DIR]`: write the study's report and print its closing lines.

`python -m analysis STUDY STUDY … [--out DIR]` compares them instead, on a page of its own.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from analysis.load import load_studies, load_study
from analysis.report.page import write_comparison, write_report
from analysis.report.wording import answer, closing_lines
from trainables.config import UsageError


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; gives its exit status: 0, or after one line on standard error 2 (wrong use), 1
    (cannot write)."""
    where = "where the page goes (default: STUDY/report; of several, comparison beside the first)"
    parser = argparse.ArgumentParser(
        "python -m analysis", description="Write a study's report, or compare studies."
    )
    parser.add_argument(
        "studies", nargs="+", type=Path, metavar="STUDY", help="a directory; several are compared"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help=where)
    options = parser.parse_args(arguments)
    try:
        if len(options.studies) == 1:
            study = load_study(options.studies[0])
            page, lines = write_report(study, options.out), closing_lines(study)
        else:
            studies = load_studies(options.studies)
            page = write_comparison(studies, options.out or studies[0].path.parent / "comparison")
            lines = [f"{study.manifest['name']}: {' '.join(answer(study))}" for study in studies]
        print("\n".join([f"Report: {page}", *lines]))
    except (UsageError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
