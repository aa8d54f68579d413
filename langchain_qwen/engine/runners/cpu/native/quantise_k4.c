// From float weights to the form K4: the fit with the smallest squared error, weighted where it is known how much each
// column's errors cost.
#include <math.h>

#include "half.h"
#include "pack.h"
#include "x86.h"

#define INLINE static inline __attribute__((always_inline))

enum { LANES = 8, GROUP = 32, GROUPS = 8, LARGEST = 63, ROUNDS = 3 };

INLINE int is_finite(float x) { return x - x == 0; }
INLINE float rounded_to_half(float x) { return lq_half_to_float(lq_float_to_half(x)); }
INLINE float clamped(float x, float high) { return x < 0 ? 0 : x > high ? high : x; }

INLINE float lanes_sum(const float *lanes) {
    float sum = 0;
    for (int i = 0; i < LANES; i++) sum += lanes[i];
    return sum;
}

// The codes of weight = scale * code - offset, and what they cost.
INLINE float round_codes(const float *x, const float *cost, float scale, float offset, float *codes) {
    const float inverse = scale > 0 ? 1 / scale : 0;
    float error[LANES] = {0};
    for (int i = 0; i < GROUP; i += LANES)
        for (int l = 0; l < LANES; l++) {
            const float code = clamped(rintf((x[i + l] + offset) * inverse), 15), off = scale * code - offset - x[i + l];
            codes[i + l] = code;
            error[l] += cost[i + l] * off * off;
        }
    return lanes_sum(error);
}

// The line that fits best for given codes (least squares); its offset is not below zero, which the form cannot hold.
INLINE void refit(const float *x, const float *cost, const float *codes, float *scale, float *offset) {
    float v[LANES] = {0}, c[LANES] = {0}, cc[LANES] = {0}, sx[LANES] = {0}, cx[LANES] = {0};
    for (int i = 0; i < GROUP; i += LANES)
        for (int l = 0; l < LANES; l++) {
            const float weighted = cost[i + l] * codes[i + l];
            v[l] += cost[i + l];
            c[l] += weighted;
            cc[l] += weighted * codes[i + l];
            sx[l] += cost[i + l] * x[i + l];
            cx[l] += weighted * x[i + l];
        }
    const float V = lanes_sum(v), C = lanes_sum(c), CC = lanes_sum(cc), X = lanes_sum(sx), CX = lanes_sum(cx);
    const float determinant = V * CC - C * C;
    if (determinant > 0) {
        *scale = (V * CX - C * X) / determinant;
        *offset = (*scale * C - X) / V;
    }
    if (*offset < 0) {
        *offset = 0;
        if (CC > 0) *scale = CX / CC;
    }
    if (*scale < 0) *scale = 0;
}

// Scale and offset of a group by itself: the best of ranges shrunk a little at both ends, each refitted.
INLINE void fit_group(const float *x, const float *cost, float *scale, float *offset) {
    float low = 0, high = -INFINITY, codes[GROUP], best = INFINITY;
    for (int i = 0; i < GROUP; i++) {
        low = x[i] < low ? x[i] : low;
        high = x[i] > high ? x[i] : high;
    }
    *scale = 0, *offset = -low;
    if (!(high > low)) return;
    for (int step = 0; step < 10; step++) {
        const float steps = 14.2f + 0.25f * (float)step;  // 15 steps would span the range exactly
        float s = (high - low) / steps, o = s * (steps - 15) / 2 - low;
        if (low == 0) o = 0;
        round_codes(x, cost, s, o, codes);
        refit(x, cost, codes, &s, &o);
        const float error = round_codes(x, cost, s, o, codes);
        if (error < best) best = error, *scale = s, *offset = o;
    }
}

// For given super-scales, the best integers for one group near a wanted scale and offset; returns what they cost.
INLINE float fit_integers(const float *x, const float *cost, float d, float dmin, float scale, float offset, float *best_codes,
                          float *best_scale, float *best_minimum) {
    float best = INFINITY, codes[GROUP];
    const float nearest = d > 0 ? rintf(scale / d) : 0, lowest = dmin > 0 ? rintf(offset / dmin) : 0;
    for (int i = -1; i <= 1; i++) {
        const float s = clamped(nearest + (float)i, LARGEST);
        for (int j = -1; j <= 1; j++) {
            const float m = clamped(lowest + (float)j, LARGEST);
            const float error = round_codes(x, cost, d * s, dmin * m, codes);
            if (error < best) {
                best = error, *best_scale = s, *best_minimum = m;
                for (int k = 0; k < GROUP; k++) best_codes[k] = codes[k];
            }
        }
    }
    return best;
}

