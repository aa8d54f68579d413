// Codes of 4 bits with the smallest squared error, where each column's errors have a cost of their own.
#pragma once
#include <math.h>

#include "half.h"

#define INLINE static inline __attribute__((always_inline))

enum { LANES = 8, GROUP = 32, GROUPS = 8, ROUNDS = 3 };

INLINE int is_finite(float x) { return x - x == 0; }
INLINE float rounded_to_half(float x) { return lq_half_to_float(lq_float_to_half(x)); }
INLINE float clamped(float x, float high) { return x > 0 ? x < high ? x : high : 0; }  // 0 where x is no number

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

typedef struct {
    float v, c, cc, x, cx;  // sums over a group of cost times 1, code, code squared, value, and code times value
} moments;

INLINE moments moments_of(const float *x, const float *cost, const float *codes) {
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
    return (moments){lanes_sum(v), lanes_sum(c), lanes_sum(cc), lanes_sum(sx), lanes_sum(cx)};
}

// The line that fits best for given codes (least squares); its offset is not below zero, which the form cannot hold.
INLINE void refit(const float *x, const float *cost, const float *codes, float *scale, float *offset) {
    const moments m = moments_of(x, cost, codes);
    const float V = m.v, C = m.c, CC = m.cc, X = m.x, CX = m.cx;
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
INLINE float fit_integers(const float *x, const float *cost, int largest, float d, float dmin, float scale, float offset,
                          float *best_codes, float *best_scale, float *best_minimum) {
    float best = INFINITY, codes[GROUP];
    const float nearest = d > 0 ? rintf(scale / d) : 0, lowest = dmin > 0 ? rintf(offset / dmin) : 0;
    for (int i = -1; i <= 1; i++) {
        const float s = clamped(nearest + (float)i, (float)largest);
        for (int j = -1; j <= 1; j++) {
            const float m = clamped(lowest + (float)j, (float)largest);
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
        const int start = g * GROUP;
        const moments of = moments_of(x + start, cost + start, codes + start);
        const float s = scales[g], m = minima[g];
        aa += s * s * of.cc, ab += s * m * of.c, bb += m * m * of.v;
        ax += s * of.cx, bx += m * of.x;
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

// A super-block whose groups have integers up to `largest`. Returns 0 where there is no fit: a weight is not finite, or larger
// than fp16 can scale.
INLINE int fit_super_block(const float *x, const float *cost, int groups, int largest, fitted *best) {
    float scale[GROUPS], offset[GROUPS], d = 0, dmin = 0, least = INFINITY;
    int all_finite = 1;
    for (int i = 0; i < groups * GROUP; i++) all_finite &= is_finite(x[i]);
    if (!all_finite) return 0;
    for (int g = 0; g < groups; g++) {
        fit_group(x + g * GROUP, cost + g * GROUP, &scale[g], &offset[g]);
        d = scale[g] > d ? scale[g] : d;
        dmin = offset[g] > dmin ? offset[g] : dmin;
    }
    d /= (float)largest, dmin /= (float)largest;
    for (int round = 0; round < ROUNDS; round++) {
        fitted now;
        now.d = d = rounded_to_half(d), now.dmin = dmin = rounded_to_half(dmin);
        if (!is_finite(d) || !is_finite(dmin)) break;
        float error = 0;
        for (int g = 0; g < groups; g++)
            error += fit_integers(x + g * GROUP, cost + g * GROUP, largest, d, dmin, scale[g], offset[g], now.codes + g * GROUP,
                                  &now.scales[g], &now.minima[g]);
        if (!(error < least)) break;
        least = error, *best = now;
        refit_super(x, cost, now.codes, now.scales, now.minima, groups, &d, &dmin);
    }
    return least < INFINITY;
}
