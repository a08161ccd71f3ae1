"""Every YAML file in configs/ loads, says what it claims, and each of its arms fits real data."""

import pathlib
import re

import pytest
import yaml

from tf_lbgap import experiment, search

FOLDER = pathlib.Path(__file__).parent.parent / "configs"
FASHION = pathlib.Path("/usr/share/datasets/fashion-mnist")
PATHS = sorted(FOLDER.rglob("*.yaml"))
PAPERS = [path for path in PATHS if "paper" in yaml.safe_load(path.read_text())]
SEARCHES = [path for path in PATHS if "tuner" in yaml.safe_load(path.read_text())]
EXPERIMENTS = [path for path in PATHS if path not in (*SEARCHES, *PAPERS)]
PREPARED = {}


def test_there_are_configs_and_one_needs_no_download():
    assert PATHS
    assert "data.datasets.digits" in (FOLDER / "quickstart.yaml").read_text()


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_config_begins_with_what_it_claims_and_costs(path):
    lines = path.read_text().splitlines()
    header = lines[: [line.startswith("#") for line in lines].index(False)]
    for word in ("Claim", "Cost"):
        assert any(re.match(rf"# {word}\b", line) for line in header), f"{path.name} does not say {word}"


@pytest.mark.slow
@pytest.mark.parametrize("path", SEARCHES, ids=lambda path: path.stem)
def test_two_trials_of_a_search_and_what_it_is_compared_with_fit_two_updates(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content = search.load(path).to_dict() | {"equal": "updates", "updates": 2, "objective": "validation_loss"}
    content |= {
        "max_trials": 2,
        "seeds": 1,
        "fresh_seeds": 1,
        "output": "run",
        "measure": {"top_eigenvalue_examples": 0},
    }
    found = search.run(search.from_dict(content))
    assert [row["updates"] for trial in found["trials"] for row in trial["seeds"]] == [2, 2]
    assert [(row["arm"], row["updates"]) for row in found["runs"]] == [
        (arm, 2) for arm in (*content.get("arms", ()), *found["winners"])
    ]


@pytest.mark.slow
@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_each_arm_of_a_config_fits_two_updates(path, tmp_path, tmp_path_factory, monkeypatch):
    monkeypatch.chdir(tmp_path)
    prepared = PREPARED.setdefault("fashion", tmp_path_factory.mktemp("tfds"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(prepared))
    made = experiment.load(path)
    if "fashion" in str(made.arms) and not FASHION.is_dir():
        pytest.skip(f"no {FASHION}: apt-get install dataset-fashion-mnist")
    before = sorted(FOLDER.parent.iterdir())

    content = made.to_dict() | {"equal": "updates", "seeds": 1, "output": str(tmp_path / "run")}
    content["measure"] = {"check_examples": 10, "top_eigenvalue_examples": 0, "validation_examples": 10}
    for arm in content["arms"].values():
        arm["updates"] = 2
        if "num_train" in arm["data"]:
            arm["data"]["num_train"] = 1250  # the largest batch of the configs
    rows = experiment.run(experiment.from_dict(content))

    # Conservative training makes three updates of a batch, so it stops after the first.
    expected = {arm: 3 if "Conservative" in str(keys["update"]) else 2 for arm, keys in made.arms.items()}
    assert [(row["arm"], row["updates"]) for row in rows] == list(expected.items())
    assert all(row["train_loss"] is not None for row in rows)
    assert sorted(FOLDER.parent.iterdir()) == before
