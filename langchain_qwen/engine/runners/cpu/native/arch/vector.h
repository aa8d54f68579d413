// What a step does to vectors of floats, in the vectors of the instruction set whose simd_*.h stands before this file.
#pragma once
#include <math.h>

enum { SUMS = 16 / LANES };  // every long sum is sixteen partial ones, whatever the width of a vector

// Adds sixteen partial sums pairwise, as portable C does.
INLINE float sum16(const vec *v) {
    float s[16];
    for (int i = 0; i < SUMS; i++) store(s + i * LANES, v[i]);
    for (int half = 8; half; half /= 2)
        for (int i = 0; i < half; i++) s[i] += s[i + half];
    return s[0];
}

// As lq_exp computes it.
INLINE vec exp_of(vec x) {
    x = max2(min2(x, set1(88.3762626647949f)), set1(-87.3365478515625f));
    const vec n = nearest(mul2(x, set1(1.44269504088896341f)));
    vec r = fnma3(n, set1(0.693359375f), x);
    r = fnma3(n, set1(-2.12194440e-4f), r);
    vec p = set1(1.9875691500e-4f);
    p = fma3(p, r, set1(1.3981999507e-3f));
    p = fma3(p, r, set1(8.3334519073e-3f));
    p = fma3(p, r, set1(4.1665795894e-2f));
    p = fma3(p, r, set1(1.6666665459e-1f));
    p = fma3(p, r, set1(5.0000001201e-1f));
    p = fma3(p, mul2(r, r), add2(r, set1(1)));
    return mul2(p, power_of_2(n));
}

static void rms_norm(const float *x, const float *weight, float eps, int n, float *y) {
    vec squares[SUMS];
    for (int s = 0; s < SUMS; s++) squares[s] = set1(0);
    for (int i = 0; i < n; i += 16)
        for (int s = 0; s < SUMS; s++) {
            const vec v = load(x + i + s * LANES);
            squares[s] = fma3(v, v, squares[s]);
        }
    const vec factor = set1(1 / sqrtf(sum16(squares) / (float)n + eps));
    for (int i = 0; i < n; i += LANES) store(y + i, mul2(mul2(load(x + i), factor), load(weight + i)));
}

static void add(float *x, const float *y, int n) {
    for (int i = 0; i < n; i += LANES) store(x + i, add2(load(x + i), load(y + i)));
}

static void silu_multiply(const float *gate, const float *up, int n, float *y) {
    for (int i = 0; i < n; i += LANES) {
        const vec g = load(gate + i);
        store(y + i, mul2(div2(g, add2(set1(1), exp_of(sub2(set1(0), g)))), load(up + i)));
    }
}

static void to_half(const float *x, int n, uint16_t *y) {
    for (int i = 0; i < n; i += LANES) store_half(y + i, load(x + i));
}
