// A fit made better for the inputs that were seen: the error of the products, e' G e with the Gram matrix G of a super-block's
// inputs, instead of each column's by itself. Rounding one column the other way makes up for what its neighbors lost.
#pragma once
#include "fit_k4.h"

enum { WIDEST = GROUP * GROUPS, SWEEPS = 2 };

INLINE void add_times(float *sum, float factor, const float *row, int n) {
    for (int i = 0; i < n; i++) sum[i] += factor * row[i];
}

// Each code in turn becomes the best one for the others as they are.
INLINE void refine_codes(const float *gram, int n, fitted *f, float *slope) {
    for (int i = 0; i < n; i++) {
        const float step = f->d * f->scales[i / GROUP], bend = step * gram[i * n + i];
        if (!(bend > 0)) continue;
        const float code = clamped(rintf(f->codes[i] - slope[i] / bend), 15);
        if (code == f->codes[i]) continue;
        add_times(slope, (code - f->codes[i]) * step, gram + i * n, n);
        f->codes[i] = code;
    }
}

// The best integers of a group for its codes, near the real numbers that are.
INLINE void refine_integers(const float *gram, int n, int largest, int group, fitted *f, float *slope) {
    const float *codes = f->codes + group * GROUP, *slopes_here = slope + group * GROUP;
    float c[LANES] = {0}, v[LANES] = {0}, cc = 0, cv = 0, vv = 0;
    for (int i = 0; i < GROUP; i++) {
        const float *row = gram + (group * GROUP + i) * n + group * GROUP;
        float rc[LANES] = {0}, rv[LANES] = {0};
        for (int j = 0; j < GROUP; j += LANES)
            for (int l = 0; l < LANES; l++) rc[l] += row[j + l] * codes[j + l], rv[l] += row[j + l];
        const float along = lanes_sum(rc), across = lanes_sum(rv);
        cc += along * codes[i], cv += along, vv += across;
    }
    for (int i = 0; i < GROUP; i += LANES)
        for (int l = 0; l < LANES; l++) c[l] += slopes_here[i + l] * codes[i + l], v[l] += slopes_here[i + l];
    const float sc = lanes_sum(c), sv = lanes_sum(v), determinant = cc * vv - cv * cv;
    if (!(determinant > 1e-6f * cc * vv)) return;
    const float p = (cv * sv - vv * sc) / determinant, q = (cc * sv - cv * sc) / determinant;  // p * code - q is added
    const float old_scale = f->scales[group], old_minimum = f->minima[group];
    const float scale = rintf(old_scale + (f->d > 0 ? p / f->d : 0));
    const float minimum = rintf(old_minimum + (f->dmin > 0 ? q / f->dmin : 0));
    float best = 0, best_p = 0, best_q = 0;
    for (int i = -1; i <= 1; i++)
        for (int j = -1; j <= 1; j++) {
            const float s = clamped(scale + (float)i, (float)largest), m = clamped(minimum + (float)j, (float)largest);
            const float a = f->d * (s - old_scale), b = f->dmin * (m - old_minimum);
            const float change = 2 * (a * sc - b * sv) + a * a * cc - 2 * a * b * cv + b * b * vv;
            if (change < best) best = change, best_p = a, best_q = b, f->scales[group] = s, f->minima[group] = m;
        }
    if (!(best < 0)) return;
    for (int i = 0; i < GROUP; i++) add_times(slope, best_p * codes[i] - best_q, gram + (group * GROUP + i) * n, n);
}

// `gram` is [n][n], of the inputs of the super-block's n columns. No step makes the error larger.
INLINE void refine(const float *gram, const float *x, int groups, int largest, fitted *f) {
    const int n = groups * GROUP;
    float slope[WIDEST] = {0};  // G e
    for (int i = 0; i < n; i++) {
        const float value = f->d * f->scales[i / GROUP] * f->codes[i] - f->dmin * f->minima[i / GROUP];
        add_times(slope, value - x[i], gram + i * n, n);
    }
    for (int sweep = 0; sweep < SWEEPS; sweep++) refine_codes(gram, n, f, slope);
    for (int group = 0; group < groups; group++) refine_integers(gram, n, largest, group, f, slope);
    refine_codes(gram, n, f, slope);
}
