"""The command line: reads the options of `StudySettings` with cyclopts."""

import importlib.metadata
from collections.abc import Sequence
from typing import Annotated, Any

from cyclopts import (
    App,
    ArgumentCollection,
    CoercionError,
    CycloptsError,
    Parameter,
    UnusedCliTokensError,
)

from study.settings import StudySettings, invalid_option
from study.watch.status import Look
from trainables.config import UsageError

Results = Annotated[str, Parameter(help="Directory where studies are kept.")]


def parse_command(arguments: Sequence[str]) -> dict[str, Any] | Look:
    """The settings that a command line, without the program's name, gives, and no others; or which
    studies are to be looked at.

    `--help` and `--version` print and exit.

    Raises:
        UsageError: an option is unknown, or its value is invalid.
    """
    given: list[str] = []
    try:
        asked = _app(given)(arguments, exit_on_error=False, print_error=False)
    except CoercionError as error:
        assert error.argument and error.token
        raise invalid_option(error.argument.field_info.name, error.token.value) from None
    except UnusedCliTokensError as error:
        raise UsageError(f"unexpected argument {(error.unused_tokens or [''])[0]!r}") from None
    except CycloptsError as error:
        text = " ".join(str(error).split()).removesuffix(".")
        raise UsageError(text[0].lower() + text[1:]) from None
    if isinstance(asked, Look):
        return asked
    if not isinstance(asked, StudySettings):  # the help or the version was printed
        raise SystemExit(0)
    return {name: getattr(asked, name) for name in given}


def _app(given: list[str]) -> App:
    """The cyclopts application, which adds to `given` the names of the options that it reads."""

    def note_given(app: App, commands: tuple[str, ...], options: ArgumentCollection) -> None:
        given.extend(option.field_info.name for option in options if option.tokens)

    app = App(
        name="resnet-study",
        help="Run a study: which parts of a ResNet matter on these images?",
        version=lambda: importlib.metadata.version("resnet-study"),
        help_flags="--help",
        version_flags="--version",
        config=note_given,
        # Of an option given twice the last one counts, so that a script can append to a command.
        default_parameter=Parameter(allow_repeating=True),
        result_action="return_value",
    )

    @app.default
    def settings(*, options: Annotated[StudySettings, Parameter(name="*")] | None = None) -> Any:
        return options or StudySettings()

    @app.command(name="list")
    def list_studies(*, results_dir: Results = "results") -> Look:
        """List the studies of a results directory: state, progress, best trial, cost."""
        return Look(results_dir)

    @app.command
    def status(name: str = "", /, *, results_dir: Results = "results") -> Look:
        """Show what the study NAME is doing (default: the one that changed last)."""
        return Look(results_dir, name)

    return app
