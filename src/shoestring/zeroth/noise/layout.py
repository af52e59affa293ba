"""What a numba kernel is told: a table of 64-bit integers, a head and a row for every job."""

from __future__ import annotations

from typing import NamedTuple

HEAD = 5
"""Integers before the rows: the next ticket, how many jobs there are, their tiles, the most points of one, and how many
tiles there are to a ticket."""


class Layout(NamedTuple):
    """One job: keep x weight + sum of coefficients x z, to the output of each point.

    Attributes:
        until: how many tiles the jobs up to this one have.
        outs: address of the outputs.
        weight: address of the weight.
        lines: address of the numbers of the rows that are read, 64-bit integers.
        seeds: address of the directions' seeds.
        coefficients: address of the table [points, terms + 1], with `keep` last, the same for all points.
        points: how many.
        terms: directions.
        rank: columns of their factors; 0 where numbers are independent.
        factors: address of the addresses of left [m, rank] and right' [rank, inner] of each direction.
        inner: columns of a matrix z.
        key: the tensor's.
        stream: GAUSSIAN or RADEMACHER.
        width: elements in a row.
        start: place of the weight's first element in the whole tensor.
        stride: elements from one point's output to the next one's.
        tiles: an upper bound of the tiles that a row touches.
        half: BFLOAT16 or FLOAT16 for weights given as uint16.
        fresh: 1 to take the weight as nothing, else 0.
        direct: 1 to go without an array of totals (one direction, no coefficient of 0), 2 if the output is the weight
            besides, 3 if there are two points with opposite coefficients and the weight is kept whole, else 0.
        rounded: 1 for stochastic rounding, else 0.
        rounding: its seed.
    """

    until: int
    outs: int
    weight: int
    lines: int
    seeds: int
    coefficients: int
    points: int
    terms: int
    rank: int
    factors: int
    inner: int
    key: int
    stream: int
    width: int
    start: int
    stride: int
    tiles: int
    half: int
    fresh: int
    direct: int
    rounded: int
    rounding: int


FIELDS = len(Layout._fields)
