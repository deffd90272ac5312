"""The lexical test, token by token and cell by cell, from its description alone."""

import math


def cosine(first, second):
    dot = sum(a * b for a, b in zip(first, second, strict=True))
    return 1 - dot / math.sqrt(sum(a * a for a in first)) / math.sqrt(sum(b * b for b in second))


def warped(first, second):
    table = {}
    for i, a in enumerate(first):
        for j, b in enumerate(second):
            before = [table[cell] for cell in ((i - 1, j), (i, j - 1), (i - 1, j - 1)) if cell in table]
            table[i, j] = math.dist(a, b) + (min(before) if before else 0.0)
    return table[len(first) - 1, len(second) - 1]


def lexical_recall(tokens, words, distance):
    """Return the mean over words of their tokens' recall, in expectation over the order of ties."""
    order = [list(words[:index]).count(word) for index, word in enumerate(words)]
    by_word = {}
    for query, word in enumerate(words):
        k = list(words).count(word) - 1
        if not k:
            continue
        pool = [other for other in range(len(words)) if order[other] != order[query]]
        found = {other: distance(tokens[query], tokens[other]) for other in pool}
        last = sorted(found.values())[k - 1]
        tied = [words[other] == word for other in pool if found[other] == last]
        nearer = [words[other] == word for other in pool if found[other] < last]
        expected = sum(nearer) + (k - len(nearer)) * sum(tied) / len(tied)
        by_word.setdefault(word, []).append(expected / k)
    means = [sum(shares) / len(shares) for shares in by_word.values()]
    return sum(means) / len(means)
