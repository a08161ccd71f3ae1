"""YAML files, with what was typed on the command line put over them."""

import copy
import pathlib
import re

import yaml

from tf_lbgap.experiment.calls import ConfigError, nearest


def read(path, overrides=(), defaults=None):
    """Return the content of a YAML file, a dict of which no key is known yet.

    Args:
        path: The file.
        overrides: Strings `key=value`; the key may reach into the file, `arms.small.batch_size=8`.
        defaults: Dict; an override that reaches into a key that the file leaves out reaches into this one's.

    Raises:
        ConfigError: If the file is missing or no YAML, or an override says nothing.
    """
    path = pathlib.Path(path)
    try:
        content = _read_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"There is no file {str(path)!r}. {_yaml_files(path)}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} cannot be read: {error}. Save it as UTF-8.") from None
    except (OSError, yaml.YAMLError) as error:
        hint = ". Indent with spaces." if "'\\t'" in str(error) else ""
        raise ConfigError(f"{path} cannot be read as YAML: {' '.join(str(error).split())}{hint}") from None
    if not isinstance(content, dict):
        came = "nothing" if content is None else f"a {type(content).__name__}"
        raise ConfigError(f"{path} must hold keys and values, such as 'arms:', but holds {came}.")
    for override in overrides:
        _override(content, override, defaults or {})
    return content


class _Yaml(yaml.SafeLoader):
    """YAML in which 1e-3 is a number, as in Python (YAML 1.1 wants 1.0e-3), and no key stands twice."""

    def compose_mapping_node(self, anchor):
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"the key {key.value!r} stands twice", problem_mark=key.start_mark
                )
            seen.add(key.value)
        return node


_Yaml.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def _read_yaml(text):
    return yaml.load(text, Loader=_Yaml)


def _override(content, override, defaults):
    key, equals, value = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"{override!r} is not of the form key=value, such as seeds=10.")
    try:
        value = _read_yaml(value)
    except yaml.YAMLError:
        raise ConfigError(f"{override!r}: the value cannot be read as YAML.") from None
    *parents, last = key.split(".")
    if parents[:1] == ["arms"] and parents[1:] and isinstance(content.get("arms"), dict):
        if parents[1] not in content["arms"]:
            raise ConfigError(
                f"{override!r}: {parents[1]!r} is not an arm. {nearest(parents[1], content['arms'])}"
            )
    elif parents and defaults.get(parents[0]):
        content.setdefault(parents[0], copy.deepcopy(defaults[parents[0]]))
    for parent in parents:
        content = content.setdefault(parent, {})
        if not isinstance(content, dict):
            raise ConfigError(f"{override!r}: {parent} holds no keys.")
    content[last] = value


def _yaml_files(path):
    folder = path.parent if path.parent.is_dir() else pathlib.Path("configs")
    found = sorted(str(p) for p in folder.glob("*.yaml")) if folder.is_dir() else []
    return nearest(path, found) if found else "Give the path of a YAML file."
