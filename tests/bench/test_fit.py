"""The fit of costs to measurements."""

from __future__ import annotations

import pytest

from bench.fit import least_squares


def test_coefficients_that_made_the_values_are_found() -> None:
    rows = [[1.0, 6.0, 3.0], [1.0, 70.0, 9.0], [1.0, 132.0, 60.0], [1.0, 260.0, 11.0], [1.0, 68.0, 200.0]]
    wanted = [800.0, 22.0, 1.5]
    values = [sum(cell * cost for cell, cost in zip(row, wanted, strict=True)) for row in rows]
    assert least_squares(rows, values) == pytest.approx(wanted, rel=0.01)


def test_no_coefficient_is_negative_though_that_would_fit_better() -> None:
    found = least_squares([[1.0, 1.0], [1.0, 2.0], [1.0, 3.0]], [3.0, 2.0, 1.0])
    assert min(found) == 0.0
    assert found[0] > 0
