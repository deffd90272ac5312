import itertools

from fairseq_vgs.data.seeding import Stream, generator


def test_streams_repeat_and_differ():
    keys = list(itertools.product((0, 1), (1, 2), (0, 5), Stream))
    draws = [generator(s, e, index=i, stream=k).integers(0, 2**62) for s, e, i, k in keys]
    again = [generator(s, e, index=i, stream=k).integers(0, 2**62) for s, e, i, k in reversed(keys)]
    assert draws == again[::-1]
    assert len(set(draws)) == len(keys)
