import time

import pytest

from wavelit.benchmarks.turns import in_turns


def training(name, steps, order, seconds=0.0, fails_at=None):
    """What a Trainer does with a callback, as far as turns look at it."""

    def train(turns):
        turns.on_train_start(None, None)
        for step in range(steps):
            order.append(name)
            time.sleep(seconds)
            if step == fails_at:
                raise ValueError(name)
            turns.on_train_batch_end(None, None, None, None, 0)

    return train


def test_trainings_take_turns_a_step_each():
    order, ready = [], []
    trainings = [training("a", 3, order, 0.02), training("b", 3, order)]
    slow, fast = in_turns(trainings, lambda: ready.append(1))
    assert order == ["a", "b"] * 3
    assert len(ready) == 2
    # Waiting for the other does not count.
    assert min(slow) >= 0.02 > max(fast)
    assert len(slow) == len(fast) == 3


def test_the_shorter_of_two_leaves_the_other_alone():
    order = []
    seconds = in_turns([training("a", 1, order), training("b", 3, order)], list)
    assert order == ["a", "b", "b", "b"]
    assert list(map(len, seconds)) == [1, 3]


@pytest.mark.parametrize(("first", "second"), [(0, None), (1, None), (None, 0), (None, 2)])
def test_a_failure_ends_the_turns_and_is_told(first, second):
    order = []
    with pytest.raises(ValueError, match="a" if second is None else "b"):
        in_turns(
            [
                training("a", 4, order, fails_at=first),
                training("b", 4, order, fails_at=second),
            ],
            list,
        )
    assert order.count("b" if second is None else "a") == 4
