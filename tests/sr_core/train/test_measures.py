from __future__ import annotations

import pytest

from sr_core.train.measures import Measure, in_words, is_better


@pytest.mark.parametrize("measure", Measure)
def test_every_measure_is_told_in_words_and_knows_its_better_side(measure: Measure) -> None:
    low, high = {measure: 0.25}, {measure: 0.75}

    assert any(digit in in_words({str(measure): 0.25}) for digit in ("0.2", "0.3", "25"))
    assert is_better(low, high, measure) != is_better(high, low, measure)
    assert not is_better(low, low, measure)
    assert is_better(low, {}, measure)


@pytest.mark.parametrize(
    "measure", [Measure.LPIPS, Measure.NEGATIVE_ELBO, Measure.SLICED_WASSERSTEIN, Measure.CROSS_ENTROPY]
)
def test_less_of_a_distance_is_better(measure: Measure) -> None:
    assert is_better({measure: -2.0}, {measure: 1.0}, measure)
