// VNNI in vectors of 512 bits: two panels at a time, and twice the tokens in twice the registers.
#pragma once
#define TILE 8  // tokens that share each unpacking of a panel
#define OWN_MULTIPLY
#include "simd_avx512.h"

#include "x86_sums.h"

#define DOT8 _mm256_dpbusd_epi32
#define DOT16 _mm256_dpwssd_epi32
#include "vnni_sums.h"

#include "attention.h"
#include "x86_products.h"

INLINE __m512i two(const uint8_t *a, const uint8_t *b) {
    return _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_loadu_si256((const __m256i *)a)),
                              _mm256_loadu_si256((const __m256i *)b), 1);
}

INLINE __m512 half16(const uint8_t *a, const uint8_t *b) {
    return _mm512_cvtph_ps(_mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)a)),
                                                   _mm_loadu_si128((const __m128i *)b), 1));
}

// While two panels are read side by side, from `start` on, the next two are fetched, as the one run of bytes that they
// are: memory is read fastest so, and fetching some bytes ahead in each panel would leave out where the next ones begin.
INLINE void prefetch_pair(const uint8_t *start, const uint8_t *a, const uint8_t *b) {
    const char *next = (const char *)(b + (b - start));  // start + 2 * panel bytes + 2 * (a - start)
    _mm_prefetch(next, _MM_HINT_T1), _mm_prefetch(next + 64, _MM_HINT_T1);
}

#include "avx512_k.h"

INLINE void add_scaled_pair(const int W, const uint8_t *a, const uint8_t *b, const __m512i *sums, const float *xs,
                            const float *xz, __m512 *acc) {
    const __m512 scale = half16(a, b), scale_zero = half16(a + 16, b + 16);
#pragma GCC unroll 8
    for (int m = 0; m < W; m++) {
        acc[m] = _mm512_fmadd_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(sums[m]), _mm512_set1_ps(xs[m])), scale, acc[m]);
        acc[m] = _mm512_fnmadd_ps(_mm512_set1_ps(xz[m]), scale_zero, acc[m]);
    }
}

// One tile of W tokens times the panels at `a` and `b`.
INLINE void pair_int4(const int W, const uint8_t *a, const uint8_t *b, const int32_t *x, const float *xs, const float *xz,
                      int groups, int group, __m512 *acc) {
    const uint8_t *start = a;
    const __m512i low = _mm512_set1_epi8(15);
    for (int g = 0; g < groups; g++, xs += W, xz += W) {
        __m512i sum[TILE];
#pragma GCC unroll 8
        for (int m = 0; m < W; m++) sum[m] = _mm512_setzero_si512();
#pragma GCC unroll 4
        for (int j = 0; j < group / 8; j++, a += 32, b += 32, x += 2 * W) {
            const __m512i pairs = two(a, b);
            if (j % 2 == 0) prefetch_pair(start, a, b);
            const __m512i u = _mm512_and_si512(pairs, low), v = _mm512_and_si512(_mm512_srli_epi16(pairs, 4), low);
#pragma GCC unroll 8
            for (int m = 0; m < W; m++) {
                sum[m] = _mm512_dpbusd_epi32(sum[m], u, _mm512_set1_epi32(x[m]));
                sum[m] = _mm512_dpbusd_epi32(sum[m], v, _mm512_set1_epi32(x[W + m]));
            }
        }
        add_scaled_pair(W, a, b, sum, xs, xz, acc);
        a += 32, b += 32;
    }
}

INLINE void pair_int8(const int W, const uint8_t *a, const uint8_t *b, const int32_t *x, const float *xs, const float *xz,
                      int groups, int group, __m512 *acc) {
    const uint8_t *start = a;
    for (int g = 0; g < groups; g++, xs += W, xz += W) {
        __m512i sum[TILE];
#pragma GCC unroll 8
        for (int m = 0; m < W; m++) sum[m] = _mm512_setzero_si512();
#pragma GCC unroll 4
        for (int j = 0; j < group / 4; j++, a += 32, b += 32, x += 2 * W) {
            const __m512i codes = two(a, b);
            if (j % 2 == 0) prefetch_pair(start, a, b);
            const __m512i even = _mm512_srai_epi16(_mm512_slli_epi16(codes, 8), 8), odd = _mm512_srai_epi16(codes, 8);
#pragma GCC unroll 8
            for (int m = 0; m < W; m++) {
                sum[m] = _mm512_dpwssd_epi32(sum[m], even, _mm512_set1_epi32(x[m]));
                sum[m] = _mm512_dpwssd_epi32(sum[m], odd, _mm512_set1_epi32(x[W + m]));
            }
        }
        add_scaled_pair(W, a, b, sum, xs, xz, acc);
        a += 32, b += 32;
    }
}