// The super-scales that fit best for given codes and integers.
INLINE void refit_super(const float *x, const float *cost, const float *codes, const float *scales, const float *minima,
                        int groups, float *d, float *dmin) {
    float aa = 0, ab = 0, bb = 0, ax = 0, bx = 0;  // weight = d * a - dmin * b
    for (int g = 0; g < groups; g++) {
        float c[LANES] = {0}, cc[LANES] = {0}, v[LANES] = {0}, sx[LANES] = {0}, cx[LANES] = {0};
        for (int i = g * GROUP; i < (g + 1) * GROUP; i += LANES)
            for (int l = 0; l < LANES; l++) {
                const float weighted = cost[i + l] * codes[i + l];
                v[l] += cost[i + l];
                c[l] += weighted;
                cc[l] += weighted * codes[i + l];
                sx[l] += cost[i + l] * x[i + l];
                cx[l] += weighted * x[i + l];
            }
        const float s = scales[g], m = minima[g], C = lanes_sum(c);
        aa += s * s * lanes_sum(cc), ab += s * m * C, bb += m * m * lanes_sum(v);
        ax += s * lanes_sum(cx), bx += m * lanes_sum(sx);
    }
    const float determinant = aa * bb - ab * ab;
    if (determinant > 1e-6f * aa * bb) {
        const float first = (ax * bb - ab * bx) / determinant, second = (ab * ax - aa * bx) / determinant;
        if (first > 0 && second >= 0) *d = first, *dmin = second;
    } else if (bb == 0 && aa > 0 && ax > 0) {
        *d = ax / aa;
    }
}

typedef struct {
    float codes[GROUP * GROUPS], scales[GROUPS], minima[GROUPS], d, dmin;
} fitted;

// A super-block. Returns 0 where there is no fit: a weight is not finite, or larger than fp16 can scale.
INLINE int fit_super_block(const float *x, const float *cost, int groups, fitted *best) {
    float scale[GROUPS], offset[GROUPS], d = 0, dmin = 0, least = INFINITY;
    int all_finite = 1;
    for (int i = 0; i < groups * GROUP; i++) all_finite &= is_finite(x[i]);
    if (!all_finite) return 0;
    for (int g = 0; g < groups; g++) {
        fit_group(x + g * GROUP, cost + g * GROUP, &scale[g], &offset[g]);
        d = scale[g] > d ? scale[g] : d;
        dmin = offset[g] > dmin ? offset[g] : dmin;
    }
    d /= LARGEST, dmin /= LARGEST;
    for (int round = 0; round < ROUNDS; round++) {
        fitted now;
        now.d = d = rounded_to_half(d), now.dmin = dmin = rounded_to_half(dmin);
        if (!is_finite(d) || !is_finite(dmin)) break;
        float error = 0;
        for (int g = 0; g < groups; g++)
            error += fit_integers(x + g * GROUP, cost + g * GROUP, d, dmin, scale[g], offset[g], now.codes + g * GROUP,
                                  &now.scales[g], &now.minima[g]);
        if (!(error < least)) break;
        least = error, *best = now;
        refit_super(x, cost, now.codes, now.scales, now.minima, groups, &d, &dmin);
    }
    return least < INFINITY;
}

// The same source for both instruction sets; sums run in eight lanes in either, so the results are the same.
static int fit_plain(const float *x, const float *cost, int groups, fitted *best) { return fit_super_block(x, cost, groups, best); }
#if defined(__x86_64__)
__attribute__((target("avx2,fma"))) static int fit_avx2(const float *x, const float *cost, int groups, fitted *best) {
    return fit_super_block(x, cost, groups, best);
}
#endif

static int fit(const float *x, const float *cost, int groups, fitted *best) {
#if defined(__x86_64__)
    if (lq_x86_has(LQ_AVX2)) return fit_avx2(x, cost, groups, best);
#endif
    return fit_plain(x, cost, groups, best);
}

// Packs some rows, a multiple of 8, of a matrix: `weights` is [rows][cols], `packed` where their first panel goes; `group`
// is the super-block. `cost` [cols] is what a squared error of each column costs, or NULL where all cost the same.
EXPORT int lq_pack_k4(const float *weights, const float *cost, int rows, int cols, int group, uint8_t *packed) {
    if (rows < 8 || rows % 8 || !lq_is_group(LQ_K4, group) || cols < group || cols % group) return NO_SUCH_SHAPE;
    const int blocks = cols / group;
    const size_t block_bytes = (size_t)lq_block_bytes(LQ_K4, group);
    float same[GROUP * GROUPS];
    for (int i = 0; i < GROUP * GROUPS; i++) same[i] = 1;
    for (int row = 0; row < rows; row++)
        for (int n = 0; n < blocks; n++, weights += group) {
            fitted found = {.d = 0};
            if (!fit(weights, cost ? cost + n * group : same, group / GROUP, &found)) return NOT_FINITE;
            uint8_t *out = packed + ((size_t)(row / 8) * blocks + n) * block_bytes;
            if (row % 8 == 0) memset(out, 0, block_bytes);
            for (int first = 0; first < group; first += LQ_SPAN, out += lq_span_bytes(LQ_K4)) {
                int16_t codes[LQ_SPAN];
                uint8_t scales[4], minima[4];
                for (int k = 0; k < LQ_SPAN; k++) codes[k] = (int16_t)found.codes[first + k];
                for (int g = 0; g < 4; g++) {
                    scales[g] = (uint8_t)found.scales[first / GROUP + g];
                    minima[g] = (uint8_t)found.minima[first / GROUP + g];
                }
                lq_put_span_codes(LQ_K4, codes, row % 8, out);
                lq_put_span_scales(LQ_K4, scales, minima, row % 8, out);
            }
            lq_put_half(out, row % 8, lq_float_to_half(found.d));
            lq_put_half(out + 16, row % 8, lq_float_to_half(found.dmin));
        }
    return PACKED;
}
