"""How parts are dealt in blocks: by hand, and for any numbers whole and in order."""

import itertools

from vidray.distributed.dealing import cuts


def test_blocks_become_smaller_as_work_runs_out() -> None:
    # 64 parts of one video for two workers: an eighth of what is left, at last one by one.
    assert cuts(64, 1, 2)[:4] == [0, 8, 15, 21]
    assert cuts(64, 1, 2)[-4:] == [61, 62, 63, 64]
    # Full parts of 64 videos are blocks of their own; of very many, several are one block.
    assert cuts(10, 64, 1) == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
    assert cuts(40_000, 64, 1)[:3] == [0, 10, 20]


def test_every_part_is_in_one_block() -> None:
    for parts, size, workers in itertools.product((1, 2, 63, 64, 5000), (1, 7, 64), (1, 3, 500)):
        found = cuts(parts, size, workers)
        assert (found[0], found[-1]) == (0, parts)
        assert all(begin < end for begin, end in itertools.pairwise(found))
