"""Gradient cosine and CKA as plain loops over Python floats, written from the definitions."""

from __future__ import annotations

import math

Matrix = list[list[float]]


def cosine(first: list[float], second: list[float]) -> float:
    """Dot product over the product of the lengths."""
    dot = first_square = second_square = 0.0
    for a, b in zip(first, second, strict=True):
        dot += a * b
        first_square += a * a
        second_square += b * b
    return dot / (math.sqrt(first_square) * math.sqrt(second_square))


def gram(rows: Matrix) -> Matrix:
    """Dot products of all pairs of rows."""
    return [[sum(a * b for a, b in zip(one, other, strict=True)) for other in rows] for one in rows]


def centred_gram(kernel: Matrix) -> Matrix:
    """H K H: take away the means of rows and columns, give back the mean of all."""
    n = len(kernel)
    rows = [sum(row) / n for row in kernel]
    columns = [sum(row[j] for row in kernel) / n for j in range(n)]
    whole = sum(rows) / n
    return [[kernel[i][j] - rows[i] - columns[j] + whole for j in range(n)] for i in range(n)]


def hsic(first: Matrix, second: Matrix) -> float:
    """tr(K H L H) / (n - 1)^2 of two kernel matrices."""
    n = len(first)
    a, b = centred_gram(first), centred_gram(second)
    return sum(a[i][j] * b[j][i] for i in range(n) for j in range(n)) / (n - 1) ** 2


def cka(x: Matrix, y: Matrix) -> float:
    """HSIC of the linear kernels over frames, normalised: the form that never looks at dims."""
    k, kernel_y = gram(x), gram(y)
    return hsic(k, kernel_y) / math.sqrt(hsic(k, k) * hsic(kernel_y, kernel_y))
