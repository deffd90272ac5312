"""A study's resampled measures, item by item."""

from __future__ import annotations

from statistics import mean


def recall_both_directions(image_ranks, caption_ranks, speech_groups, counts, k):
    """R@k of both directions averaged, with image ``i`` and its captions taken ``counts[i]`` times."""
    images, captions = [], []
    for image, times in enumerate(counts):
        for _ in range(int(times)):
            images.append(100.0 if image_ranks[image] <= k else 0.0)
            for caption, group in enumerate(speech_groups):
                if group == image:
                    captions.append(100.0 if caption_ranks[caption] <= k else 0.0)
    return (mean(images) + mean(captions)) / 2


def best_layer_error(errors, phones, counts):
    """Percent error of the best layer, with phone ``p`` drawn ``counts[p]`` times."""
    by_layer = []
    for layer in errors:
        taken = []
        for error, (a, b) in zip(layer, phones, strict=True):
            for _ in range(int(counts[a])):
                taken += [100.0 * error] * int(counts[b])
        by_layer.append(mean(taken))
    return min(by_layer)
