// The K formats in vectors of 512 bits: one tile of W tokens times two panels; see x86_k.h.
#pragma once
#include "x86_k.h"

INLINE __m512i shift_two(__m512i x, int left) {
    return left >= 0 ? _mm512_slli_epi16(x, (unsigned)left) : _mm512_srli_epi16(x, (unsigned)-left);
}

// Of a group: each row's scale in 32 bits.
INLINE __m512i scale_of(const int FORMAT, __m512i scales, int group) {
    const char a = (char)(group * 4), b = (char)(a + 1), c = (char)(a + 2), d = (char)(a + 3), z = (char)-128;
    const __m128i order = FORMAT == LQ_K6 ? _mm_setr_epi8(z, z, z, a, z, z, z, b, z, z, z, c, z, z, z, d)
                                          : _mm_setr_epi8(a, z, z, z, b, z, z, z, c, z, z, z, d, z, z, z);
    const __m512i scale = _mm512_shuffle_epi8(scales, _mm512_broadcast_i32x4(order));
    return FORMAT == LQ_K6 ? _mm512_srai_epi32(scale, 24) : scale;
}

// A span's scales of two panels, as bytes at the places of model.h, and its minima where the format has some.
INLINE void read_scales(const int FORMAT, const uint8_t *a, const uint8_t *b, __m512i *scales, __m512i *minima) {
    const __m512i low = _mm512_set1_epi8(15), upper = _mm512_set1_epi8(48);
    if (FORMAT == LQ_K6) {
        scales[0] = two(a, b), scales[1] = two(a + 32, b + 32), *minima = _mm512_setzero_si512();
        return;
    }
    const __m512i lows = two(a, b);
    const __m256i high_a = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(a + 32)));
    const __m256i high_b = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(b + 32)));
    const __m512i lanes = _mm512_setr_epi32(0, 0, 0, 0, 2, 2, 2, 2, 0, 0, 0, 0, 2, 2, 2, 2);
    const __m512i highs = _mm512_srlv_epi32(_mm512_inserti64x4(_mm512_castsi256_si512(high_a), high_b, 1), lanes);
    scales[0] = scales[1] =
        _mm512_or_si512(_mm512_and_si512(lows, low), _mm512_and_si512(_mm512_slli_epi16(highs, 4), upper));
    *minima = _mm512_or_si512(_mm512_and_si512(_mm512_srli_epi16(lows, 4), low), _mm512_and_si512(highs, upper));
}

// The codes of eight columns, four in `u` and four in `v`. `more` keeps the bits above the low 4 from vector to vector.
INLINE void read_codes(const int FORMAT, const uint8_t *a, const uint8_t *b, int vector, __m512i *more, __m512i *u, __m512i *v) {
    const __m512i low = _mm512_set1_epi8(15), top = _mm512_set1_epi8(FORMAT == LQ_K5 ? 16 : 48);
    const __m512i pairs = two(a + vector * 32, b + vector * 32);
    const int j = vector % 4, above = LQ_SPAN_CODES + (FORMAT == LQ_K5 ? vector / 4 : vector / 2) * 32;
    if (FORMAT == LQ_K5 ? j == 0 : FORMAT == LQ_K6 && j % 2 == 0) *more = two(a + above, b + above);
    *u = _mm512_and_si512(pairs, low), *v = _mm512_and_si512(_mm512_srli_epi16(pairs, 4), low);
    if (FORMAT == LQ_K4) return;
    const int left = FORMAT == LQ_K5 ? 4 - 2 * j : 4 - 4 * (j % 2), next = FORMAT == LQ_K5 ? 1 : 2;
    *u = _mm512_or_si512(*u, _mm512_and_si512(shift_two(*more, left), top));
    *v = _mm512_or_si512(*v, _mm512_and_si512(shift_two(*more, left - next), top));
}

// What the minima of groups 2n and 2n + 1 take, in pairs of 16 bits; of K6 the scales, for the 32 that a code is above
// its value.
INLINE __m512i read_minima(const int FORMAT, const __m512i *scales, __m512i minima, int n) {
    const char p = (char)(n % 2 * 8), z = (char)-128;
    const __m128i plain = _mm_setr_epi8(p, z, p + 4, z, p + 1, z, p + 5, z, p + 2, z, p + 6, z, p + 3, z, p + 7, z);
    const __m128i high = _mm_setr_epi8(z, p, z, p + 4, z, p + 1, z, p + 5, z, p + 2, z, p + 6, z, p + 3, z, p + 7);
    return FORMAT == LQ_K6 ? _mm512_srai_epi16(_mm512_shuffle_epi8(scales[n / 2], _mm512_broadcast_i32x4(high)), 8)
                           : _mm512_shuffle_epi8(minima, _mm512_broadcast_i32x4(plain));
}

