"""Least squares with coefficients that are not negative: no message costs less than nothing."""

from __future__ import annotations

ROUNDS = 20_000


def least_squares(rows: list[list[float]], values: list[float]) -> list[float]:
    """Return coefficients >= 0 for which ``rows @ coefficients`` is near to `values`, relative errors counting alike.

    By coordinate descent: a handful of coefficients need nothing better.
    """
    scaled = [[cell / value for cell in row] for row, value in zip(rows, values, strict=True)]
    count = len(rows[0])
    squares = [sum(row[column] ** 2 for row in scaled) for column in range(count)]
    coefficients = [0.0] * count
    errors = [1.0] * len(scaled)
    for _ in range(ROUNDS):
        largest = 0.0
        for column in range(count):
            if not squares[column]:
                continue
            step = sum(row[column] * error for row, error in zip(scaled, errors, strict=True)) / squares[column]
            step = max(step, -coefficients[column])
            if step:
                coefficients[column] += step
                errors = [error - step * row[column] for row, error in zip(scaled, errors, strict=True)]
                largest = max(largest, abs(step))
        if largest < 1e-9:
            break
    return coefficients
