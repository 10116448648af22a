"""What the confirm stage says: arms trained again with several seeds and read on the test images.

DataFrame → DataFrame. A search's best score is a maximum, of one seed, on the images that it was chosen by; these
numbers are not. Arms are paired by seed: the same seed gives the same initialisation, order and augmentation
(Bouthillier et al. 2021, Accounting for variance in machine learning benchmarks). All intervals are over seeds:
that other test images would give other numbers is not in them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from analysis.curves import level_label
from analysis.effects import scientific
from trainables.config import TrialConfig

FIELDS = [field.name for field in fields(TrialConfig) if field.name != "seed"]
CONFIDENCE, POWER, MOST_SEEDS = 0.95, 0.8, 200
FEW_ARMS = 8
"""Up to so many arms of a factorial design, a factor's effect is also shown at every level of the others."""
ROLES = ["winner", "changed", "arm", "baseline", "earlier"]
READINGS = ["train_loss", "train_accuracy", "test_loss", "test_accuracy"]


def labelled(trials: pd.DataFrame, design: Mapping[str, Any], winner: int | None) -> pd.DataFrame:
    """The trials of the confirm stage by number, each with the `label` of its arm (a config but for its seed), and

    - `factor`: where it is the `winner` (a search trial's number) with one scientific factor changed, that factor;
    - `baseline`: where it is a baseline as it stands, its name;
    - `role`: `winner`, `changed`, `baseline`; in a factorial design `arm`; `earlier` for what an earlier winner, or
      before more search trials another setting of the arm's nuisances, left.
    """
    confirm = trials[trials["stage"] == "confirm"].sort_values("trial")
    numbers = confirm.groupby(FIELDS, sort=False).ngroup()
    best = trials[trials["trial"] == winner].to_dict("records")
    arms = confirm[~numbers.duplicated()].to_dict("records")
    roles = [_role(arm, design, best[0] if best else None) for arm in arms]
    if design.get("search") == "factorial":
        # More search trials only ever find a better setting, so the one confirmed last is what counts.
        names = [factor["name"] for factor in scientific(design["factors"])]
        last = {tuple(arm[name] for name in names): number for number, arm in enumerate(arms)}
        left = set(range(len(arms))) - set(last.values())
        roles = [("earlier", *about[1:]) if number in left else about for number, about in enumerate(roles)]
    about = pd.DataFrame(roles, columns=["role", "factor", "baseline"], dtype="str")
    about["label"] = [_label({**arm, **role}, arms) for arm, role in zip(arms, about.to_dict("records"), strict=True)]
    return confirm.assign(number=numbers).join(about, on="number").drop(columns="number").reset_index(drop=True)


def arms_of(confirm: pd.DataFrame) -> pd.DataFrame:
    """The arms of `labelled` trials, as each one's first trial, with how many of its trials are of each state; the
    winner first, what is compared with it next, baselines last."""
    states = pd.crosstab(confirm["label"], confirm["state"])
    counts = pd.DataFrame({state: states.get(state, 0) for state in ("complete", "diverged", "failed")}, states.index)
    arms = confirm.drop_duplicates("label").join(counts, on="label")
    return arms.sort_values("role", key=lambda role: role.map(ROLES.index), kind="stable", ignore_index=True)


def _role(arm: Mapping[Any, Any], design: Mapping[str, Any], winner: Mapping[Any, Any] | None) -> tuple[str, str, str]:
    names = [
        name
        for name, values in design["baselines"].items()
        if all(
            arm[field] == (vars(TrialConfig()) | {"max_epochs": arm["max_epochs"]} | values)[field] for field in FIELDS
        )
    ]
    baseline = names[0] if names else ""
    if design.get("search") == "factorial":
        return "arm", "", baseline
    unlike = [field for field in FIELDS if winner is not None and arm[field] != winner[field]]
    if winner is not None and not unlike:
        return "winner", "", baseline
    # A factor that is there at a level of a changed one only follows it.
    followers = {factor["name"] for factor in design["factors"] if set(unlike) & set(factor.get("when", ()))}
    changed = [factor["name"] for factor in scientific(design["factors"]) if factor["name"] in {*unlike} - followers]
    if len(changed) == 1 and set(unlike) <= {*changed, *followers}:
        return "changed", changed[0], baseline
    return "baseline" if baseline else "earlier", "", baseline


