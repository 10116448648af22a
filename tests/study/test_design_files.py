"""Designs as TOML: what is shown is read again unchanged, and whatever is wrong is one line that
names its key."""

import tomllib
from pathlib import Path

import pytest

from study.design_files import read_design, show_design
from study.designs import DESIGNS, Design, Factor
from study.run import main
from trainables.config import UsageError

OWN = """
search = "sampled"
samples = 12

[fixed]
width = 8
init = "he"

[[factors]]
name = "learning_rate"
role = "nuisance"
low = 1e-3
high = 0.1
scale = "log"

[[factors]]
name = "weight_decay"
role = "nuisance"
low = 1e-5
high = 1e-2
scale = "log"

[[factors]]
name = "optimizer"
role = "scientific"
levels = ["sgd", "adam"]

[[factors]]
name = "momentum"
role = "nuisance"
low = 0
high = 0.95
when = { optimizer = "sgd" }

[[factors]]
name = "batch_size"
role = "nuisance"
levels = [32, 64]

[baselines.plain]
residual = false
max_epochs = 3
"""


@pytest.fixture
def write(tmp_path: Path):
    def write(text: str, name: str = "mine.toml") -> str:
        (tmp_path / name).write_text(text, encoding="utf-8")
        return str(tmp_path / name)

    return write


def refused(name: str) -> str:
    with pytest.raises(UsageError) as caught:
        read_design(name)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", DESIGNS)
def test_a_built_in_design_survives_being_shown_and_read(write, name):
    shown = show_design(DESIGNS[name])
    assert read_design(write(shown, f"{name}.toml")) == DESIGNS[name] == read_design(name)
    assert show_design(read_design(write(shown, f"{name}.toml"))) == shown


def test_a_file_is_read_as_it_stands(write):
    design = read_design(write(OWN, "my design.toml"))
    assert design == Design(
        "my design",
        (
            Factor("learning_rate", "nuisance", low=1e-3, high=0.1, scale="log"),
            Factor("weight_decay", "nuisance", low=1e-5, high=1e-2, scale="log"),
            Factor("optimizer", "scientific", ("sgd", "adam")),
            Factor("momentum", "nuisance", low=0, high=0.95, when={"optimizer": "sgd"}),
            Factor("batch_size", "nuisance", (32, 64)),
        ),
        {"width": 8, "init": "he"},
        {"plain": {"residual": False, "max_epochs": 3}},
        samples=12,
    )
    assert read_design(write(show_design(design), "my design.toml")) == design


def test_a_condition_of_a_file_holds(write):
    design = read_design(write(OWN))
    momentum = design.factors[3]
    assert momentum.exists({"optimizer": "sgd"}) and not momentum.exists({"optimizer": "adam"})
    values = {
        "learning_rate": 0.01,
        "optimizer": "adam",
        "momentum": 0.5,
        "weight_decay": 1e-3,
        "batch_size": 64,
    }
    assert design.config(values, 4, 0).momentum == 0.9
    assert design.config(values | {"optimizer": "sgd"}, 4, 0).momentum == 0.5
    assert design.arms() == [{"optimizer": "sgd"}, {"optimizer": "adam"}]


def test_little_is_enough_and_the_rest_has_defaults(write):
    design = read_design(
        write('factors = [{name = "depth", role = "scientific", levels = [10, 18]}]')
    )
    assert design == Design("mine", (Factor("depth", "scientific", (10, 18)),))
    assert (design.search, design.outcome, design.samples) == ("sampled", "test_accuracy", 20)
    factors = 'factors = [{name = "depth", role = "scientific", levels = [10, 18, 34]}]'
    assert read_design(write('search = "factorial"\n' + factors)).samples == 12, "four of each arm"
    assert read_design(write('search = "none"\n[baselines.one]')).samples == 0


