"""`python -m analysis STUDY [--out DIR]`: write the study's report and print its closing lines.

With `--watch` it is written again as results come, until the study is over.
`python -m analysis STUDY STUDY … [--out DIR]` compares them instead, on a page of its own.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from analysis.load import load_studies, load_study
from analysis.report.comparison import write_comparison
from analysis.report.page import write_report
from analysis.report.watch import watch
from analysis.report.wording.study_text import answer, closing_lines
from trainables.config import UsageError, invalid


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; gives its exit status: 0, or after one line on standard error 2 (wrong use), 1
    (cannot write, or a watched study has disappeared), 130 (interrupted)."""
    try:
        page, lines = _write(_parse(arguments))
        print("\n".join([f"Report: {page}", *lines]))
    except (UsageError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    where = "where the page goes (default: STUDY/report; of several, comparison beside the first)"
    parser = argparse.ArgumentParser(
        "python -m analysis", description="Write a study's report, or compare studies."
    )
    parser.add_argument(
        "studies", nargs="+", type=Path, metavar="STUDY", help="a directory; several are compared"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help=where)
    parser.add_argument(
        "--watch", action="store_true", help="update the page of one study until the study is over"
    )
    return parser.parse_args(arguments)


def _write(options: argparse.Namespace) -> tuple[Path, list[str]]:
    """Write the page that is asked for; gives its path, and lines for the terminal."""
    if len(options.studies) == 1:
        if options.watch:
            study, page = watch(options.studies[0], options.out)
        else:
            study = load_study(options.studies[0])
            page = write_report(study, options.out)
        return page, closing_lines(study)
    if options.watch:
        raise invalid("--watch", f"{len(options.studies)} studies", "one study")
    studies = load_studies(options.studies)
    page = write_comparison(studies, options.out or studies[0].path.parent / "comparison")
    return page, [f"{study.manifest['name']}: {' '.join(answer(study))}" for study in studies]


if __name__ == "__main__":
    sys.exit(main())
