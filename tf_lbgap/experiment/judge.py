"""What a trained model is worth: losses and accuracies, sharpness, robustness, the way from where it began."""

import math

import numpy as np

from tf_lbgap import attacks, batch_normalization, curvature, sharpness
from tf_lbgap.experiment.evaluation import chunks
from tf_lbgap.experiment.judged_on import FILE, data_row, write_examples
from tf_lbgap.experiment.making import first_examples, is_classification


class Judge:
    """Measures a model after training. What is traced for one seed is kept for the next.

    Args:
        model: The Keras model.
        loss: A Keras loss.
        evaluation: `Evaluation` of the two.
        measure: `config.Measure`: what, and on how much data.
    """

    def __init__(self, model, loss, evaluation, measure):
        self._model, self._loss, self._evaluation, self._measure = model, loss, evaluation, measure
        self._subject = None

    def row(self, split, seed, start, folder, clock):
        """Take exact statistics of batch normalization, measure, and return a dict of plain numbers.

        Args:
            split: The data.
            seed: Of attacks that are random.
            start: The initial weights, a list of arrays.
            folder: Where what is kept of each test example goes; or None.
            clock: `Clock`, whose parts `evaluate` and `measure` this is.
        """
        train, test = (split.x_train, split.y_train), (split.x_test, split.y_test)
        measure = self._measure
        with clock.part("evaluate"):
            row = {**self._accuracies(train, test), "distance": self._distance(start), **data_row(split)}
            if measure.test_examples and folder is not None and is_classification(split):
                write_examples(folder / FILE, *self._evaluation.examples(*test))
        with clock.part("measure"):
            if measure.top_eigenvalue_examples:
                row |= self._sharpness(first_examples(*train, measure.top_eigenvalue_examples))
            if measure.robustness:
                row |= self._robustness(first_examples(*test, measure.robustness["examples"]), seed)
        return row

    def _accuracies(self, train, test):
        with self._evaluation.unless_diverged(train):
            batch_normalization.recalibrate(self._model, list(chunks(*train)))
        train_loss, train_accuracy = self._evaluation(*train)
        test_loss, test_accuracy = self._evaluation(*test)
        return {
            "test_accuracy": test_accuracy,
            "test_loss": test_loss,
            "train_accuracy": train_accuracy,
            "train_loss": train_loss,
        }

    def _distance(self, start):
        """The length of the way from the initial weights to these, as the crow flies."""
        pairs = zip(self._model.trainable_variables, start, strict=True)
        return math.sqrt(sum(float(np.sum((v.numpy().astype(float) - w) ** 2)) for v, w in pairs))

    def _robustness(self, sample, seed):
        """Accuracy of the model on examples that were attacked, by attack and size."""
        settings = self._measure.robustness
        row = {}
        for attack, epsilons in settings["attacks"].items():
            found = attacks.accuracy_under_attack(
                self._model,
                self._loss,
                *sample,
                attack=attack,
                epsilons=epsilons,
                data_range=settings["data_range"],
                seed=seed,
            )
            pairs = zip(found.epsilons, found.accuracy, strict=True)
            row |= {f"robust_accuracy_{attack}_{epsilon:g}": float(value) for epsilon, value in pairs}
        return row

    def _sharpness(self, sample):
        """The top eigenvalue and, where an epsilon is given, ε-sharpness; NaN of a model that diverged."""
        if not np.isfinite([np.sum(v.numpy()) for v in self._model.trainable_variables]).all():
            return self._of_a_diverged_model()
        if self._subject is None:
            self._subject = sharpness.Subject(self._model, self._loss, sample)
        else:
            self._subject.batches = sample
        try:
            return self._of_the_subject()
        except ValueError:  # diverged: the weights are finite, and the loss is not
            if math.isfinite(self._evaluation(*sample)[0]):
                raise
            return self._of_a_diverged_model()

    def _of_the_subject(self):
        tolerance, epsilon = self._measure.tolerance, self._measure.epsilon
        pairs = curvature.top_eigenpairs(self._subject.hessian, 1, tolerance=tolerance, seed=0)
        row = {
            "top_eigenvalue": float(pairs.values[0]),
            "top_eigenvalue_residual": float(pairs.residuals[0]),
            "top_eigenvalue_converged": bool(pairs.converged[0]),
        }
        if epsilon:
            row["sharpness"] = sharpness.epsilon_sharpness(self._subject, epsilon=epsilon)
        return row

    def _of_a_diverged_model(self):
        row = {
            "top_eigenvalue": math.nan,
            "top_eigenvalue_residual": math.nan,
            "top_eigenvalue_converged": False,
        }
        return row | ({"sharpness": math.nan} if self._measure.epsilon else {})
