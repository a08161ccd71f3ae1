"""What a report is made of: run directories, their experiments, and what their event files hold.

A directory that `lbgap run` wrote has a configuration and results; another directory with event files of the
plugin has curves, and can be reported, too.
"""

import dataclasses
import os
import pathlib

import yaml

from tf_lbgap.experiment import ConfigError, Experiment, from_dict
from tf_lbgap.experiment.files import read_json


@dataclasses.dataclass(frozen=True)
class Run:
    """One directory.

    `experiment` is None and `rows` empty where nobody wrote them.
    """

    path: pathlib.Path
    name: str  # short, and different from the other runs'
    experiment: Experiment | None
    rows: list  # as in results.json
    environment: dict
    members: tuple  # folders with event files, relative; "." for the directory itself

    @property
    def arms(self):
        """Names of the arms of which something finished, in the order of the configuration."""
        if self.experiment is None:
            return []
        done = {row["arm"] for row in self.rows}
        return [arm for arm in self.experiment.arms if arm in done]

    def group(self, arm, runs):
        """Return what an arm is called among those of several runs."""
        return arm if len(runs) == 1 else f"{self.name}/{arm}"


def read_runs(paths):
    """Read run directories.

    Raises:
        ConfigError: If one does not exist, is none, or holds nothing.
    """
    paths = [pathlib.Path(path) for path in paths]
    if len({path.resolve() for path in paths}) < len(paths):
        raise ConfigError(f"{', '.join(map(str, paths))}: a run is named twice.")
    return [_read(path, name) for path, name in zip(paths, _names(paths), strict=True)]


def _read(path, name):
    if not path.exists():
        raise ConfigError(
            f"There is no run {str(path)!r}. Pass the directory that lbgap run printed, such as runs/quickstart."
        )
    if not path.is_dir():
        raise ConfigError(f"{str(path)!r} is a file. Pass the run directory that it is in.")
    experiment, content = _experiment(path), read_json(path / "results.json")
    content = content if isinstance(content, dict) else {}
    rows = [row for row in content.get("runs") or [] if isinstance(row, dict) and "arm" in row]
    members = tuple(_members(path))
    if not members and not rows:
        if experiment is None and not (path / "config.yaml").exists():
            raise ConfigError(
                f"{str(path)!r} is no run directory: it holds neither config.yaml nor TensorBoard events. Pass the "
                "directory that lbgap run printed, such as runs/quickstart."
            )
        raise ConfigError(
            f"{str(path)!r} holds no finished arm. Train first: lbgap run CONFIG output={path}."
        )
    rows = [row for row in rows if experiment is not None and row["arm"] in experiment.arms]
    return Run(path, name, experiment, rows, content.get("environment") or {}, members)


def _experiment(path):
    try:
        content = yaml.safe_load((path / "config.yaml").read_text(encoding="utf-8"))
    except OSError:
        return None
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path / 'config.yaml'} cannot be read: {' '.join(str(error).split())}") from error
    try:
        return from_dict(content, name=path.name)
    except (ConfigError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path / 'config.yaml'} cannot be understood: {error}") from error


def _members(path):
    """Yield folders with event files; those that begin with a dot are not finished."""
    for folder, folders, files in os.walk(path):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if any("tfevents" in name for name in files):
            yield os.path.relpath(folder, path).replace(os.sep, "/")


def _names(paths):
    """Return the last parts of the paths, with as many parts before them as it takes to tell them apart."""
    paths = [path.resolve() for path in paths]
    for count in range(1, max(len(path.parts) for path in paths) + 1):
        names = ["/".join(path.parts[-count:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]
