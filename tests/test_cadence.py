"""When monitors measure, without training: updates are counted, and what they cost is made up."""

import pytest

from tf_lbgap.callbacks.cadence import Budget, cadence_of


def points(cadence, updates, step=1):
    """Return the updates, of executions of `step`, at which a cadence measures."""
    ends = range(step, updates + 1, step)
    return [end for end in ends if cadence.at_update(end - step, end, end / 10)]


def test_updates_are_counted_from_the_optimizers_first():
    assert points(cadence_of({"updates": 3}), 10) == points(cadence_of(3), 10) == [3, 6, 9]
    assert cadence_of(3).at_update(5, 6, 0.0)  # a second fit that begins at update 5


def test_an_execution_of_several_updates_measures_once_at_its_end():
    assert points(cadence_of(3), 20, step=4) == [4, 8, 12, 16, 20]
    assert points(cadence_of(10), 40, step=4) == [12, 20, 32, 40]


def test_first_updates_and_then_every_so_many_after_the_last_of_them():
    cadence = cadence_of({"updates": 10, "first": [2, 7], "max_products": 30})
    assert points(cadence, 40) == [2, 7, 17, 27, 37]
    assert points(cadence, 40, step=4) == [4, 8, 20, 28, 40]
    assert cadence.max_products == 30


@pytest.mark.parametrize(
    "every", [{"epochs": 2}, {"updates": 3}, {"updates": 10, "first": [2, 7], "max_products": 30}], ids=str
)
def test_a_cadence_comes_back_from_its_plain_form(every):
    assert cadence_of(every).plain() == cadence_of(cadence_of(every).plain()).plain() == every


def test_epochs():
    assert [cadence_of("epoch").at_epoch_end(e) for e in range(3)] == [True] * 3
    assert [cadence_of({"epochs": 2}).at_epoch_end(e) for e in range(5)] == [False, True, False, True, False]
    assert points(cadence_of("epoch"), 10) == []


def test_a_function_is_asked_with_update_and_progress():
    asked = []
    cadence = cadence_of(lambda update, progress: asked.append((update, progress)) or update in (2, 3))
    assert points(cadence, 4) == [2, 3]
    assert asked == [(1, 0.1), (2, 0.2), (3, 0.3), (4, 0.4)]


@pytest.mark.parametrize(
    ("every", "message"),
    [
        ("epochs", "every='epochs' is not known. Write every=\"epoch\""),
        (0, "0 should be a whole number of at least 1"),
        (True, "True should be a whole number"),
        (1.5, "1.5 should be a whole number"),
        (None, "None should be a whole number"),
        ({"epochs": 0.5}, "0.5 should be a whole number"),
        ({"update": 3}, "has no key 'update'. Did you mean 'updates'?"),
        ({"updates": 3, "epochs": 1}, "either epochs or updates"),
        ({"first": [3]}, "either epochs or updates"),
        ({"updates": 3, "first": [5, 2]}, "should increase"),
    ],
    ids=str,
)
def test_what_is_no_cadence(every, message):
    with pytest.raises(ValueError) as error:
        cadence_of(every)
    assert message in str(error.value)


@pytest.mark.parametrize("share", [0, 1, -0.1, 5, True, "5%"])
def test_what_is_no_share(share):
    with pytest.raises(ValueError, match="should be a number between 0 and 1"):
        cadence_of("epoch", share)


def test_a_budget_and_a_cadence_cannot_both_be_given():
    with pytest.raises(ValueError, match="Leave one of them out"):
        cadence_of(3, 0.05)


def simulate(budget, updates, cold, warm, per_update=1.0, step=1, products=None):
    """Run made-up training; return the updates measured at, and the share of the time spent on it."""
    last, measured, spent, run = 0, [], 0.0, 0.0
    for update in range(step, updates + 1, step):
        seconds = step * per_update * (100.0 if update <= 2 * step else 1.0)  # tracing
        run += seconds
        budget.note_training(seconds, step)
        if budget.at_update(last, update, 0.0):
            cost = warm if measured else cold
            measured.append(update)
            spent += cost
            budget.note_measurement(update, cost, products)
        last = update
    return measured, spent / (run + spent)


@pytest.mark.parametrize("step", [1, 4])
@pytest.mark.parametrize(("cold", "warm"), [(20.0, 20.0), (20.0, 8.0), (3.0, 2.0), (0.02, 0.01), (8.0, 12.0)])
def test_a_budget_is_kept(cold, warm, step):
    """Of a long run; the numbers of both ends are the issue's."""
    measured, share = simulate(Budget(0.05), 20_000, cold, warm, step=step)

    assert len(measured) >= 3
    if cold > 1:  # cheaper measurements come after each execution, and cost less than allowed
        assert 0.045 < share < 0.055
    else:
        assert measured[5:8] == [measured[5] + i * step for i in range(3)]


def test_the_cadence_follows_from_the_second_measurement():
    """Update 10 is the eighth that is timed. 10 s at 1 s an update and 5 % are paid by 190 updates, 4 s by 76."""
    budget = Budget(0.05)

    measured, _ = simulate(budget, 500, cold=10.0, warm=4.0, products=6)

    assert measured == [10, 200, 276, 352, 428]
    assert budget.plain() == {"updates": 76, "first": [10, 200], "max_products": 12}
    assert points(cadence_of(budget.plain()), 500) == measured


def test_three_measurements_are_made_where_three_can_be_paid():
    """With T updates of 1 s, 5 % pay for T / 19 s of measuring."""
    for cold, warm in ((10.0, 10.0), (10.0, 4.0), (1.0, 0.5)):
        updates = int(19 * (cold + 2 * warm)) + 11
        assert len(simulate(Budget(0.05), updates, cold, warm)[0]) >= 3


def test_a_frozen_cadence_ignores_later_costs():
    budget = Budget(0.05)
    simulate(budget, 500, cold=10.0, warm=4.0)
    before = budget.plain()
    budget.note_training(1e6, 1)
    budget.note_measurement(1000, 1e6)
    assert budget.plain() == before


def test_an_update_that_was_traced_anew_does_not_count():
    budget = Budget(0.05)
    for seconds in (50.0, 50.0, *[1.0] * 5, 40.0, *[1.0] * 5):
        budget.note_training(seconds, 1)
    assert budget.seconds_per_update() == 1.0
