"""What the confirm stage says, against numbers computed by hand, by least squares and by drawing."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis import conclusions as confirm
from analysis.conclusions import Contrast
from trainables.config import TrialConfig

SEARCH = {
    "search": "sampled",
    "factors": [
        {"name": "learning_rate", "role": "nuisance", "low": 3e-4, "high": 0.3, "scale": "log"},
        {"name": "stem_kernel", "role": "scientific", "levels": [2, 3, 5, 7]},
        {"name": "optimizer", "role": "scientific", "levels": ["sgd", "adamw"]},
        {"name": "nesterov", "role": "nuisance", "levels": [True, False], "when": {"optimizer": "sgd"}},
    ],
    "baselines": {"course": {"init": "default", "normalize": "half"}},
}
SQUARE = {
    "search": "factorial",
    "factors": [
        {"name": "residual", "role": "scientific", "levels": [True, False]},
        {"name": "depth", "role": "scientific", "levels": [18, 34]},
    ],
    "baselines": {},
}


def trials(*made: tuple[str, str, dict]) -> pd.DataFrame:
    """Trials by (stage, state, config), numbered in their order."""
    rows = []
    for number, (stage, state, config) in enumerate(made):
        full = TrialConfig.from_dict({"max_epochs": 2, **config})
        rows.append({"trial": number, "stage": stage, "state": state, "arm": full.arm, **full.to_dict()})
    return pd.DataFrame(rows)


def test_arms_are_known_by_what_they_differ_in():
    best = {"stem_kernel": 3, "learning_rate": 0.05, "nesterov": True}
    confirmed = [
        best,
        {**best, "stem_kernel": 7},
        {**best, "optimizer": "adamw", "nesterov": False},  # which does not exist with it
        {"init": "default", "normalize": "half"},
        {**best, "learning_rate": 0.07},
    ]
    table = trials(
        ("search", "complete", {"stem_kernel": 5}),
        ("search", "complete", best),
        *(("confirm", "complete", {**config, "seed": seed}) for seed in (1, 2) for config in confirmed),
        ("confirm", "diverged", {**best, "seed": 3}),
    )
    found = confirm.labelled(table, SEARCH, winner=1)
    assert list(found["trial"]) == list(range(2, 13))
    arms = confirm.arms_of(found)
    assert arms[["label", "role", "factor", "baseline"]].to_numpy().tolist() == [
        ["winner: k3 s2 pool d18", "winner", "", ""],
        ["winner with stem kernel 7", "changed", "stem_kernel", ""],
        ["winner with optimizer adamw", "changed", "optimizer", ""],
        ["course", "baseline", "", "course"],
        ["k3 s2 pool d18, learning rate 0.07", "earlier", "", ""],
    ]
    assert list(arms["complete"]) == [2] * 5
    assert list(arms["diverged"]) == [1, 0, 0, 0, 0]


def curves(table: dict[str, list[float]]) -> pd.DataFrame:
    """One epoch of confirm trials with these test accuracies by seed; NaN: not complete."""
    rows = [
        {"trial": 100 * place + seed, "label": label, "seed": seed, "epoch": 1, "test_accuracy": value}
        | {"state": "diverged" if np.isnan(value) else "complete"}
        for place, (label, values) in enumerate(table.items())
        for seed, value in enumerate(values, 1)
    ]
    return pd.DataFrame(rows)


def test_only_seeds_that_all_arms_completed_are_paired():
    found = confirm.seed_table(curves({"b": [0.5, 0.6, np.nan], "a": [0.7, 0.8, 0.9]}), "test_accuracy")
    assert list(found.index) == ["b", "a"]
    assert found.to_numpy().tolist() == [[0.5, 0.6], [0.7, 0.8]]


def test_readings_at_an_epoch_or_the_last():
    rows = pd.DataFrame(
        {"trial": [1, 1, 2, 2, 2], "label": ["a", "a", "b", "b", "b"], "seed": 1, "epoch": [1, 2, 1, 2, 3]}
        | {"state": "complete", "test_accuracy": [0.1, 0.2, 0.3, 0.4, 0.5]}
    )
    assert confirm.seed_table(rows, "test_accuracy")[1].to_dict() == {"a": 0.2, "b": 0.5}
    assert confirm.seed_table(rows, "test_accuracy", 2)[1].to_dict() == {"a": 0.2, "b": 0.4}


RANDOM = np.random.default_rng(0)
SEEDS = pd.DataFrame(
    0.9 + RANDOM.normal(0, 0.01, (4, 3)) + RANDOM.normal(0, 0.02, 3),
    index=pd.Index(list("wxyz"), name="label"),
    columns=[1, 2, 3],
)


def test_means_have_students_interval():
    found = confirm.arm_means(SEEDS).set_index("label")
    for arm in SEEDS.index:
        low, high = stats.t.interval(0.95, 2, SEEDS.loc[arm].mean(), stats.sem(SEEDS.loc[arm]))
        assert found.loc[arm, ["mean", "low", "high", "n"]].tolist() == pytest.approx(
            [SEEDS.loc[arm].mean(), low, high, 3]
        )
    alone = confirm.arm_means(SEEDS[[1]])
    assert alone["mean"].tolist() == SEEDS[1].tolist()
    assert alone["low"].isna().all()


def least_squares(table: pd.DataFrame) -> tuple[float, int]:
    """The residual mean square of arm + seed, by a design matrix of indicators."""
    arms, seeds = table.shape
    design = np.array([np.r_[np.eye(arms)[a], np.eye(seeds)[s]] for a in range(arms) for s in range(seeds)])
    y = table.to_numpy().ravel()
    rest = y - design @ np.linalg.lstsq(design, y, rcond=None)[0]
    freedom = len(y) - np.linalg.matrix_rank(design)
    return rest @ rest / freedom, freedom


def test_the_residual_is_that_of_least_squares():
    assert confirm.residual(SEEDS) == pytest.approx(least_squares(SEEDS))
    assert confirm.residual(SEEDS)[1] == 6
    assert np.isnan(confirm.residual(SEEDS[[1]])[0])


def test_differences_have_the_interval_of_the_residual_and_holms_p():
    square, freedom = least_squares(SEEDS)
    found = confirm.differences(SEEDS, "w").set_index("arm")
    assert list(found.index) == ["x", "y", "z"]
    error = np.sqrt(2 * square / 3)
    raw = {}
    for arm in found.index:
        difference = (SEEDS.loc[arm] - SEEDS.loc["w"]).mean()
        half = stats.t.ppf(0.975, freedom) * error
        row = found.loc[arm]
        assert (row["difference"], row["low"], row["high"]) == pytest.approx(
            (difference, difference - half, difference + half)
        )
        raw[arm] = 2 * (1 - stats.t.cdf(abs(difference) / error, freedom))
    smallest, middle, largest = sorted(raw.values())
    by_hand = [min(1, 3 * smallest), min(1, max(3 * smallest, 2 * middle))]
    by_hand.append(min(1, max(by_hand[-1], largest)))
    assert sorted(found["p"]) == pytest.approx(by_hand)
    assert list(found["tells"]) == list(found["p"] < 0.05)
    assert found.loc[found["tells"], "seeds_needed"].isna().all()


def test_holm_by_hand():
    # Holm 1979: 0.01·4, then 0.02·3, then 0.03·2 (not below the one before), then 0.5.
    assert confirm.holm(pd.Series([0.5, 0.01, 0.03, 0.02])).tolist() == pytest.approx([0.5, 0.04, 0.06, 0.06])
    assert confirm.holm(pd.Series([np.nan, 0.04])).tolist() == pytest.approx([np.nan, 0.04], nan_ok=True)
    assert confirm.holm(pd.Series([], dtype=float)).empty


def test_one_seed_gives_differences_without_intervals():
    found = confirm.differences(SEEDS[[2]], "w")
    assert found["difference"].tolist() == pytest.approx((SEEDS[2] - SEEDS.loc["w", 2]).tolist()[1:])
    assert found[["low", "high", "p", "seeds_needed"]].isna().all(axis=None)
    assert not found["tells"].any()


def test_as_many_seeds_as_are_named_do_tell_in_four_of_five():
    spread, difference, arms = 0.01, 0.006, 5
    needed = int(confirm.seeds_needed(difference, 2 * spread**2, arms, 0.05))
    random, told = np.random.default_rng(3), {needed: 0, needed - 2: 0}
    for seeds in told:
        for _ in range(2000):
            table = random.normal(0, spread, (arms, seeds))
            table[1] += difference
            square, freedom = least_squares_fast(table)
            error = np.sqrt(2 * square / seeds)
            told[seeds] += abs(table[1].mean() - table[0].mean()) / error > stats.t.ppf(0.975, freedom)
    assert told[needed] / 2000 >= 0.78
    assert told[needed - 2] / 2000 < 0.8
    assert np.isnan(confirm.seeds_needed(1e-6, spread, arms, 0.05))


def test_the_seeds_named_tell_the_first_of_several_comparisons_in_four_of_five():
    """What is told is adjusted for all that are compared, so the number of seeds must be too."""
    random, arms, seeds = np.random.default_rng(3), 6, 3
    index = [f"a{number}" for number in range(arms)]
    table = pd.DataFrame(random.normal(0, 0.01, (arms, seeds)), index)
    table.loc["a1"] += table.loc["a0"].mean() - table.loc["a1"].mean() + 0.012
    rows = confirm.differences(table, "a0")
    assert not rows["tells"].any()
    row = rows.iloc[0]
    needed, spread = int(row["seeds_needed"]), np.sqrt(least_squares_fast(table.to_numpy())[0])
    told = {needed: 0, needed - 2: 0}
    for count in told:
        for _ in range(2000):
            drawn = random.normal(0, spread, (arms, count))
            square, freedom = least_squares_fast(drawn)
            shifted = abs(drawn[1].mean() + row["difference"] - drawn[0].mean()) / np.sqrt(2 * square / count)
            told[count] += 2 * stats.t.sf(shifted, freedom) < 0.05 / (arms - 1)
    assert told[needed] / 2000 >= 0.78
    assert told[needed - 2] / 2000 < 0.8


def test_a_factorial_arm_confirmed_at_two_settings_counts_once_at_the_later():
    one, two = ({"residual": residual, "learning_rate": 0.1} for residual in (True, False))
    table = trials(
        *(("confirm", "complete", {**config, "seed": seed}) for seed in (1, 2) for config in (one, two)),
        *(("confirm", "complete", {**two, "learning_rate": 0.2, "seed": seed}) for seed in (1, 2)),
    )
    labelled = confirm.labelled(table, SQUARE, None)
    assert labelled.groupby(["residual", "learning_rate"])["role"].unique().map(list).to_dict() == {
        (True, 0.1): ["arm"],
        (False, 0.1): ["earlier"],
        (False, 0.2): ["arm"],
    }


def least_squares_fast(table: np.ndarray) -> tuple[float, int]:
    """The same residual mean square from total, arm and seed sums of squares."""
    arms, seeds = table.shape
    total = ((table - table.mean()) ** 2).sum()
    by_arm = seeds * ((table.mean(1) - table.mean()) ** 2).sum()
    by_seed = arms * ((table.mean(0) - table.mean()) ** 2).sum()
    freedom = (arms - 1) * (seeds - 1)
    return (total - by_arm - by_seed) / freedom, freedom


def test_a_searched_designs_effects_are_what_changing_one_factor_does():
    best = {"stem_kernel": 3, "nesterov": True}
    table = trials(
        ("search", "complete", best),
        *(
            ("confirm", "complete", {**config, "seed": seed})
            for seed in (1, 2)
            for config in (best, {**best, "stem_kernel": 7}, {"init": "default", "normalize": "half"})
        ),
    )
    arms = confirm.arms_of(confirm.labelled(table, SEARCH, winner=0))
    seeds = pd.DataFrame([[0.9, 0.92], [0.8, 0.81], [0.7, 0.74]], arms["label"], [1, 2])
    (row,) = confirm.factor_effects(seeds, arms, SEARCH).to_dict("records")
    assert (row["factor"], row["change"], row["others"]) == ("stem_kernel", "3 → 7", "those of the winner")
    assert row["difference"] == pytest.approx(0.805 - 0.91)


def test_a_factorial_designs_effects_are_means_over_pairs_and_pairs():
    made = [{"residual": residual, "depth": depth} for residual in (True, False) for depth in (18, 34)]
    table = trials(*(("confirm", "complete", {**config, "seed": seed}) for seed in (1, 2) for config in made))
    arms = confirm.arms_of(confirm.labelled(table, SQUARE, winner=None))
    assert set(arms["role"]) == {"arm"}
    seeds = pd.DataFrame([[0.80, 0.82], [0.84, 0.85], [0.79, 0.80], [0.70, 0.72]], arms["label"], [1, 2])
    found = confirm.factor_effects(seeds, arms, SQUARE).set_index(["factor", "others"])
    a, b, c, d = seeds.mean(axis=1)
    expected = {
        ("residual", "on average"): (c + d - a - b) / 2,
        ("residual", "depth 18"): c - a,
        ("residual", "depth 34"): d - b,
        ("depth", "on average"): (b + d - a - c) / 2,
        ("depth", "residual yes"): b - a,
        ("depth", "residual no"): d - c,
    }
    assert found["difference"].to_dict() == pytest.approx(expected)
    assert found.loc[("depth", "residual no"), "change"] == "18 → 34"
    square, freedom = least_squares(seeds)
    half = stats.t.ppf(0.975, freedom) * np.sqrt(square / 2)  # a mean over two pairs and two seeds: 2·s²/(2·2)
    row = found.loc[("depth", "on average")]
    assert row["high"] - row["difference"] == pytest.approx(half)


def test_an_average_that_lacks_an_arm_says_so():
    made = [{"residual": residual, "depth": depth} for residual in (True, False) for depth in (18, 34)]
    table = trials(*(("confirm", "complete", {**config, "seed": seed}) for seed in (1, 2) for config in made))
    arms = confirm.arms_of(confirm.labelled(table, SQUARE, winner=None))
    seeds = pd.DataFrame([[0.80, 0.82], [0.84, 0.85], [0.79, 0.80]], arms["label"][:3], [1, 2])
    found = confirm.factor_effects(seeds, arms, SQUARE).set_index(["factor", "others"])["difference"]
    a, b, c = seeds.mean(axis=1)
    assert found[("residual", "on average over arms of both")] == pytest.approx(c - a)
    assert found[("depth", "on average over arms of both")] == pytest.approx(b - a)


def test_contrasts_of_nothing():
    assert confirm.contrasts(SEEDS, []).empty
    same = confirm.contrasts(SEEDS, [Contrast({"arm": "x"}, ["x"], ["x"])])
    assert same["difference"].tolist() == [0.0]


@pytest.mark.parametrize(("spreads", "low", "high"), [((1, 1, 1, 1), 0.93, 0.97), ((1, 1, 1, 6), 0.92, 1.0)])
def test_intervals_hold_the_truth_where_one_arm_spreads_more_too(spreads, low, high):
    """Five seeds; the pooled residual alone covers the noisy arm's differences in about 82 of 100."""
    draw = np.random.default_rng(3)
    truth, covered, named = np.array([0.1, 0.2, 0.3, 0.4]), [], 0
    for _ in range(800):
        scores = truth[:, None] + draw.normal(0, 1, 5) + draw.normal(0, 1, (4, 5)) * np.array(spreads)[:, None]
        table = pd.DataFrame(scores, list("abcd"))
        rows = confirm.differences(table, "d")
        covered += list((rows["low"] < truth[:3] - 0.4) & (truth[:3] - 0.4 < rows["high"]))
        named += confirm.unlike_spread(table) == "d"
    assert low <= np.mean(covered) <= high
    assert named / 800 > 0.8 if spreads[-1] == 6 else named / 800 < 0.05


