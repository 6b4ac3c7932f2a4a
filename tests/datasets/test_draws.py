"""Random numbers of many keys at once are those of numpy's own generators, one for each key."""

import numpy as np
import pytest

from vae_plugin.datasets.draws import uniforms


@pytest.mark.parametrize("count", [0, 1, 7, 8, 200])
@pytest.mark.parametrize("key", [(), (0,), (3, 0), (2**32 - 1, 7), (2**32, 7), (1, 2, 3), (1, 2, 3, 4)])
def test_they_are_those_of_numpy(key, count):
    numbers = np.random.default_rng(count).integers(0, 2**32, count)
    expected = [np.random.default_rng((*key, int(number))).random(4) for number in numbers]
    assert uniforms(key, numbers).tolist() == [row.tolist() for row in expected]


def test_a_number_may_be_of_any_size():
    numbers = np.array([0, 1, 2**32 - 1, 2**32, 2**63 - 1] * 2)
    assert uniforms((5,), numbers)[4].tolist() == np.random.default_rng((5, 2**63 - 1)).random(4).tolist()
