"""What a study with a confirm stage says, in words and on its page, beside numbers computed from its tables."""

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from analysis import verdict as say
from analysis.load import load_study
from analysis.report import write_report
from analysis.summary import answer, closing_lines
from study.record import write_views
from tests.simulated import EFFECTS, simulate, tables


@pytest.fixture(scope="module")
def state():
    return simulate(EFFECTS, np.random.default_rng(7))


@pytest.fixture(scope="module")
def study(state, tmp_path_factory):
    folder = tmp_path_factory.mktemp("simulated")
    write_views(folder, state)
    return load_study(folder)


def confirmed(study) -> pd.DataFrame:
    """Test accuracies by trial, with the fields of the configs."""
    rows = study.trials[study.trials["stage"] == "confirm"]
    return rows.merge(study.epochs[["trial", "test_accuracy"]], on="trial")


def best(study) -> pd.Series:
    scores = study.trials.merge(study.epochs[["trial", "validation_accuracy"]], on="trial")
    return scores.loc[scores["validation_accuracy"].idxmax()]


def test_the_tables_made_in_memory_are_those_of_the_files(state, study):
    made = tables(state)
    assert made.trials["learning_rate"].tolist() == study.trials["learning_rate"].tolist()
    pd.testing.assert_frame_equal(
        made.epochs[["trial", "test_accuracy", "validation_accuracy"]],
        study.epochs[["trial", "test_accuracy", "validation_accuracy"]],
        check_dtype=False,
    )


def test_the_first_sentence_is_the_winner_its_baseline_and_its_optimism(study):
    (first, _), rows, winner = say.sentences(study), confirmed(study), best(study)
    names = ["stem_kernel", "stem_stride", "stem_maxpool", "depth", "learning_rate"]
    mine = rows[(rows[names] == winner[names]).all(axis=1)]["test_accuracy"]
    assert len(mine) == 3
    fixed = rows[(rows["learning_rate"] == 0.01) & (rows["stem_kernel"] == 7)]["test_accuracy"]
    assert f"({winner['arm']}, learning rate {winner['learning_rate']:.3g}) reaches {mine.mean():.1%}" in first
    assert first.startswith("Confirmed with 3 seeds on 1,000 test images:")
    assert f"{100 * (mine.mean() - fixed.mean()):+.1f} points" in first
    above = 100 * (winner["validation_accuracy"] - mine.mean())
    assert first.endswith(f"was {abs(above):.1f} points {'above' if above > 0 else 'below'} that.")
    assert "against imagenet-stem" in first


def test_the_second_sentence_names_only_what_is_told(study):
    found = say.verdict(study)
    (_, second) = say.sentences(study)
    told = {name for name, rows in found.effects.groupby("factor") if rows["tells"].any()}
    assert told
    head, _, tail = second.partition("; not told:")
    assert {name for name in EFFECTS if name.replace("_", " ") in head} == told
    assert {name for name in EFFECTS if name.replace("_", " ") in tail} == set(EFFECTS) - told


def test_where_nothing_is_told_it_says_so():
    for seed in range(20):
        study = tables(simulate({}, np.random.default_rng([5, seed])))
        if not say.verdict(study).effects["tells"].any():
            assert "cannot be told" in say.sentences(study)[1]
            return
    raise AssertionError("effects in all of twenty studies without any")


def test_nothing_is_said_before_a_confirm_trial_is_complete(state):
    made = tables(state)
    search = made.trials[made.trials["stage"] == "search"]
    early = type(made)(made.path, made.manifest, search, made.epochs[made.epochs["trial"].isin(search["trial"])])
    assert say.verdict(early) is None
    assert say.sentences(early) == []


def test_the_page_and_the_terminal_lead_with_it(study, tmp_path):
    page = write_report(study, tmp_path).read_text(encoding="utf-8")
    answers = re.findall(r'<p class="answer">(.*?)</p>', page)
    assert answers[0].startswith("Confirmed with 3 seeds")
    assert closing_lines(study)[0].startswith("Confirmed with 3 seeds")
    headings = re.findall(r"<h2>(.*?)</h2>", page)
    assert headings[:3] == ["Confirmed", "What matters", "Curves of the confirmed arms"]
    for name in ("confirmed", "effects", "confirmed-curves"):
        assert (tmp_path / "figures" / f"{name}.png").stat().st_size > 5000
    # Search scores are named for what they are.
    assert "search-stage validation scores" in page


def test_a_design_that_compares_training_accuracy_leads_with_that(study):
    design = study.manifest["design"] | {"search": "factorial", "outcome": "train_accuracy"}
    epochs = study.epochs.assign(train_accuracy=study.epochs["test_accuracy"] / 2)
    first = say.sentences(replace(study, manifest=study.manifest | {"design": design}, epochs=epochs))[0]
    assert re.match(r"Confirmed with 3 seeds: .* training accuracy\.$", first)
    half = confirmed(study).groupby(["arm", "learning_rate"])["test_accuracy"].mean() / 2
    assert f"{half.max():.1%} (" in first


def test_an_arm_that_is_complete_with_no_seed_is_named(study):
    rows = study.trials["stage"].eq("confirm") & study.trials["learning_rate"].eq(0.01) & study.trials["depth"].eq(18)
    kernel = rows & study.trials["stem_kernel"].eq(7)
    assert kernel.sum() == 3
    lost = replace(study, trials=study.trials.assign(state=study.trials["state"].mask(kernel, "diverged")))
    first = say.sentences(lost)[0]
    assert first.endswith("; not complete with every seed: imagenet-stem (0 complete, 3 diverged, 0 failed; left out).")
    assert "imagenet-stem" not in say.verdict(lost).seeds.index


