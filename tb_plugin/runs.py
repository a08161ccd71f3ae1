"""Runs of the tab: which of TensorBoard's runs belong together, and which are seeds of one arm.

TensorBoard has a run for each directory with event files, so one `fit` becomes `small/0`, `small/0/train` and
`small/0/validation`. The tab shows one run, `small/0`, a seed of the group `small`.
"""

import re

MEMBERS = ("curvature", "train", "validation", "test")  # in the order in which a tag is looked for
_SEED = re.compile(r"(?P<group>.+?)(?:/(?:seed[-_=. ]?)?|[-_.]s(?:eed)?[-_=]?)(?P<seed>\d{1,9})", re.DOTALL)


def tab_run(name):
    """Return the tab's run that a run of TensorBoard's belongs to.

    Example:
        >>> tab_run("small/0/validation"), tab_run("small/0"), tab_run("train")
        ('small/0', 'small/0', 'train')
    """
    head, _, last = name.rpartition("/")
    return head if head and last in MEMBERS else name


def group_and_seed(run):
    """Return the group of a run and its seed, a string; a run without a seed is its own group, seed None.

    Example:
        >>> group_and_seed("small/0"), group_and_seed("wide-seed3"), group_and_seed("baseline")
        (('small', '0'), ('wide', '3'), ('baseline', None))
    """
    match = _SEED.fullmatch(run)
    return (match["group"], match["seed"]) if match else (run, None)


def member_order(run, member):
    """Return a sort key: the run itself before its parts."""
    last = member.rpartition("/")[2]
    return (member != run, MEMBERS.index(last) if last in MEMBERS else 0, member)
