"""Where a study comes from."""

from study.provenance import git_commit, machine


def test_machine_and_commit():
    about = machine()
    assert about["cores"] >= 1
    assert about["cpu"]
    assert git_commit() is None or len(git_commit().split("+")[0]) == 40