INLINE void pair_bf16(const int W, const uint8_t *a, const uint8_t *b, const float *x, int cols, __m512 *acc) {
    const uint8_t *start = a;
    __m512 odd[TILE];
#pragma GCC unroll 8
    for (int m = 0; m < W; m++) odd[m] = _mm512_setzero_ps();
    for (int k = 0; k < cols; k += 2, a += 32, b += 32, x += 2 * W) {
        const __m512i bits = two(a, b);  // 8 rows of `a` at k, at k + 1, and the same of `b`
        if (k % 4 == 0) prefetch_pair(start, a, b);
        const __m512i pairs = _mm512_shuffle_i64x2(bits, bits, 0xd8);  // both at k, then both at k + 1
        const __m512 w0 = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm512_castsi512_si256(pairs)), 16));
        const __m512 w1 =
            _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64(pairs, 1)), 16));
#pragma GCC unroll 8
        for (int m = 0; m < W; m++) {
            acc[m] = _mm512_fmadd_ps(_mm512_set1_ps(x[m]), w0, acc[m]);
            odd[m] = _mm512_fmadd_ps(_mm512_set1_ps(x[W + m]), w1, odd[m]);
        }
    }
#pragma GCC unroll 8
    for (int m = 0; m < W; m++) acc[m] = _mm512_add_ps(acc[m], odd[m]);
}

INLINE void multiply_pair(const int W, const lq_matrix *w, const lq_acts *acts, int tile, int panel, float *out) {
    __m512 acc[TILE];
#pragma GCC unroll 8
    for (int m = 0; m < W; m++) acc[m] = _mm512_setzero_ps();
    const size_t panel_bytes = lq_panel_bytes(w);
    const uint8_t *a = w->data + (size_t)panel * panel_bytes, *b = a + panel_bytes;
    if (w->format == LQ_BF16) {
        pair_bf16(W, a, b, acts->values + (size_t)tile * w->cols, w->cols, acc);
    } else if (lq_is_k(w->format)) {
        const int blocks = w->cols / w->group, spans = w->group / LQ_SPAN;
        const int32_t *x = (const int32_t *)acts->codes + (size_t)tile * w->cols / 4;
        const int32_t *sums = (const int32_t *)acts->sums16 + (size_t)tile * (w->cols / lq_sum_columns(w->format) / 2);
        const float *xs = acts->scale + (size_t)tile * w->cols / LQ_SPAN;
        if (w->format == LQ_K4)
            pair_k(LQ_K4, W, a, b, x, xs, sums, blocks, spans, acc);
        else if (w->format == LQ_K5)
            pair_k(LQ_K5, W, a, b, x, xs, sums, blocks, spans, acc);
        else
            pair_k(LQ_K6, W, a, b, x, xs, sums, blocks, spans, acc);
    } else {
        const int groups = w->cols / w->group;
        const int32_t *x = (const int32_t *)acts->codes + (size_t)tile * w->cols / 4 * (w->format == LQ_INT8 ? 2 : 1);
        const float *xs = acts->scale + (size_t)tile * groups, *xz = acts->sum + (size_t)tile * groups;
        if (w->format == LQ_INT8)
            pair_int8(W, a, b, x, xs, xz, groups, w->group, acc);
        else
            pair_int4(W, a, b, x, xs, xz, groups, w->group, acc);
    }
    const __m512 bias = w->bias ? _mm512_loadu_ps(w->bias + panel * 8) : _mm512_setzero_ps();
#pragma GCC unroll 8
    for (int m = 0; m < W; m++)
        _mm512_storeu_ps(out + (size_t)(tile + m) * w->stride + panel * 8, _mm512_add_ps(acc[m], bias));
}

static void multiply(const lq_matrix *w, const lq_acts *acts, int tokens, int first, int last, float *out) {
    const int at_once = 2 * panels_at_once(tokens);
    for (int begin = first; begin < last; begin += at_once) {
        const int end = begin + at_once < last ? begin + at_once : last;
        for (int tile = 0; tile < tokens; tile += TILE) {
            const int width = lq_tile_width(tile, tokens, TILE);
            int panel = begin;  // memory is read fastest in one run, so a few tokens take the panels one by one
            for (; width > 4 && panel + 1 < end; panel += 2) {
#define WIDTH(n) \
    case n: multiply_pair(n, w, acts, tile, panel, out); break;
                switch (width) { WIDTH(5) WIDTH(6) WIDTH(7) WIDTH(8) }
#undef WIDTH
            }
            for (; panel < end; panel++) multiply_panel(w, acts, tile, width, panel, out);
        }
    }
}