def _label(arm: Mapping[Any, Any], arms: Sequence[Mapping[Any, Any]]) -> str:
    if arm["role"] == "changed":
        return f"winner with {arm['factor'].replace('_', ' ')} {level_label(arm[arm['factor']])}"
    if arm["role"] in ("winner", "baseline"):
        return f"winner: {arm['arm']}" if arm["role"] == "winner" else str(arm["baseline"])
    same = [other for other in arms if other["arm"] == arm["arm"]]
    unlike = [name for name in FIELDS if any(other[name] != arm[name] for other in same)]
    return ", ".join([arm["arm"], *(f"{name.replace('_', ' ')} {level_label(arm[name])}" for name in unlike)])


def confirm_curves(confirm: pd.DataFrame, epochs: pd.DataFrame) -> pd.DataFrame:
    """The four readings of `labelled` trials by `label`, `seed` and epoch."""
    return epochs[["trial", "epoch", *READINGS]].merge(confirm[["trial", "label", "seed", "state"]], on="trial")


def seed_table(curves: pd.DataFrame, reading: str, epoch: int | None = None) -> pd.DataFrame:
    """A reading of the complete trials of `confirm_curves` by arm (rows, by label) and seed (columns), at `epoch` or
    each trial's last. Only seeds that all of these arms have completed, so that every difference is paired."""
    complete = curves[curves["state"] == "complete"]
    rows = complete[complete["epoch"] == (epoch or complete.groupby("trial")["epoch"].transform("max"))]
    order = list(rows["label"].unique())
    return rows.pivot_table(index="label", columns="seed", values=reading).reindex(order).dropna(axis=1)


def arm_means(table: pd.DataFrame) -> pd.DataFrame:
    """By arm of a `seed_table` the `mean` over `n` seeds and its Student t interval from the arm's own spread."""
    n = table.shape[1]
    half = stats.t.ppf((1 + CONFIDENCE) / 2, n - 1) * table.std(axis=1) / np.sqrt(n) if n > 1 else np.nan
    mean = table.mean(axis=1)
    return pd.DataFrame({"mean": mean, "low": mean - half, "high": mean + half, "n": n}).reset_index()


def residual(table: pd.DataFrame) -> tuple[float, int]:
    """The mean square that arms and seeds leave unexplained in a `seed_table`, and its degrees of freedom: two-way
    analysis of variance without replication (Fisher 1925; Montgomery 2017, section 4.1). It is pooled over all arms,
    so that three seeds are enough for an interval, and takes their spread to be alike."""
    rest = table.sub(table.mean(axis=1), axis=0).sub(table.mean(), axis=1) + table.to_numpy().mean()
    freedom = (table.shape[0] - 1) * (table.shape[1] - 1)
    return (float((rest.to_numpy() ** 2).sum() / freedom) if freedom > 0 else float("nan")), freedom


def unlike_spread(table: pd.DataFrame) -> str | None:
    """The arm of a `seed_table` whose variance over seeds is too large to be that of the others, at 5% (Cochran 1941,
    The distribution of the largest of a set of estimated variances); `residual` does not hold for it."""
    variances, (arms, seeds) = table.var(axis=1), table.shape
    if arms < 2 or seeds < 2 or not variances.sum() > 0:
        return None
    limit = stats.f.isf((1 - CONFIDENCE) / arms, seeds - 1, (arms - 1) * (seeds - 1))
    return str(variances.idxmax()) if variances.max() / variances.sum() > 1 / (1 + (arms - 1) / limit) else None


@dataclass(frozen=True)
class Contrast:
    """A difference to be told: the mean of the arms `plus` less that of the arms `minus`, by label."""

    about: Mapping[str, Any]
    plus: Sequence[str]
    minus: Sequence[str]


def contrasts(table: pd.DataFrame, wanted: Sequence[Contrast]) -> pd.DataFrame:
    """A row for each contrast: what it is about, its `difference`, the Student t interval from `residual` (where there
    is an `unlike_spread`, from the contrast's own spread over seeds), `p` adjusted for all rows (Holm 1979), whether
    that `tells` at 5%, and, where it does not, the `seeds_needed`."""
    (square, freedom), (arms, seeds) = residual(table), table.shape
    columns = [*(wanted[0].about if wanted else ()), "difference", "low", "high", "p", "tells", "seeds_needed"]
    by_seed = np.array([table.loc[[*each.plus]].mean() - table.loc[[*each.minus]].mean() for each in wanted])
    by_seed = by_seed.reshape(len(wanted), seeds)
    differences = by_seed.mean(axis=1)
    # Their variances when there is one seed.
    single = np.array([square * (1 / len(each.plus) + 1 / len(each.minus)) for each in wanted])
    if unlike_spread(table):
        single, freedom, arms = by_seed.var(axis=1, ddof=1), seeds - 1, 2
    with np.errstate(all="ignore"):
        error = np.sqrt(single / seeds)
        half = stats.t.ppf((1 + CONFIDENCE) / 2, freedom) * error
        p = holm(pd.Series(2 * stats.t.sf(abs(differences) / error, freedom), dtype=float))
    found = pd.DataFrame([each.about for each in wanted]).assign(
        difference=differences, low=differences - half, high=differences + half, p=p, tells=p < 1 - CONFIDENCE
    )
    pairs = zip(differences, single, found["tells"], strict=True)
    # The smallest p of those that are not told yet is held against this.
    level = (1 - CONFIDENCE) / max(1, (~found["tells"]).sum())
    found["seeds_needed"] = [np.nan if tells else seeds_needed(size, one, arms, level) for size, one, tells in pairs]
    return found.reindex(columns=columns)


