// The matrix products of x86, around the sums over a group that each instruction set has its own way of computing:
// tile_int4 and tile_int8 stand before this file is included, and use what x86_sums.h offers.
#pragma once
#include "x86_sums.h"

// Even and odd columns are summed apart: four sums alone could not hide the latency of the multiply-adds.
INLINE void tile_bf16(const int W, const uint8_t *weights, const float *x, int cols, __m256 *acc) {
    __m256 odd[TILE];
#pragma GCC unroll 8
    for (int m = 0; m < W; m++) odd[m] = _mm256_setzero_ps();
    for (int k = 0; k < cols; k += 2, weights += 32, x += 2 * W) {
        const __m256i bits = _mm256_loadu_si256((const __m256i *)weights);  // 8 rows at k, 8 rows at k + 1
        if (k % 4 == 0) prefetch(weights);
        const __m256i first = _mm256_cvtepu16_epi32(_mm256_castsi256_si128(bits));
        const __m256i second = _mm256_cvtepu16_epi32(_mm256_extracti128_si256(bits, 1));
        const __m256 w0 = _mm256_castsi256_ps(_mm256_slli_epi32(first, 16));
        const __m256 w1 = _mm256_castsi256_ps(_mm256_slli_epi32(second, 16));
#pragma GCC unroll 8
        for (int m = 0; m < W; m++) {
            acc[m] = _mm256_fmadd_ps(_mm256_set1_ps(x[m]), w0, acc[m]);
            odd[m] = _mm256_fmadd_ps(_mm256_set1_ps(x[W + m]), w1, odd[m]);
        }
    }
#pragma GCC unroll 8
    for (int m = 0; m < W; m++) acc[m] = _mm256_add_ps(acc[m], odd[m]);
}

INLINE void multiply_tile(const int W, const lq_matrix *w, const lq_acts *acts, int tile, int panel, float *out) {
    __m256 acc[TILE];
#pragma GCC unroll 8
    for (int m = 0; m < W; m++) acc[m] = _mm256_setzero_ps();
    const uint8_t *block = w->data + (size_t)panel * lq_panel_bytes(w);
    if (w->format == LQ_BF16) {
        tile_bf16(W, block, acts->values + (size_t)tile * w->cols, w->cols, acc);
    } else {
        const int groups = w->cols / w->group;
        const int32_t *x = (const int32_t *)acts->codes + (size_t)tile * w->cols / 4 * (w->format == LQ_INT8 ? 2 : 1);
        const float *xs = acts->scale + (size_t)tile * groups, *xz = acts->sum + (size_t)tile * groups;
        if (w->format == LQ_INT8)
            tile_int8(W, block, x, xs, xz, groups, w->group, acc);
        else if (w->group == 32)  // constants let the compiler keep all sums in registers
            tile_int4(W, block, x, xs, xz, groups, 32, acc);
        else if (w->group == 64)
            tile_int4(W, block, x, xs, xz, groups, 64, acc);
        else
            tile_int4(W, block, x, xs, xz, groups, w->group, acc);
    }
    const __m256 bias = w->bias ? _mm256_loadu_ps(w->bias + panel * 8) : _mm256_setzero_ps();
#pragma GCC unroll 8
    for (int m = 0; m < W; m++)
        _mm256_storeu_ps(out + (size_t)(tile + m) * w->rows + panel * 8, _mm256_add_ps(acc[m], bias));
}

static void multiply_panel(const lq_matrix *w, const lq_acts *acts, int tile, int width, int panel, float *out) {
#define WIDTH(n) \
    case n: multiply_tile(n, w, acts, tile, panel, out); break;
    switch (width) {
        WIDTH(1) WIDTH(2) WIDTH(3) WIDTH(4)
#if TILE > 4
        WIDTH(5) WIDTH(6) WIDTH(7) WIDTH(8)
#endif
    }
#undef WIDTH
}

// The activations of a long prompt exceed the second-level cache: each tile then serves a few panels in turn.
INLINE int panels_at_once(int tokens) { return tokens > 32 ? 4 : 1; }

#ifndef OWN_MULTIPLY
static void multiply(const lq_matrix *w, const lq_acts *acts, int tokens, int first, int last, float *out) {
    const int at_once = panels_at_once(tokens);
    for (int begin = first; begin < last; begin += at_once) {
        const int end = begin + at_once < last ? begin + at_once : last;
        for (int tile = 0; tile < tokens; tile += TILE)
            for (int panel = begin; panel < end; panel++)
                multiply_panel(w, acts, tile, lq_tile_width(tile, tokens, TILE), panel, out);
    }
}
#endif