INLINE void pair_k(const int FORMAT, const int W, const uint8_t *a, const uint8_t *b, const int32_t *x, const float *xs,
                   const int32_t *sums, int blocks, int spans, __m512 *acc) {
    const int above_bytes = (FORMAT - LQ_K4) * LQ_SPAN;
    const int span_bytes = LQ_SPAN_CODES + above_bytes + (FORMAT == LQ_K6 ? LQ_SPAN_SCALES_K6 : LQ_SPAN_SCALES);
    const uint8_t *start = a;
    for (int n = 0; n < blocks; n++) {
        const uint8_t *super_a = a + spans * span_bytes, *super_b = b + spans * span_bytes;
        const __m512 d = half16(super_a, super_b), dmin = FORMAT == LQ_K6 ? d : half16(super_a + 16, super_b + 16);
        for (int s = 0; s < spans; s++, a += span_bytes, b += span_bytes, x += LQ_SPAN / 4 * W, xs += W, sums += LQ_SPAN / lq_sum_columns(FORMAT) / 2 * W) {
            const int above = LQ_SPAN_CODES, at = above + above_bytes;
            for (int place = above; place < span_bytes; place += 64) prefetch_pair(start, a + place, b + place);
            __m512i scales[2], minima, more = _mm512_setzero_si512();
            read_scales(FORMAT, a + at, b + at, scales, &minima);
            __m512i dot[TILE], least[TILE];
#pragma GCC unroll 8
            for (int m = 0; m < W; m++) dot[m] = least[m] = _mm512_setzero_si512();
#pragma GCC unroll 4
            for (int g = 0; g < 4; g++) {
                __m512i sum[TILE];
#pragma GCC unroll 4
                for (int j = 0; j < 4; j++) {
                    const int vector = g * 4 + j;
                    __m512i u, v;
                    read_codes(FORMAT, a, b, vector, &more, &u, &v);
                    if (j % 2 == 0) prefetch_pair(start, a + vector * 32, b + vector * 32);
                    const __m512i scale = scale_of(FORMAT, scales[FORMAT == LQ_K6 ? vector / 8 : 0], FORMAT == LQ_K6 ? vector / 2 % 4 : g);
#pragma GCC unroll 8
                    for (int m = 0; m < W; m++) {
                        if (is_first(FORMAT, j)) sum[m] = _mm512_setzero_si512();
                        sum[m] = _mm512_dpbusd_epi32(sum[m], u, _mm512_set1_epi32(x[2 * vector * W + m]));
                        sum[m] = _mm512_dpbusd_epi32(sum[m], v, _mm512_set1_epi32(x[(2 * vector + 1) * W + m]));
                        if (is_last(FORMAT, j)) dot[m] = _mm512_add_epi32(dot[m], _mm512_mullo_epi32(sum[m], scale));
                    }
                }
                if (FORMAT != LQ_K6 && g % 2 == 0) continue;
                const __m512i pair = read_minima(FORMAT, scales, minima, FORMAT == LQ_K6 ? g : g / 2);
                const int32_t *of = sums + (FORMAT == LQ_K6 ? g : g / 2) * W;
#pragma GCC unroll 8
                for (int m = 0; m < W; m++) least[m] = _mm512_dpwssd_epi32(least[m], pair, _mm512_set1_epi32(of[m]));
            }
#pragma GCC unroll 8
            for (int m = 0; m < W; m++) {
                if (FORMAT == LQ_K6) dot[m] = _mm512_sub_epi32(dot[m], _mm512_slli_epi32(least[m], 5));
                __m512 sum_d = _mm512_mul_ps(_mm512_cvtepi32_ps(dot[m]), d);
                if (FORMAT != LQ_K6) sum_d = _mm512_fnmadd_ps(_mm512_cvtepi32_ps(least[m]), dmin, sum_d);
                acc[m] = _mm512_fmadd_ps(sum_d, _mm512_set1_ps(xs[m]), acc[m]);
            }
        }
        a = super_a + (FORMAT == LQ_K6 ? 16 : 32), b = super_b + (FORMAT == LQ_K6 ? 16 : 32);
    }
}