def test_an_unlike_spread_gives_each_difference_its_own_interval():
    table = pd.DataFrame([[0.5, 0.51, 0.49, 0.5], [0.6, 0.61, 0.6, 0.59], [0.1, 0.5, 0.9, 0.2]], ["a", "b", "c"])
    variances = table.var(axis=1)
    limit = stats.f.isf(0.05 / 3, 3, 6)  # Cochran's limit for three variances of three degrees of freedom: 0.7977
    assert 1 / (1 + 2 / limit) == pytest.approx(0.798, abs=0.001)
    assert variances["c"] / variances.sum() > 0.798
    assert confirm.unlike_spread(table) == "c"
    for row in confirm.differences(table, "a").to_dict("records"):
        exact = stats.ttest_rel(table.loc[row["arm"]], table.loc["a"])
        interval = exact.confidence_interval(0.95)
        assert (row["low"], row["high"]) == pytest.approx((interval.low, interval.high))
    assert confirm.unlike_spread(table.head(2)) is None


def test_a_factor_that_goes_with_the_one_changed_leaves_it_alone():
    """Zero padding is there in residual networks only: the winner without the addition has another shortcut, too."""
    design = {
        "search": "sampled",
        "factors": [
            {"name": "residual", "role": "scientific", "levels": [True, False]},
            {"name": "shortcut", "role": "scientific", "levels": ["projection", "zero-padding"],
             "when": {"residual": True}},
        ],
        "baselines": {},
    }  # fmt: skip
    best = {"residual": True, "shortcut": "zero-padding"}
    plain, projection = {"residual": False}, {"residual": True, "shortcut": "projection"}
    table = trials(
        ("search", "complete", best),
        *(("confirm", "complete", {**config, "seed": 1}) for config in (best, plain, projection)),
    )
    found = confirm.labelled(table, design, winner=0)
    assert found[["role", "factor"]].to_numpy().tolist() == [
        ["winner", ""],
        ["changed", "residual"],
        ["changed", "shortcut"],
    ]
