"""A nest of plain values and arrays as one `.npz` file, which numpy reads too.

Arrays are members of the archive, with their checksums; the rest is JSON in the member `content`. Nothing is pickled, so
a file from somebody else can be read without running what is in it.
"""

import json
import pathlib
import struct
import zipfile

import numpy as np

from tf_lbgap.aside import written_aside

_ARRAY = "__array__"


class Damaged(ValueError):
    """A file that is not whole."""


def write(path, content):
    """Write dicts (with keys of strings), lists, numbers, strings, None and arrays; tuples become lists.

    Raises:
        OSError: If the disk does not take it; an older file of that name is then unchanged.
        TypeError: If the content holds something else.
    """
    arrays = {}
    text = json.dumps(_packed(content, arrays))
    arrays["content"] = np.frombuffer(text.encode(), np.uint8)
    with written_aside(path) as file:
        np.savez(file, **arrays)


def read(path):
    """Return what `write` was given.

    Raises:
        Damaged: If the file is not whole.
        OSError: If it cannot be read at all.
    """
    try:
        with np.load(pathlib.Path(path), allow_pickle=False) as arrays:
            content = json.loads(arrays["content"].tobytes().decode())
            return _unpacked(content, arrays)
    except (zipfile.BadZipFile, struct.error, ValueError, KeyError, EOFError) as error:
        raise Damaged(str(error) or type(error).__name__) from error


def _packed(content, arrays):
    if isinstance(content, dict):
        odd = [key for key in content if not isinstance(key, str)]
        if odd:
            raise TypeError(f"the key {odd[0]!r} is not a string")
        return {key: _packed(value, arrays) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_packed(value, arrays) for value in content]
    if isinstance(content, np.generic):
        content = content.item() if content.dtype.kind in "biuf" else np.asarray(content)
    if isinstance(content, np.ndarray):
        name = f"array_{len(arrays)}"
        # numpy does not know the types of other libraries, such as bfloat16: their bytes are kept.
        own = content.dtype.kind in "biufc"
        arrays[name] = content if own else np.frombuffer(content.tobytes(), np.uint8)
        return {_ARRAY: name, "dtype": content.dtype.name, "shape": list(content.shape)}
    if content is None or isinstance(content, (bool, int, float, str)):
        return content
    raise TypeError(f"a {type(content).__name__}, {content!r}, is neither a plain value nor an array")


def _unpacked(content, arrays):
    if isinstance(content, dict) and _ARRAY in content:
        array = arrays[content[_ARRAY]]
        dtype = np.dtype(content["dtype"])
        return array if array.dtype == dtype else array.view(dtype).reshape(content["shape"])
    if isinstance(content, dict):
        return {key: _unpacked(value, arrays) for key, value in content.items()}
    if isinstance(content, list):
        return [_unpacked(value, arrays) for value in content]
    return content
