"""Weights: what is refused, and what it says."""

from fractions import Fraction

import numpy as np
import pytest
from easydata_mix import MixtureError
from easydata_mix.plan.weights import exact_shares

NAMES = ["web", "code"]


def test_weights_are_read_as_the_decimals_that_were_written():
    assert exact_shares({"web": 0.6, "code": 0.4}, NAMES) == (Fraction(3, 5), Fraction(2, 5))
    assert exact_shares([0.1, 0.2], NAMES) == (Fraction(1, 3), Fraction(2, 3))
    assert exact_shares([np.float32(0.1), np.int64(1)], NAMES) == (Fraction(1, 11), Fraction(10, 11))


def test_weights_none_are_equal_shares():
    assert exact_shares(None, ["a", "b", "c"]) == (Fraction(1, 3),) * 3


def test_shares_follow_the_sources_order_not_the_mappings():
    assert exact_shares({"code": 3, "web": 1}, NAMES) == (Fraction(1, 4), Fraction(3, 4))


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"web": 1, "cde": 1}, r"'cde' match no source; 'code' have no weight"),
        ({"web": 1}, r"'code' have no weight"),
        ({"web": 1.5, "code": -0.5}, r"weights\['code'\] is -0.5; a weight cannot be negative"),
        ({"web": 0, "code": 0.0}, r"All weights are 0"),
        ({"web": float("nan"), "code": 1}, r"weights\['web'\] is nan; a weight must be finite"),
        ({"web": float("inf"), "code": 1}, r"must be finite"),
        ({"web": "much", "code": 1}, r"must be a number; found 'much'"),
        ({"web": True, "code": 1}, r"must be a number; found True"),
        ([1, 2, 3], r"has 3 numbers for 2 sources"),
        ("ab", r"must map source names to numbers; found str"),
    ],
)
def test_bad_weights_are_refused_with_the_place(weights, message):
    with pytest.raises(MixtureError, match=message):
        exact_shares(weights, NAMES)
