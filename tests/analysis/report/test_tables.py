"""The tables of the page hold the numbers of the confirm stage."""

from confirmed import findings_of, made_study
from synthetic import MadeTrial, confirm_like, falling

from analysis.report import tables
from analysis.report.wording import confirm_text


def test_the_tables_of_the_page(study):
    confirmed = findings_of(study)
    arms = tables.arms_table(confirmed).set_index("name")
    assert (arms.index[0], arms.index[-1]) == ("winner: k3 s1 no-pool d18", "imagenet-stem")
    assert arms.loc["k3 s1 pool d10", ["learning_rate", "rate_at_end", "complete"]].tolist() == [
        "0.03",
        "high",
        "3",
    ]
    assert arms["by_seed"].str.count("%").tolist() == [3] * 9
    effects = tables.effects_table(confirmed)
    assert effects["change"].tolist() == ["3 → 5", "1 → 2", "no → yes", "18 → 10"]
    assert list(effects) == ["factor", "change", "difference", "on_these_test_images", "verdict"]
    tuning = tables.tuning_table(study, confirmed).set_index("arm")
    assert len(tuning) == 8
    assert tuning.loc["k3 s1 pool d10"].tolist() == [
        "0.00333: 0.167, 0.01: 0.167, 0.03: 0.100",
        "0.03",
        "high",
    ]
    by_epoch = tables.epochs_table(study)
    assert by_epoch["epoch"].tolist() == [1, 2, 3]
    assert list(by_epoch)[1:] == [
        line.split(":")[0] for line in confirm_text.effect_lines(findings_of(study))
    ]
    assert len(tables.interactions_table(confirmed)) == 3


def test_of_many_epochs_the_tables_show_some_and_the_last(tmp_path):
    made, plan = confirm_like({}, seeds=2, epochs=30)
    rows = tables.epochs_table(made_study(tmp_path, made, plan))
    assert rows["epoch"].tolist() == list(range(3, 31, 3))


def test_baselines_alone_are_listed_by_epoch(tmp_path):
    usual = {"learning_rate": 0.01}
    arms = {
        "a": {**usual, "depth": 18, "max_epochs": 3},
        "b": {**usual, "depth": 34, "max_epochs": 2},
    }
    curves = {
        name: {seed: falling(arm["max_epochs"], accuracy=0.5 + 0.01 * seed) for seed in (1, 2)}
        for name, arm in arms.items()
    }
    made = [
        MadeTrial("complete", curves[name][seed], "confirm", {**arm, "seed": seed}, stage="confirm")
        for seed in (1, 2)
        for name, arm in arms.items()
    ]
    plan = {
        "factors": [],
        "arms": [
            {"role": "baseline", "baseline": name, "config": arm} for name, arm in arms.items()
        ],
    }
    study = made_study(tmp_path, made, plan, search="none", factors=[], baselines=arms)
    first, line, *_ = confirm_text.sentences(study)
    assert first.startswith(
        "Confirmed with 2 seeds on 360 test images, each arm after its own epochs: a 83.8%"
    )
    assert line.startswith("baseline a → b: -8.1 points (")
    rows = tables.means_table(findings_of(study))
    assert rows[["arm", "epoch"]].to_numpy().tolist() == [
        ["a", "1"],
        ["a", "2"],
        ["a", "3"],
        ["b", "1"],
        ["b", "2"],
    ]
    assert rows["test_accuracy"].tolist()[:2] == ["51.5%", "75.8%"]
