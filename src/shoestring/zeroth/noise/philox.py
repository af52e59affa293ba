"""The stream: which number stands at which place of which direction. Final; every backend gives these integers.

**Integers.** Philox 4x32 with 10 rounds. The key is the direction's seed, low word first. The counter is four words:
the low word of the block number; its upper 24 bits plus 2^24 times the stream; the tensor's key, low word first. Seeds
and keys are 63-bit, block numbers 56-bit. A block gives four words w[0] ... w[3].

**Streams.** For element i of a tensor:

* `GAUSSIAN`: group g = i // 64, part j = i // 16 mod 4, lane l = i mod 16; block 16 g + l. Words 0 and 1 give the
  elements of parts 0 (cosine) and 1 (sine), words 2 and 3 those of parts 2 and 3. (Sixteen neighbours in one part: so
  that a vector register is filled from sixteen blocks and stored without a shuffle.)
* `RADEMACHER`: block i // 128, bit i mod 32 of word i // 32 mod 4; +1 where it is set, else -1.
* `ROUNDING`: group g = i // 512, lane l = i mod 16; block 16 g + l, keyed by the seed of the rounding in place of a
  direction's. Part j = i // 16 mod 32 is pair p = j // 16, half h = j // 8 mod 2, power k = j mod 8. Element i has the
  16 bits a + x^k b, where a and b are the halves h (0: the low one) of words 2 p and 2 p + 1, read as elements of the
  field of 2^16 elements: sums are exclusive ors, and x b is b << 1, less `FIELD` if that has a bit 16.

**Gaussian from two words.** u = (w[0] | 1) / 2^32, so 0 < u < 1; a = 2 pi w[1] / 2^32; z = sqrt(-2 ln u) cos a and
sqrt(-2 ln u) sin a. In float32, each operation rounded on its own (no fused multiply-add), nothing but + - x and sqrt,
in this order:

* f = high 24 bits of (w[0] | 1) x 256, exactly; k = the power of two for which float32(w[0] | 1) / 2^k is in
  [sqrt(1/2), sqrt(2)); t = (f 2^-k - 1) + (low 8 bits) 2^-k, one rounding; then
  -2 ln u = (32 - k) LOG_2 + (t t (t Q(t) + 1) - 2 t), Q by Horner's rule with `LOG`;
* s = the low 30 bits of w[1] as a signed number, x = s TURN, in [-pi/4, pi/4); sin x = x + (x v) S(v) and
  cos x = (1 - v/2) + (v v) C(v) with v = x x, `SINE` and `COSINE`; the quadrant is (w[1] - s) / 2^30.

The polynomials are minimax fits of ours. Largest difference from the same formula in float64: 9e-7 (tested).

**Sums.** Coefficients and `keep` are rounded to float32 (weights of float64: kept as float64). total = keep x weight,
then total += coefficient x z for each term in order, terms of coefficient 0 left out; each operation in float32
(float64) and rounded on its own; last, once, to the dtype of the weight.

A block serves 32 elements, and not the eight that its bits would last for, which a step would spend more time on than
on its directions. For k unlike k', (a + x^k b, a + x^k' b) is a one-to-one function of (a, b), so every number is
uniform and any two are independent, exactly; three of one pair and half are not. What rounding adds to a weight has
therefore the right mean and, in any sum, the variance that independent bits would give it.

**Stochastic rounding** to bfloat16 or float16: of the two neighbours of `total`, the farther from zero with a chance of
its share of the distance. That chance is exact, except that for float16 and |total| < 2^-17 it is rounded down to a
multiple of 2^-16. A number of the dtype stays as it is. The neighbour beyond the largest number is infinity, as in
rounding to the nearest.

Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"; Box and Muller 1958.
"""

from __future__ import annotations

GAUSSIAN, RADEMACHER, ROUNDING = 0, 1, 2
ROUNDS = 10
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
STREAM_SHIFT = 24
FIELD = 0x1002D
"""x^16 + x^5 + x^3 + x^2 + 1, a primitive polynomial."""

# All of these are float32 numbers written out, so that a product in float64 by mistake would be seen.
LOG_2 = 1.3862943649291992
"""2 ln 2."""
LOG = (
    -0.6666781902313232,
    0.5000267624855042,
    -0.3992612659931183,
    0.3315517008304596,
    -0.29829537868499756,
    0.2853497266769409,
    -0.17400860786437988,
)
"""Q(t) = (2 t - t t - 2 ln(1 + t)) / t^3 on [sqrt(1/2) - 1, sqrt(2) - 1], lowest power first."""
SQRT_HALF_BITS = 0x3F3504F3
"""The float32 next to sqrt(1/2), as bits."""
TURN = 1.462918119976564e-09
"""2 pi / 2^32."""
SINE = (-0.16666650772094727, 0.00833197869360447, -0.000194956359337084)
"""S(v) = (sin x / x - 1) / v on [0, (pi/4)^2]."""
COSINE = (0.04166664555668831, -0.001388736767694354, 2.4438451873720624e-05)
"""C(v) = (cos x - 1 + v/2) / v^2 on [0, (pi/4)^2]."""
