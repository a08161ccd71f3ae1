"""The commands of `lbgap`, a file for each.

A command is a module with `add(commands)`, which tells `argparse` of its arguments, and `execute(options)`, which runs it and returns the
exit code. What is slow to import is imported there, so that `lbgap --help` does not wait for TensorFlow.
"""

from tf_lbgap.commands import advise, gallery, measure, report, reproduce, run, search

COMMANDS = (run, reproduce, gallery, search, measure, report, advise)
