"""Which images are looked at."""

import pytest

from vae_plugin.metrics.choice import extremes_of, images_to_compare


def test_the_best_the_median_and_the_worst():
    assert extremes_of([20, 35, 10, 30, 25]) == {"best": 1, "median": 4, "worst": 2}
    assert extremes_of([20, 35, 10, 30]) == {"best": 1, "median": 0, "worst": 2}
    assert extremes_of([7, 9]) == {"best": 1, "median": 0}
    assert extremes_of([7]) == {"best": 0}
    assert extremes_of([5, 5, 5]) == {"best": 2, "median": 1, "worst": 0}


def test_extremes_of_each_model_come_first_and_others_are_spread_evenly():
    a = [float(i) for i in range(20)]
    b = [-value for value in a]
    chosen = images_to_compare({"A": a, "B": b}, 8)
    assert list(chosen.items())[:4] == [
        (19, ("best of A", "worst of B")),
        (9, ("median of A",)),
        (0, ("worst of A", "best of B")),
        (10, ("median of B",)),
    ]
    rest = list(chosen)[4:]
    assert rest == sorted(rest)
    assert len(set(chosen)) == 8
    gaps = [later - earlier for earlier, later in zip([0, *rest], [*rest, 19], strict=True)]
    assert max(gaps) <= 6


@pytest.mark.parametrize("count", [1, 2, 3, 5, 9])
@pytest.mark.parametrize("total", [1, 2, 3, 7])
def test_no_image_twice_and_no_more_than_there_are(count, total):
    chosen = images_to_compare({"A": [float(i % 3) for i in range(total)]}, count)
    assert len(chosen) == min(count, total)
    assert all(0 <= place < total for place in chosen)
    assert next(iter(chosen.values())) == ("best",)
