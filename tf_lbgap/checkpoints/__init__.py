"""What a training run is at a moment, in one file: enough to go on as if nothing had happened.

`Folder` keeps the last few of these files and finds the newest that is whole. `variables` are those of a model, its
optimizer and its metrics; `randomness` the generators of the process; `of_callbacks` what callbacks remember;
`growing_files` how long event files were, so that what a dead process wrote since is not there twice.
"""

from tf_lbgap.checkpoints import archive, growing_files, of_callbacks, randomness, variables
from tf_lbgap.checkpoints.folder import Folder

__all__ = ["Folder", "archive", "growing_files", "of_callbacks", "randomness", "variables"]