@pytest.mark.parametrize(("lost", "seeds", "said"), [(1, 2, "2 complete, 1 diverged, 0 failed)"), (2, 3, "left out)")])
def test_seeds_that_an_arm_lost_are_named_and_few_do_not_take_them_from_the_others(study, lost, seeds, said):
    confirm = study.trials["stage"].eq("confirm")
    kernel = confirm & study.trials["learning_rate"].eq(0.01) & study.trials["stem_kernel"].eq(7)
    gone = kernel & (kernel.cumsum() <= lost)
    assert gone.sum() == lost
    left = replace(study, trials=study.trials.assign(state=study.trials["state"].mask(gone, "diverged")))
    found, first = say.verdict(left), say.sentences(left)[0]
    assert found.seeds.shape[1] == seeds
    assert first.endswith(f"{said}.") and "not complete with every seed: imagenet-stem (" in first
    assert ("imagenet-stem" in found.seeds.index) == (lost == 1)


def test_the_seeds_to_ask_for_count_those_that_were_lost(study):
    confirm = study.trials["stage"].eq("confirm")
    last = study.trials.loc[confirm, "seed"].max()
    rows = study.trials["state"].mask(confirm & study.trials["seed"].ne(last), "diverged")
    one = replace(study, trials=study.trials.assign(state=rows))
    assert answer(one)[-1].endswith("Next: --confirm-seeds 5, for one seed has no interval.")


def test_an_arm_that_differs_from_the_winner_is_listed_once(study):
    found = say.verdict(study)
    listed = say.listed(found)
    winner = found.arms.loc[found.arms["role"] == "winner", "label"].iloc[0]
    rows = listed[f"Differences in test accuracy from {winner}"]
    assert list(rows["arm"]) == list(found.arms.loc[found.arms["role"] == "baseline", "label"])
    assert len(listed["Effects on test accuracy"]) == (found.arms["role"] == "changed").sum()


def test_arms_of_unlike_budgets_are_said_to_be(study):
    longer = study.trials["stage"].eq("confirm") & study.trials["stem_kernel"].eq(7)
    uneven = replace(study, trials=study.trials.assign(max_epochs=study.trials["max_epochs"].mask(longer, 9)))
    assert say.sentences(uneven)[0].startswith("Confirmed with 3 seeds on 1,000 test images, each arm after its own")
    assert "after its own" not in say.sentences(study)[0]


def test_one_seed_tells_nothing_and_asks_for_more(study):
    seed = study.trials.loc[study.trials["stage"] == "confirm", "seed"].min()
    one = replace(study, trials=study.trials[(study.trials["stage"] == "search") | (study.trials["seed"] == seed)])
    assert say.sentences(one)[1] == "What matters for test accuracy cannot be told by one seed, which shows no spread."
    assert answer(one)[-1].endswith("Next: --confirm-seeds 3, for one seed has no interval.")


def test_a_study_whose_only_confirmed_arm_has_nothing_beside_it_has_a_report(study, tmp_path):
    """One arm is complete, the others diverged: no effect, no difference."""
    design = study.manifest["design"] | {"search": "factorial", "baselines": {}}
    confirm = study.trials["stage"].eq("confirm")
    first = confirm & study.trials["arm"].eq(study.trials.loc[confirm, "arm"].iloc[0])
    trials = study.trials.assign(state=study.trials["state"].mask(confirm & ~first, "diverged"))
    alone = replace(study, trials=trials, manifest=study.manifest | {"design": design})
    assert say.verdict(alone).effects.empty and not say.verdict(alone).differences
    assert "not complete with every seed" in write_report(alone, tmp_path).read_text(encoding="utf-8")


@pytest.mark.parametrize(("needed", "said"), [([4.0, 9.0], "about 9 seeds"), ([4.0, np.nan], "over 200 seeds")])
def test_the_seeds_that_could_tell_are_those_of_the_factors_named(study, needed, said):
    found = say.verdict(study)
    rows = pd.DataFrame(
        {
            "factor": ["depth", "depth", "stem_stride", "stem_maxpool"],
            "change": "a → b",
            "others": "on average",
            "difference": 0.01,
            "low": 0.0,
            "high": 0.02,
            "p": [0.01, 0.5, 0.5, 0.5],
            "tells": [True, False, False, False],
            "seeds_needed": [np.nan, 150.0, *needed],
        }
    )
    text = say.factor_verdict(replace(found, effects=rows))
    assert text.endswith(f"; not told: stem stride, stem maxpool; telling effects as large as these takes {said}")


def test_a_confirm_stage_without_a_common_seed_says_so(study, tmp_path):
    confirm = study.trials["stage"].eq("confirm")
    lost = replace(study, trials=study.trials.assign(state=study.trials["state"].mask(confirm, "diverged")))
    assert say.sentences(lost) == ["Nothing is confirmed: its arms have no complete seed in common."]
    assert "no complete seed in common" in write_report(lost, tmp_path).read_text(encoding="utf-8")
    assert closing_lines(lost)[0].startswith("Nothing is confirmed")
