"""`python -m analysis STUDY [STUDY …] [--out DIR]`: write each study's report and print its closing lines."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from analysis.load import load_study
from analysis.report import write_report
from analysis.summary import closing_lines
from trainables.config import UsageError


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; gives its exit status: 0, or after one line on standard error 2 (wrong use), 1 (cannot write)."""
    parser = argparse.ArgumentParser(prog="python -m analysis", description="Write the report of each study.")
    parser.add_argument("studies", nargs="+", metavar="STUDY", help="a study directory")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where the report goes (default: STUDY/report)")
    options = parser.parse_args(arguments)
    try:
        studies = [load_study(path) for path in options.studies]
        if options.out and len({study.path.name for study in studies}) < len(studies):
            raise UsageError(f"out: received {options.out} for studies of one name, allowed: studies of unlike names")
        for study in studies:
            inside = options.out / study.path.name if options.out and len(studies) > 1 else options.out
            report = write_report(study, inside)
            print("\n".join([*closing_lines(study), f"Report: {report}"]))
    except (UsageError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
