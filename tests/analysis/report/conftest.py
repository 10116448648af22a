"""A study with a confirm stage, and its page."""

import pytest
from confirmed import made_study
from synthetic import confirm_like

from analysis.report.page import write_report

EFFECTS = {"depth": -1.5, "stem_stride": -0.1}


@pytest.fixture(scope="module")
def trials():
    return confirm_like(EFFECTS, seeds=3)


@pytest.fixture(scope="module")
def study(trials, tmp_path_factory):
    return made_study(tmp_path_factory.mktemp("confirmed"), *trials)


@pytest.fixture(scope="module")
def page(study, tmp_path_factory):
    return write_report(study, tmp_path_factory.mktemp("page"))
