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
    "stem_kernel, stem_stride, stem_maxpool, depth, width, residual, shortcut, init, bn_statistics, learning_rate, "
    "optimizer, momentum, nesterov, weight_decay, label_smoothing, batch_size, schedule, normalize"
)


def varied(*but: str) -> str:
    return ", ".join(name for name in VARIED.split(", ") if name not in but)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        # The whole file.
        (
            "sampels = 3",
            "key: received 'sampels', allowed: search, outcome, samples, margin, fixed, factors, baselines",
        ),
        ("", "search: received 'sampled', allowed: with factors"),
        ('search = "grid"', "search: received 'grid', allowed: sampled, factorial, none"),
        ('outcome = "loss"', "outcome: received 'loss', allowed: test_accuracy, train_accuracy"),
        ('samples = "many"\n' + FACTOR, "samples: received 'many', allowed: a whole number"),
        ("samples = 2.5\n" + FACTOR, "samples: received 2.5, allowed: a whole number"),
        ("samples = true\n" + FACTOR, "samples: received True, allowed: a whole number"),
        (
            "margin = 0\n" + FACTOR,
            "margin: received 0, allowed: a number above 0 and below 1 (0.01 is 1 point)",
        ),
        (
            "margin = 1.0\n" + FACTOR,
            "margin: received 1.0, allowed: a number above 0 and below 1 (0.01 is 1 point)",
        ),
        ('margin = "1"\n' + FACTOR, "margin: received '1', allowed: a number"),
        (
            "samples = 0\n" + FACTOR,
            "samples: received 0, allowed with design mine: an integer from 1",
        ),
        ("factors = 3", "factors: received 3, allowed: a list"),
        (
            'search = "factorial"\nsamples = 5\n' + FACTOR,
            "samples: received 5, allowed with design mine: a multiple of the 2 arms",
        ),
        (
            'search = "factorial"\n' + RATE + "levels = [0.1, 0.2]",
            "search: received 'factorial', allowed: with scientific factors and without baselines",
        ),
        (
            'search = "factorial"\n' + FACTOR + "[baselines.a]",
            "search: received 'factorial', allowed: with scientific factors and without baselines",
        ),
        ('search = "none"', "search: received 'none', allowed: with baselines and without factors"),
        (
            'search = "none"\nsamples = 4\n[baselines.a]',
            "samples: received 4, allowed with design mine: none, for there is no search stage",
        ),
        # A factor.
        ("factors = [3]", "factors[0]: received 3, allowed: a table"),
        (FACTOR + "[[factors]]\nname = 3", "factors[1]: name: received 3, allowed: text"),
        ('[[factors]]\nrole = "nuisance"', "factors[0]: name: received none, allowed: text"),
        ('[[factors]]\nname = "depth"', "factors[0]: role: received none, allowed: text"),
        (
            FACTOR + "lvels = [1]",
            "factors[0]: key: received 'lvels', allowed: name, role, levels, low, high, scale, when",
        ),
        (
            '[[factors]]\nname = "seed"\nrole = "nuisance"\nlevels = [1, 2]',
            f"factors[0]: name: received 'seed', allowed: {VARIED}",
        ),
        (FACTOR + FACTOR, f"factors[1]: name: received 'depth', allowed: {varied('depth')}"),
        (
            FACTOR.replace("scientific", "fixed"),
            "factors[0]: role: received 'fixed', allowed: scientific, nuisance",
        ),
        # Its levels.
        (FACTOR.replace("18", "20"), "factors[0]: depth: received 20, allowed: 10, 18, 34"),
        (FACTOR.replace("18", '"18"'), "factors[0]: depth: received '18', allowed: 10, 18, 34"),
        (
            FACTOR.replace("10, ", ""),
            "factors[0]: levels: received [18], allowed: two or more unlike ones, and then no low, high, scale",
        ),
        (
            FACTOR.replace("18", "10"),
            "factors[0]: levels: received [10, 10], allowed: two or more unlike ones, and then no low, high, scale",
        ),
        (
            RATE + 'levels = [0.1, 0.2]\nscale = "log"',
            "factors[0]: levels: received [0.1, 0.2], allowed: two or more unlike ones, and then no low, high, scale",
        ),
        (
            '[[factors]]\nname = "optimizer"\nrole = "nuisance"\nlow = 0\nhigh = 1',
            "factors[0]: levels: received none, allowed: a range only for a number that is a nuisance",
        ),
        (
            RATE.replace("nuisance", "scientific") + "low = 0.1\nhigh = 1",
            "factors[0]: levels: received none, allowed: a range only for a number that is a nuisance",
        ),
        # Its range.
        (RATE, "factors[0]: low: received none, allowed: low and high, or levels"),
        (RATE + "low = 0.1", "factors[0]: high: received none, allowed: low and high, or levels"),
        (RATE + 'low = "0.1"\nhigh = 1', "factors[0]: low: received '0.1', allowed: a number"),
        (
            RATE + "low = 0.3\nhigh = 0.1",
            "factors[0]: low: received 0.3, allowed: below high, 0.1; above 0 where log",
        ),
        (
            RATE + "low = 0\nhigh = 0.1",
            "factors[0]: low: learning_rate: received 0, allowed: a finite number above 0",
        ),
        (
            RATE + "low = 0.1\nhigh = inf",
            "factors[0]: high: learning_rate: received inf, allowed: a finite number above 0",
        ),
        (
            RATE.replace("learning_rate", "weight_decay") + 'low = 0.0\nhigh = 0.1\nscale = "log"',
            "factors[0]: low: received 0.0, allowed: below high, 0.1; above 0 where log",
        ),
        (
            RATE + 'low = 0.1\nhigh = 0.3\nscale = "ln"',
            "factors[0]: scale: received 'ln', allowed: linear, log",
        ),
        (
            RATE.replace("learning_rate", "width") + "low = 4.5\nhigh = 8",
            "factors[0]: low: width: received 4.5, allowed: an integer from 1 to 1024",
        ),
        # Its condition.
        (FACTOR + "when = 3", "factors[0]: when: received 3, allowed: a table"),
        (FACTOR + "when = { width = 8 }", "factors[0]: when: received 'width', allowed: none"),
        (
            FACTOR + RATE + "low = 0.1\nhigh = 1\nwhen = { residual = true }",
            "factors[1]: when: received 'residual', allowed: depth",
        ),
        (
            FACTOR + RATE + "low = 0.1\nhigh = 1\nwhen = { depth = 34 }",
            "factors[1]: when.depth: received 34, allowed: 10, 18",
        ),
        (
            OPTIMIZER + FACTOR + 'when = { optimizer = "sgd" }',
            "factors[1]: when: received 'optimizer', allowed: none",  # an arm is made of scientific levels alone
        ),
        # Levels that do not go together, or not with what is fixed.
        (
            "fixed.nesterov = true\n" + OPTIMIZER,
            "factors: with optimizer 'adam': nesterov: received True, "
            "allowed only with optimizer sgd and a momentum above 0",
        ),
        (
            FACTOR + OPTIMIZER + NESTEROV,
            "factors: with optimizer 'adam', nesterov True: nesterov: received True, "
            "allowed only with optimizer sgd and a momentum above 0",
        ),
        (
            FACTOR + OPTIMIZER + NESTEROV + "when = { depth = 18 }",
            "factors: with depth 18, optimizer 'adam', nesterov True: nesterov: received True, "
            "allowed only with optimizer sgd and a momentum above 0",
        ),
        # Fixed values and baselines.
        (
            "[fixed]\ndept = 18\n" + FACTOR,
            f"fixed: key: received 'dept', allowed: {varied('depth')}",
        ),
        (
            "[fixed]\ndepth = 18\n" + FACTOR,
            f"fixed: key: received 'depth', allowed: {varied('depth')}",
        ),
        (
            "[fixed]\nmax_epochs = 3\n" + FACTOR,
            f"fixed: key: received 'max_epochs', allowed: {varied('depth')}",
        ),
        (
            "[fixed]\nwidth = 0\n" + FACTOR,
            "fixed: width: received 0, allowed: an integer from 1 to 1024",
        ),
        ("fixed = 3\n" + FACTOR, "fixed: received 3, allowed: a table"),
        (
            "[baselines.a]\nseed = 3\n" + FACTOR,
            "baselines.a: seed: received one, allowed: none, for the study's is taken",
        ),
        (
            "baselines.a.nesterov = true\n" + OPTIMIZER.replace("nuisance", "scientific"),
            "baselines.a: with optimizer 'adam': nesterov: received True, "
            "allowed only with optimizer sgd and a momentum above 0",
        ),
        ("baselines.a = 3\n" + FACTOR, "baselines.a: received 3, allowed: a table"),
        (
            "[baselines.a]\ndepth = 11\n" + FACTOR,
            "baselines.a: depth: received 11, allowed: 10, 18, 34",
        ),
        (
            "[baselines.a]\nmax_epochs = 0\n" + FACTOR,
            "baselines.a: max_epochs: received 0, allowed: an integer from 1 to 1048576",
        ),
    ],
)
def test_a_broken_design_is_one_line_that_names_the_key(write, text, said):
    path = write(text)
    assert refused(path) == f"--design: {path}: {said}"


def test_no_file_no_toml_no_text(write, tmp_path):
    allowed = "allowed: search, course, stem, degradation, recipe, or a file that ends in .toml"
    missing = str(tmp_path / "none.toml")
    assert (
        refused(missing) == f"--design: received {missing!r} (No such file or directory), {allowed}"
    )
    (tmp_path / "folder.toml").mkdir()
    folder = str(tmp_path / "folder.toml")
    assert refused(folder) == f"--design: received {folder!r} (Is a directory), {allowed}"
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
    said, errors = capsys.readouterr()
    name = arguments[-1] if arguments else "search"
    assert errors == ""
    assert read_design(write(said, f"{name}.toml")) == DESIGNS[name]


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
        == f"resnet-study: --design: {path}: factors[0]: received 3, allowed: a table\n"
    )
