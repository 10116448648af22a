"""The manifests of study/cluster/, by the schemas of KubeRay and Ray, and by the project."""

import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator, ValidationError
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.runtime_env import RuntimeEnv

from study.command_line import parse_command

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
CLUSTER = ROOT / "study" / "cluster"
PINNED = dict(re.findall(r"^([\w-]+)==(.+)$", (ROOT / "constraints.txt").read_text(), re.M))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

LATER = {("spec", "backoffLimit"), ("spec", "rayClusterSpec", "authOptions")}
"""Fields of KubeRay that are younger than its schema here: of 1.2 and of 1.5.1."""


def documents(name: str) -> dict[str, Any]:
    """The documents of a file by their kind; one without is the only one."""
    loaded = yaml.safe_load_all((CLUSTER / name).read_text(encoding="utf-8"))
    return {document.get("kind", name): document for document in loaded}


@pytest.fixture
def rayjob() -> dict[str, Any]:
    return documents("rayjob.yaml")["RayJob"]


@pytest.fixture
def launcher() -> dict[str, Any]:
    return documents("cluster.yaml")["cluster.yaml"]


def closed(schema: Any, are_names: bool = False) -> Any:
    """The schema, in which an object has no fields but its properties, as for Kubernetes."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {key: closed(each, key == "properties") for key, each in schema.items()}
    is_open = are_names or "properties" not in schema
    return inner if is_open else {**inner, "additionalProperties": False}


def refused(rayjob: dict[str, Any]) -> set[tuple[str | int, ...]]:
    """Where the manifest is not as KubeRay's schema has it: fields that are unknown, lacking or of
    another type."""
    schema = closed(json.loads((HERE / "kuberay" / "rayjob.schema.json").read_text()))
    places = set()
    for error in Draft202012Validator(schema).iter_errors(rayjob):
        unknown = set()
        if error.validator == "additionalProperties":
            unknown = set(error.instance) - set(error.schema["properties"])
        places |= {(*error.path, *([name] if name else [])) for name in unknown or {""}}
    return places


def test_the_rayjob_has_fields_that_kuberay_knows(rayjob):
    assert refused(rayjob) == LATER


def test_a_field_of_the_rayjob_that_is_misspelt_lacking_or_of_another_type_is_refused(rayjob):
    workers = rayjob["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]
    workers["maxReplica"] = workers["maxReplicas"]
    workers["minReplicas"] = "none"
    container = workers["template"]["spec"]["containers"][0]
    container["imagePullPolice"] = "Always"
    del rayjob["spec"]["entrypoint"]
    group = ("spec", "rayClusterSpec", "workerGroupSpecs", 0)
    assert refused(rayjob) - LATER == {
        (*group, "maxReplica"),
        (*group, "minReplicas"),
        (*group, "template", "spec", "containers", 0, "imagePullPolice"),
        ("spec",),
    }


def test_the_launcher_file_is_as_rays_own_schema_has_it(launcher):
    validate_config(prepare_config(launcher))
    worker = launcher["available_node_types"]["worker"]
    worker["max_worker"] = worker["max_workers"]
    with pytest.raises(ValidationError, match="max_worker"):
        validate_config(prepare_config(launcher))


def values(node: Any, name: str) -> Iterator[Any]:
    """What fields of this name have, wherever they are."""
    for key, value in node.items() if isinstance(node, dict) else enumerate(node):
        if key == name:
            yield value
        if isinstance(value, dict | list):
            yield from values(value, name)


def test_images_have_the_versions_of_constraints(rayjob, launcher):
    python = PROJECT["requires-python"].removeprefix("==").removesuffix(".*").replace(".", "")
    image = f"rayproject/ray:{PINNED['ray']}-py{python}-gpu"
    assert [*values(rayjob, "image"), *values(launcher, "image")] == [image] * 3
    assert image in (CLUSTER / "rayjob.yaml").read_text().partition("apiVersion")[0]
    assert rayjob["spec"]["rayClusterSpec"]["rayVersion"] == PINNED["ray"]


def test_the_rayjob_installs_what_a_study_needs_beside_ray(rayjob):
    environment = RuntimeEnv(**yaml.safe_load(rayjob["spec"]["runtimeEnvYAML"]))
    assert environment.working_dir_uri().endswith(".zip")
    versions, *packages = environment.pip_config()["packages"]
    assert versions == "-c ${RAY_RUNTIME_ENV_CREATE_WORKING_DIR}/constraints.txt"
    extras = PROJECT["optional-dependencies"]
    needed = {*extras["analysis"], *extras["study"]}
    assert set(packages) == {each for each in needed if not re.match(r"ray\b|resnet-study", each)}


def commands(path: Path) -> list[str]:
    """The options of every study/run.py in a file."""
    text = re.sub(r"\\\n\s*", "", path.read_text(encoding="utf-8"))
    if path.name == "rayjob.yaml":
        text = documents(path.name)["RayJob"]["spec"]["entrypoint"]
    return re.findall(r"python study/run\.py\b *([^'`#\n]*)", text)


@pytest.mark.parametrize("name", ["README.md", "rayjob.yaml", "cluster.yaml"])
def test_every_option_exists(name):
    found = commands(CLUSTER / name)
    assert found
    for options in found:
        parse_command(shlex.split(options))


def test_trials_at_once_are_those_that_the_most_workers_have_room_for(rayjob, launcher):
    (group,) = rayjob["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    limits = next(values(group, "limits"))
    worker = launcher["available_node_types"]["worker"]
    assert launcher["max_workers"] == worker["max_workers"]
    for name, nodes, gpus, cores in (
        ("rayjob.yaml", group["maxReplicas"], limits["nvidia.com/gpu"], limits["cpu"]),
        (
            "cluster.yaml",
            worker["max_workers"],
            *(worker["resources"][of] for of in ("GPU", "CPU")),
        ),
    ):
        (options,) = commands(CLUSTER / name)
        given = parse_command(shlex.split(options))
        assert given["max_concurrent"] * given["gpus_per_trial"] == nodes * int(gpus)
        assert given["max_concurrent"] <= nodes * int(cores)


def test_the_results_of_the_rayjob_are_on_its_volume(rayjob):
    (options,) = commands(CLUSTER / "rayjob.yaml")
    head = rayjob["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    (mount,) = head["containers"][0]["volumeMounts"]
    assert parse_command(shlex.split(options))["results_dir"] == mount["mountPath"]
    (volume,) = head["volumes"]
    assert volume["name"] == mount["name"]
    claim = documents("rayjob.yaml")["PersistentVolumeClaim"]["metadata"]["name"]
    assert volume["persistentVolumeClaim"]["claimName"] == claim