FACTOR = '[[factors]]\nname = "depth"\nrole = "scientific"\nlevels = [10, 18]\n'
RATE = '[[factors]]\nname = "learning_rate"\nrole = "nuisance"\n'
OPTIMIZER = '[[factors]]\nname = "optimizer"\nrole = "nuisance"\nlevels = ["sgd", "adam"]\n'
NESTEROV = '[[factors]]\nname = "nesterov"\nrole = "nuisance"\nlevels = [false, true]\n'
VARIED = (
    "stem_kernel, stem_stride, stem_maxpool, depth, width, residual, shortcut, init, "
    "bn_statistics, learning_rate, "
    "optimizer, momentum, nesterov, weight_decay, label_smoothing, batch_size, schedule, normalize"
)


def varied(*but: str) -> str:
    return ", ".join(name for name in VARIED.split(", ") if name not in but)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        # The whole file.
        (
            "sampels = 3",
            "key: invalid value 'sampels': expected search, outcome, samples, margin, fixed, "
            "factors, baselines",
        ),
        ("", "search: invalid value 'sampled': expected with factors"),
        ('search = "grid"', "search: invalid value 'grid': expected sampled, factorial, none"),
        (
            'outcome = "loss"',
            "outcome: invalid value 'loss': expected test_accuracy, train_accuracy",
        ),
        ('samples = "many"\n' + FACTOR, "samples: invalid value 'many': expected a whole number"),
        ("samples = 2.5\n" + FACTOR, "samples: invalid value 2.5: expected a whole number"),
        ("samples = true\n" + FACTOR, "samples: invalid value True: expected a whole number"),
        (
            "margin = 0\n" + FACTOR,
            "margin: invalid value 0: expected a number above 0 and below 1 (0.01 is 1 point)",
        ),
        (
            "margin = 1.0\n" + FACTOR,
            "margin: invalid value 1.0: expected a number above 0 and below 1 (0.01 is 1 point)",
        ),
        ('margin = "1"\n' + FACTOR, "margin: invalid value '1': expected a number"),
        (
            "samples = 0\n" + FACTOR,
            "samples: invalid value 0: expected an integer from 1 (design mine)",
        ),
        ("factors = 3", "factors: invalid value 3: expected a list"),
        (
            'search = "factorial"\nsamples = 5\n' + FACTOR,
            "samples: invalid value 5: expected a multiple of the 2 arms (design mine)",
        ),
        (
            'search = "factorial"\n' + RATE + "levels = [0.1, 0.2]",
            "search: invalid value 'factorial': expected with scientific factors and without "
            "baselines",
        ),
        (
            'search = "factorial"\n' + FACTOR + "[baselines.a]",
            "search: invalid value 'factorial': expected with scientific factors and without "
            "baselines",
        ),
        (
            'search = "none"',
            "search: invalid value 'none': expected with baselines and without factors",
        ),
        (
            'search = "none"\nsamples = 4\n[baselines.a]',
            "samples: invalid value 4: expected none, for there is no search stage (design mine)",
        ),
        # A factor.
        ("factors = [3]", "factors[0]: invalid value 3: expected a table"),
        (FACTOR + "[[factors]]\nname = 3", "factors[1]: name: invalid value 3: expected text"),
        ('[[factors]]\nrole = "nuisance"', "factors[0]: name: missing: expected text"),
        ('[[factors]]\nname = "depth"', "factors[0]: role: missing: expected text"),
        (
            FACTOR + "lvels = [1]",
            "factors[0]: key: invalid value 'lvels': expected name, role, levels, low, high, "
            "scale, when",
        ),
        (
            '[[factors]]\nname = "seed"\nrole = "nuisance"\nlevels = [1, 2]',
            f"factors[0]: name: invalid value 'seed': expected {VARIED}",
        ),
        (FACTOR + FACTOR, f"factors[1]: name: invalid value 'depth': expected {varied('depth')}"),
        (
            FACTOR.replace("scientific", "fixed"),
            "factors[0]: role: invalid value 'fixed': expected scientific, nuisance",
        ),
        # Its levels.
        (FACTOR.replace("18", "20"), "factors[0]: depth: invalid value 20: expected 10, 18, 34"),
        (
            FACTOR.replace("18", '"18"'),
            "factors[0]: depth: invalid value '18': expected 10, 18, 34",
        ),
        (
            FACTOR.replace("10, ", ""),
            "factors[0]: levels: invalid value [18]: expected two or more different ones, and "
            "then no low, high, scale",
        ),
        (
            FACTOR.replace("18", "10"),
            "factors[0]: levels: invalid value [10, 10]: expected two or more different ones, "
            "and then no low, high, scale",
        ),
        (
            RATE + 'levels = [0.1, 0.2]\nscale = "log"',
            "factors[0]: levels: invalid value [0.1, 0.2]: expected two or more different ones, "
            "and then no low, high, scale",
        ),
        (
            '[[factors]]\nname = "optimizer"\nrole = "nuisance"\nlow = 0\nhigh = 1',
            "factors[0]: levels: missing: expected a range only for a number that is a nuisance",
        ),
        (
            RATE.replace("nuisance", "scientific") + "low = 0.1\nhigh = 1",
            "factors[0]: levels: missing: expected a range only for a number that is a nuisance",
        ),
        # Its range.
        (RATE, "factors[0]: low: missing: expected low and high, or levels"),
        (RATE + "low = 0.1", "factors[0]: high: missing: expected low and high, or levels"),
        (RATE + 'low = "0.1"\nhigh = 1', "factors[0]: low: invalid value '0.1': expected a number"),
        (
            RATE + "low = 0.3\nhigh = 0.1",
            "factors[0]: low: invalid value 0.3: expected below high, 0.1; above 0 where log",
        ),
        (
            RATE + "low = 0\nhigh = 0.1",
            "factors[0]: low: learning_rate: invalid value 0: expected a finite number above 0",
        ),
        (
            RATE + "low = 0.1\nhigh = inf",
            "factors[0]: high: learning_rate: invalid value inf: expected a finite number above 0",
        ),
        (
            RATE.replace("learning_rate", "weight_decay") + 'low = 0.0\nhigh = 0.1\nscale = "log"',
            "factors[0]: low: invalid value 0.0: expected below high, 0.1; above 0 where log",
        ),
        (
            RATE + 'low = 0.1\nhigh = 0.3\nscale = "ln"',
            "factors[0]: scale: invalid value 'ln': expected linear, log",
        ),
        (
            RATE.replace("learning_rate", "width") + "low = 4.5\nhigh = 8",
            "factors[0]: low: width: invalid value 4.5: expected an integer from 1 to 1024",
        ),
        # Its condition.
        (FACTOR + "when = 3", "factors[0]: when: invalid value 3: expected a table"),
        (FACTOR + "when = { width = 8 }", "factors[0]: when: invalid value 'width': expected none"),
        (
            FACTOR + RATE + "low = 0.1\nhigh = 1\nwhen = { residual = true }",
            "factors[1]: when: invalid value 'residual': expected depth",
        ),
        (
            FACTOR + RATE + "low = 0.1\nhigh = 1\nwhen = { depth = 34 }",
            "factors[1]: when.depth: invalid value 34: expected 10, 18",
        ),
        (
            OPTIMIZER + FACTOR + 'when = { optimizer = "sgd" }',
            # An arm is made of scientific levels alone.
            "factors[1]: when: invalid value 'optimizer': expected none",
        ),
        # Levels that do not go together, or not with what is fixed.
        (
            "fixed.nesterov = true\n" + OPTIMIZER,
            "factors: with optimizer 'adam': nesterov: invalid value True: "
            "expected only with optimizer sgd and a momentum above 0",
        ),
        (
            FACTOR + OPTIMIZER + NESTEROV,
            "factors: with optimizer 'adam', nesterov True: nesterov: invalid value True: "
            "expected only with optimizer sgd and a momentum above 0",
        ),
        (
            FACTOR + OPTIMIZER + NESTEROV + "when = { depth = 18 }",
            "factors: with depth 18, optimizer 'adam', nesterov True: nesterov: invalid value "
            "True: "
            "expected only with optimizer sgd and a momentum above 0",
        ),
        # Fixed values and baselines.
        (
            "[fixed]\ndept = 18\n" + FACTOR,
            f"fixed: key: invalid value 'dept': expected {varied('depth')}",
        ),
        (
            "[fixed]\ndepth = 18\n" + FACTOR,
            f"fixed: key: invalid value 'depth': expected {varied('depth')}",
        ),
        (
            "[fixed]\nmax_epochs = 3\n" + FACTOR,
            f"fixed: key: invalid value 'max_epochs': expected {varied('depth')}",
        ),
        (
            "[fixed]\nwidth = 0\n" + FACTOR,
            "fixed: width: invalid value 0: expected an integer from 1 to 1024",
        ),
        ("fixed = 3\n" + FACTOR, "fixed: invalid value 3: expected a table"),
        (
            "[baselines.a]\nseed = 3\n" + FACTOR,
            "baselines.a: seed: invalid: expected none, for the study's is taken",
        ),
        (
            "baselines.a.nesterov = true\n" + OPTIMIZER.replace("nuisance", "scientific"),
            "baselines.a: with optimizer 'adam': nesterov: invalid value True: "
            "expected only with optimizer sgd and a momentum above 0",
        ),
        ("baselines.a = 3\n" + FACTOR, "baselines.a: invalid value 3: expected a table"),
        (
            "[baselines.a]\ndepth = 11\n" + FACTOR,
            "baselines.a: depth: invalid value 11: expected 10, 18, 34",
        ),
        (
            "[baselines.a]\nmax_epochs = 0\n" + FACTOR,
            "baselines.a: max_epochs: invalid value 0: expected an integer from 1 to 1048576",
        ),
    ],
)
def test_a_broken_design_is_one_line_that_names_the_key(write, text, message):
    path = write(text)
    assert refused(path) == f"--design: {path}: {message}"


