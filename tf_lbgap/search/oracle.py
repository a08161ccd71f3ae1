"""Keras Tuner's oracle of a search."""

import keras_tuner

from tf_lbgap.search.objectives import OBJECTIVES
from tf_lbgap.tuning.oracles import ORACLES


def make_oracle(search):
    """Return the oracle of a `Search`, which nobody has asked yet."""
    hyperparameters = keras_tuner.HyperParameters()
    for dimension in search.dimensions:
        dimension.register(hyperparameters)
    options = {key: value for key, value in search.tuner.items() if key != "name"}
    if search.tuner["name"] == "hyperband":
        options["max_epochs"] = search.content["epochs"]
    else:
        options["max_trials"] = search.max_trials
    oracle = ORACLES[search.tuner["name"]](
        objective=keras_tuner.Objective(search.objective, OBJECTIVES[search.objective].direction),
        hyperparameters=hyperparameters,
        seed=search.search_seed + 1,  # 0 would be another seed each time
        allow_new_entries=False,
        tune_new_entries=False,
        **options,
    )
    oracle.verbose = 0
    return oracle
