"""Contrastive losses, accuracy and spread as plain loops over Python floats, written from the formulas.

Similarities are nested lists, speech rows x image columns; the diagonal holds the true pairs.
"""

from __future__ import annotations

import math

Matrix = list[list[float]]


def log_sum_exp(values: list[float]) -> float:
    """ln of the sum of exponentials."""
    largest = max(values)
    return largest + math.log(sum(math.exp(value - largest) for value in values))


def transpose(matrix: Matrix) -> Matrix:
    """Rows become columns."""
    return [[row[column] for row in matrix] for column in range(len(matrix))]


def mean_cross_entropy(logits: Matrix, ids: list[int]) -> float:
    """Mean over rows of -ln p(diagonal), leaving out other candidates with the row's id."""
    total = 0.0
    for row, values in enumerate(logits):
        kept = [value for column, value in enumerate(values) if column == row or ids[column] != ids[row]]
        total += log_sum_exp(kept) - values[row]
    return total / len(logits)


def masked_margin(similarity: Matrix, ids: list[int], margin: float) -> tuple[float, float, float]:
    """Margin off the diagonal entries, cross-entropy over rows plus cross-entropy over columns."""
    logits = [
        [value - margin if row == column else value for column, value in enumerate(values)]
        for row, values in enumerate(similarity)
    ]
    forth, back = mean_cross_entropy(logits, ids), mean_cross_entropy(transpose(logits), ids)
    return forth + back, forth, back


def symmetric(similarity: Matrix, ids: list[int], scale: float) -> tuple[float, float, float]:
    """Scaled similarities, mean of the two cross-entropies."""
    logits = [[scale * value for value in values] for values in similarity]
    forth, back = mean_cross_entropy(logits, ids), mean_cross_entropy(transpose(logits), ids)
    return (forth + back) / 2, forth, back


def sigmoid(similarity: Matrix, ids: list[int], scale: float, bias: float) -> tuple[float, float, float]:
    """Sum of binary cross-entropies of all pairs, divided by the number of true pairs."""
    total = 0.0
    for row, values in enumerate(similarity):
        for column, value in enumerate(values):
            if column != row and ids[column] == ids[row]:
                continue
            signed = (scale * value + bias) * (1 if row == column else -1)
            total += log_sum_exp([0.0, -signed])
    loss = total / len(similarity)
    return loss, loss, loss


def accuracy(similarity: Matrix, ids: list[int]) -> float:
    """Fraction of rows whose diagonal wins; a k-fold tie for the first place counts 1/k."""
    credit = 0.0
    for row, values in enumerate(similarity):
        kept = [value for column, value in enumerate(values) if column == row or ids[column] != ids[row]]
        if values[row] == max(kept):
            credit += 1.0 / sum(1 for value in kept if value == values[row])
    return credit / len(similarity)


def dot(a: list[float], b: list[float]) -> float:
    """Inner product."""
    total = 0.0
    for x, y in zip(a, b, strict=True):
        total += x * y
    return total


def similarities(speech: Matrix, image: Matrix, kind: str) -> Matrix:
    """Dot product or cosine of every row with every row."""
    rows = []
    for caption in speech:
        row = []
        for picture in image:
            value = dot(caption, picture)
            if kind == "cosine":
                value /= math.sqrt(dot(caption, caption)) * math.sqrt(dot(picture, picture))
            row.append(value)
        rows.append(row)
    return rows


def spread(embeddings: Matrix) -> float:
    """Mean over dimensions of the standard deviation of the unit vectors, times sqrt(dimensions)."""
    units = [[value / math.sqrt(dot(row, row)) for value in row] for row in embeddings]
    n_dims, total = len(units[0]), 0.0
    for dim in range(n_dims):
        values = [row[dim] for row in units]
        mean = sum(values) / len(values)
        total += math.sqrt(sum((value - mean) ** 2 for value in values) / len(values))
    return total / n_dims * math.sqrt(n_dims)