def test_no_file_no_toml_no_text(write, tmp_path):
    expected = "expected search, course, stem, degradation, recipe, or a file that ends in .toml"
    missing = str(tmp_path / "none.toml")
    assert (
        refused(missing)
        == f"--design: invalid value {missing!r} (No such file or directory): {expected}"
    )
    (tmp_path / "folder.toml").mkdir()
    folder = str(tmp_path / "folder.toml")
    assert refused(folder) == f"--design: invalid value {folder!r} (Is a directory): {expected}"
    path = write("samples = \n")
    assert refused(path) == f"--design: {path}: no TOML (Invalid value (at line 1, column 11))"
    path = write("samples = 1\nsamples = 2")
    assert refused(path).startswith(f"--design: {path}: no TOML (Cannot overwrite a value")
    Path(path).write_bytes(b'name = "\xff\xfe"')
    assert refused(path).startswith(
        f"--design: {path}: no TOML ('utf-8' codec can't decode byte 0xff"
    )


def test_a_condition_makes_levels_go_together(write):
    design = read_design(write(FACTOR + OPTIMIZER + NESTEROV + 'when = { optimizer = "sgd" }'))
    assert not design.config({"optimizer": "adam", "nesterov": True}, 1, 0).nesterov
    assert design.config({"optimizer": "sgd", "nesterov": True}, 1, 0).nesterov


@pytest.mark.parametrize("arguments", [[], ["--design", "stem"], ["--design", "course"]])
def test_the_command_shows_a_design_as_a_file(capsys, write, arguments):
    assert main([*arguments, "--show-design"]) == 0
    message, errors = capsys.readouterr()
    name = arguments[-1] if arguments else "search"
    assert errors == ""
    assert read_design(write(message, f"{name}.toml")) == DESIGNS[name]


def test_one_budget_for_all_is_shown(capsys):
    assert main(["--design", "course", "--epochs", "5", "--show-design"]) == 0
    baselines = tomllib.loads(capsys.readouterr().out)["baselines"]
    assert len(baselines) == 3
    assert not any("max_epochs" in values for values in baselines.values())


def test_the_command_refuses_a_broken_file_with_status_2(capsys, write):
    path = write("factors = [3]")
    assert main(["--design", path, "--show-design"]) == 2
    assert (
        capsys.readouterr().err
        == f"resnet-study: --design: {path}: factors[0]: invalid value 3: expected a table\n"
    )
