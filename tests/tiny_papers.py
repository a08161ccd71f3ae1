"""A paper that is reproduced in a moment."""

TINY = {
    "paper": "A paper, 2026",
    "data": {"call": "data.datasets.digits", "num_train": 60},
    "model": {"call": "networks.mlp", "widths": [8]},
    "optimizer": {"call": "keras.optimizers.SGD", "learning_rate": 0.1, "momentum": 0.9},
    "measure": {"top_eigenvalue_examples": 0, "validation_examples": 0},
    "seeds": 2,
    "first_seed": 100,
    "primary": "sharper",
    "rules": {
        "own": "loss",
        "loss": {"target_loss": 1.0, "epochs": 60},
        "epochs": {"epochs": 2},
        "updates": {"updates": 12},
        "seconds": "NOT RUN: two cores are too noisy",
        "tuned": {"epochs": 1, "learning_rates": [0.01, 0.05]},
    },
    "experiments": {
        "minima": {"arms": {"small": {"batch_size": 10}, "large": {"batch_size": 25}}},
        "sweep": {"equal": "epochs", "epochs": 1, "arms": {"a": {"batch_size": 20}, "b": {"batch_size": 60}}},
    },
    "studies": {
        "between": {
            "call": "reproduction.studies.interpolation",
            "in": "minima",
            "arms": ["small", "large"],
            "points": 7,
            "examples": 50,
            "test_examples": 50,
        }
    },
    "claims": {
        "sharper": {
            "says": "Large batches train to another loss.",
            "in": "minima",
            "statistic": {"call": "claims.ratio", "of": "train_loss", "arm": "large", "to": "small"},
            "above": 0.01,
            "expected": 1.0,
            "deviation": 0.2,
        },
        "same": {
            "says": "They test alike.",
            "in": "minima",
            "statistic": {"call": "claims.difference", "of": "test_accuracy", "arm": "large", "to": "small"},
            "within": [-0.01, 0.01],
        },
        "fewer": {
            "says": "A batch three times as large takes a third of the updates.",
            "in": "sweep",
            "statistic": {"call": "claims.ratio", "of": "updates", "arm": "b", "to": "a"},
            "within": [0.3, 0.4],
        },
        "barrier": {
            "says": "There is no barrier between them.",
            "in": "between",
            "statistic": {"call": "claims.value", "of": "barrier", "arm": "small to large"},
            "below": 100,
        },
    },
}
