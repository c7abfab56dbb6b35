"""When a failure is conclusive."""

from __future__ import annotations

from dataclasses import replace

import pytest

from foresee.metrics.control import Circumstances, find_fall, list_doubts

FLAT = [(step, 0.139 + 0.001 * (-1) ** (step // 100)) for step in range(100, 1001, 100)]
SURE = Circumstances(
    control_solved=True, control="foresee train ...", layers=6, hops=4, represented=False, losses=FLAT
)  # fmt: skip


def test_a_deep_network_with_a_solved_control_and_a_flat_loss_leaves_no_doubt() -> None:
    assert list_doubts(SURE) == []


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"control_solved": None}, "has not been run"),
        ({"control_solved": False}, "has not solved"),
        ({"layers": 3}, "3 layers"),
        ({"losses": [(step, 2.0 - step / 1000) for step in range(100, 1001, 100)]}, "still falling"),
    ],
)
def test_each_doubt_is_said_with_what_would_settle_it(change: dict[str, object], word: str) -> None:
    (doubt,) = list_doubts(replace(SURE, **change))  # type: ignore[arg-type]  # one field of its own type
    assert word in doubt
    assert "more" in doubt or "foresee train ..." in doubt


def test_depth_is_in_no_doubt_where_something_solved_or_nothing_is_known_of_it() -> None:
    assert list_doubts(replace(SURE, layers=3, represented=True)) == []
    assert list_doubts(replace(SURE, layers=None)) == list_doubts(replace(SURE, hops=None)) == []


def test_a_fall_towards_a_blind_guess_is_no_doubt_and_one_below_it_is() -> None:
    falling = replace(SURE, losses=[(step, 2.0 - step / 1000) for step in range(100, 1001, 100)])
    assert list_doubts(replace(falling, blind=0.69)) == []
    assert "still falling" in list_doubts(replace(falling, blind=1.5))[0]


def test_a_fall_is_more_than_noise_and_more_than_two_percent() -> None:
    assert find_fall(FLAT) is None
    assert find_fall([]) is None
    assert find_fall([(100, 2.0), (200, 1.0)]) is None  # too few reports to tell
    slow = [(step, 1.0 - step / 100_000) for step in range(100, 1001, 100)]
    assert find_fall(slow) is None
    noisy = [(step, 1.0 + (0.5 if step % 200 else -0.5) - step / 4000) for step in range(100, 1001, 100)]
    assert find_fall(noisy) is None
    first, last = find_fall([(step, 2.0 - step / 1000) for step in range(100, 1001, 100)]) or (0.0, 0.0)
    assert first > last > 1.0