def holm(p: pd.Series) -> pd.Series:
    """The p-values adjusted so that among all of them a false one comes in at most at the level (Holm 1979)."""
    ordered = p.sort_values()
    adjusted = (ordered * np.arange(ordered.count(), ordered.count() - len(ordered), -1)).cummax().clip(upper=1.0)
    return adjusted.reindex(p.index)


def seeds_needed(difference: float, single: float, arms: int, level: float) -> float:
    """The least number of seeds with which a difference as large as this would be told at `level` with a power of
    0.8, by the noncentral t distribution (Cohen 1988, chapter 2); `single` is its variance with one seed. Missing
    where it is more than 200."""
    if not single > 0 or arms < 2:
        return float("nan")
    seeds = np.arange(2, MOST_SEEDS + 1)
    freedom = (arms - 1) * (seeds - 1)
    limit, shift = stats.t.ppf(1 - level / 2, freedom), abs(difference) / np.sqrt(single / seeds)
    power = stats.nct.sf(limit, freedom, shift) + stats.nct.cdf(-limit, freedom, shift)
    enough = seeds[power >= POWER]
    return float(enough[0]) if len(enough) else float("nan")


def differences(table: pd.DataFrame, reference: str) -> pd.DataFrame:
    """Every other arm of a `seed_table` less the `reference`, as `contrasts`."""
    return contrasts(table, [Contrast({"arm": arm}, [arm], [reference]) for arm in table.index if arm != reference])


def factor_effects(table: pd.DataFrame, arms: pd.DataFrame, design: Mapping[str, Any]) -> pd.DataFrame:
    """What each scientific factor does, as `contrasts` with columns `factor`, `change` and `others` (what the other
    factors are). In a searched design the winner with that factor alone changed, less the winner; in a factorial one
    every two levels over all other levels, and where the arms are few also at each of these."""
    known = arms[arms["label"].isin(table.index)].set_index("label", drop=False)
    if design.get("search") != "factorial":
        winner = known[known["role"] == "winner"].to_dict("records")
        changed = known[known["role"] == "changed"].to_dict("records") if winner else []
        return contrasts(
            table,
            [
                _effect(arm["factor"], winner[0][arm["factor"]], arm[arm["factor"]], "those of the winner",
                        [winner[0]["label"]], [arm["label"]])
                for arm in changed
            ],
        )  # fmt: skip
    wanted: list[Contrast] = []
    for factor in scientific(design["factors"]):
        name, rest = factor["name"], [f["name"] for f in scientific(design["factors"]) if f["name"] != factor["name"]]
        for one, two in combinations(factor["levels"], 2):
            ends = (known.loc[known[name] == level, [*rest, "label"]] for level in (one, two))
            pairs = pd.merge(*ends, **({"on": rest} if rest else {"how": "cross"}))
            if len(pairs):
                whole = all((known[name] == level).sum() == len(pairs) for level in (one, two))
                average = ("on average" if whole else "on average over arms of both") if rest else ""
                wanted.append(_effect(name, one, two, average, list(pairs["label_x"]), list(pairs["label_y"])))
            for row in pairs.to_dict("records") if rest and len(known) <= FEW_ARMS else []:
                at = ", ".join(f"{other.replace('_', ' ')} {level_label(row[other])}" for other in rest)
                wanted.append(_effect(name, one, two, at, [row["label_x"]], [row["label_y"]]))
    return contrasts(table, wanted)


def _effect(name: str, one: Any, two: Any, others: str, minus: Sequence[str], plus: Sequence[str]) -> Contrast:
    change = f"{level_label(one)} → {level_label(two)}"
    return Contrast({"factor": name, "change": change, "others": others}, plus, minus)
