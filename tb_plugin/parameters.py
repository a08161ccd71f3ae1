"""Parameters of requests: read, checked and bounded. What is wrong becomes an answer 400 with a sentence."""

import json

from tensorboard import errors

MAX_BODY_BYTES = 2**20
MAX_RUNS = 1000
MAX_TAGS = 1000
MAX_POINTS = 20_000
MAX_BINS = 2000


def of_body(request):
    """Return the JSON object in the body of a request."""
    body = request.stream.read(MAX_BODY_BYTES + 1)
    if len(body) > MAX_BODY_BYTES:
        raise errors.InvalidArgumentError(
            "The body of a request has at most 1 MB. Ask for fewer runs at a time."
        )
    try:
        parameters = json.loads(body)
    except (ValueError, RecursionError):
        raise errors.InvalidArgumentError(
            "The body of a request is a JSON object, but this is no JSON."
        ) from None
    if not isinstance(parameters, dict):
        raise errors.InvalidArgumentError(
            f"The body of a request is a JSON object, not {type(parameters).__name__}."
        )
    return parameters


def strings(parameters, name, cap):
    """Return a list of strings, in its order and each once."""
    value = parameters.get(name)
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise errors.InvalidArgumentError(f'"{name}" is required: a list of strings.')
    if len(value) > cap:
        raise errors.InvalidArgumentError(
            f'"{name}" has {len(value)} entries; at most {cap} are answered at once.'
        )
    return list(dict.fromkeys(value))


def string(parameters, name):
    """Return one string."""
    value = parameters.get(name)
    if not isinstance(value, str):
        raise errors.InvalidArgumentError(f'"{name}" is required: one string.')
    return value


def whole(parameters, name, default, lowest, highest):
    """Return a whole number in bounds; `default` if it is not given."""
    value = parameters.get(name, default)
    if isinstance(value, str):
        try:
            value = int(value)
        except ValueError:
            value = None
    if value is default:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or not lowest <= value <= highest:
        raise errors.InvalidArgumentError(f'"{name}" is a whole number from {lowest} to {highest}.')
    return value


def bounds(parameters, name):
    """Return two numbers in increasing order, or None if they are not given."""
    value = parameters.get(name)
    if value is None:
        return None
    if (
        not isinstance(value, list)
        or len(value) != 2
        or not all(isinstance(v, int | float) and not isinstance(v, bool) for v in value)
        or not value[0] <= value[1]
    ):
        raise errors.InvalidArgumentError(f'"{name}" is a pair of numbers, the lower one first, or null.')
    return value
