// The K formats on x86: sums of 4-, 5- and 6-bit codes, with integer scales that are multiplied in before the sums leave
// the registers.
#pragma once
#include "x86_sums.h"

// Of a group: 16-bit lanes with each row's scale twice, as a multiply-add wants it, from bytes at the places of model.h.
INLINE __m256i both(__m256i scales, int group) {
    const char a = (char)(group * 4), b = (char)(a + 1), c = (char)(a + 2), d = (char)(a + 3), z = (char)-128;
    const __m128i order = _mm_setr_epi8(a, z, a, z, b, z, b, z, c, z, c, z, d, z, d, z);
    return _mm256_shuffle_epi8(scales, _mm256_broadcastsi128_si256(order));
}

// The same with signs.
INLINE __m256i both_signed(__m256i scales, int group) {
    const char a = (char)(group * 4), b = (char)(a + 1), c = (char)(a + 2), d = (char)(a + 3), z = (char)-128;
    const __m128i order = _mm_setr_epi8(z, a, z, a, z, b, z, b, z, c, z, c, z, d, z, d);
    return _mm256_srai_epi16(_mm256_shuffle_epi8(scales, _mm256_broadcastsi128_si256(order)), 8);
}

// Of a group and the one behind it: each row's two numbers of a byte side by side in 16 bits.
INLINE __m256i next_to_each_other(__m256i bytes, int group, int with_sign) {
    const char a = (char)(group * 4), z = (char)-128;
    const __m128i plain = _mm_setr_epi8(a, z, a + 4, z, a + 1, z, a + 5, z, a + 2, z, a + 6, z, a + 3, z, a + 7, z);
    const __m128i high = _mm_setr_epi8(z, a, z, a + 4, z, a + 1, z, a + 5, z, a + 2, z, a + 6, z, a + 3, z, a + 7);
    const __m256i pairs = _mm256_shuffle_epi8(bytes, _mm256_broadcastsi128_si256(with_sign ? high : plain));
    return with_sign ? _mm256_srai_epi16(pairs, 8) : pairs;
}

INLINE __m256i shift16(__m256i x, int left) {
    return left >= 0 ? _mm256_slli_epi16(x, left) : _mm256_srli_epi16(x, -left);
}

#ifdef DOT8
// In one instruction: sums have 32 bits from the beginning, and are multiplied by the scale once a group.
typedef struct {
    __m256i one[TILE], other[TILE];  // few tokens have two sums each, as in vnni_sums.h
} k_sums;

INLINE int is_first(int format, int j) { return format == LQ_K6 ? j % 2 == 0 : j == 0; }
INLINE int is_last(int format, int j) { return format == LQ_K6 ? j % 2 == 1 : j == 3; }

INLINE void add_products(const int W, __m256i a, __m256i b, const int32_t *x, int first, k_sums *s) {
#pragma GCC unroll 8
    for (int m = 0; m < W; m++) {
        if (first) s->one[m] = s->other[m] = _mm256_setzero_si256();
        __m256i *second = TWO_SUMS(W) ? s->other : s->one;
        s->one[m] = DOT8(s->one[m], a, _mm256_set1_epi32(x[m]));
        second[m] = DOT8(second[m], b, _mm256_set1_epi32(x[W + m]));
    }
}

INLINE void add_scaled_k(const int W, const int FORMAT, __m256i scales, int group, const k_sums *s, __m256i *dot) {
    const char a = (char)(group * 4), b = (char)(a + 1), c = (char)(a + 2), d = (char)(a + 3), z = (char)-128;
    const __m128i order = FORMAT == LQ_K6 ? _mm_setr_epi8(z, z, z, a, z, z, z, b, z, z, z, c, z, z, z, d)
                                          : _mm_setr_epi8(a, z, z, z, b, z, z, z, c, z, z, z, d, z, z, z);
    __m256i scale = _mm256_shuffle_epi8(scales, _mm256_broadcastsi128_si256(order));
    if (FORMAT == LQ_K6) scale = _mm256_srai_epi32(scale, 24);
#pragma GCC unroll 8
    for (int m = 0; m < W; m++) {
        const __m256i sum = TWO_SUMS(W) ? _mm256_add_epi32(s->one[m], s->other[m]) : s->one[m];
        dot[m] = _mm256_add_epi32(dot[m], _mm256_mullo_epi32(sum, scale));
    }
}
#else
#define DOT16(sum, a, b) _mm256_add_epi32(sum, _mm256_madd_epi16(a, b))

// Codes of up to 63 times activations of up to 127: sums stay in 16 bits for 32, 16 or 8 columns, then the scales widen
// them.
typedef struct {
    __m256i of[TILE];
} k_sums;

INLINE int is_first(int format, int j) { return format == LQ_K4 ? j == 0 : format == LQ_K5 ? j % 2 == 0 : 1; }
INLINE int is_last(int format, int j) { return format == LQ_K4 ? j == 3 : format == LQ_K5 ? j % 2 == 1 : 1; }

INLINE void add_products(const int W, __m256i a, __m256i b, const int32_t *x, int first, k_sums *s) {
#pragma GCC unroll 8
    for (int m = 0; m < W; m++) {
        const __m256i t = _mm256_maddubs_epi16(a, _mm256_set1_epi32(x[m]));
        const __m256i u = _mm256_maddubs_epi16(b, _mm256_set1_epi32(x[W + m]));
        s->of[m] = first ? t : _mm256_add_epi16(s->of[m], t);
        IN_REGISTER(s->of[m]);
        s->of[m] = _mm256_add_epi16(s->of[m], u);
        IN_REGISTER(s->of[m]);
    }
}

INLINE void add_scaled_k(const int W, const int FORMAT, __m256i scales, int group, const k_sums *s, __m256i *dot) {
    const __m256i scale = FORMAT == LQ_K6 ? both_signed(scales, group) : both(scales, group);
#pragma GCC unroll 8
    for (int m = 0; m < W; m++) {
        dot[m] = _mm256_add_epi32(dot[m], _mm256_madd_epi16(s->of[m], scale));
        IN_REGISTER(dot[m]);
    }
}
#endif

// One panel times one tile of W tokens.
INLINE void tile_k(const int FORMAT, const int W, const uint8_t *block, const int32_t *x, const float *xs, const int32_t *sums,
                   int blocks, int spans, __m256 *acc) {
    const int above_bytes = (FORMAT - LQ_K4) * LQ_SPAN;
    const int span_bytes = LQ_SPAN_CODES + above_bytes + (FORMAT == LQ_K6 ? LQ_SPAN_SCALES_K6 : LQ_SPAN_SCALES);
    const __m256i low = _mm256_set1_epi8(15), top = _mm256_set1_epi8(FORMAT == LQ_K5 ? 16 : 48), upper = _mm256_set1_epi8(48);
    for (int n = 0; n < blocks; n++) {
        const uint8_t *super = block + spans * span_bytes;
        const __m256 d = half8(super), dmin = FORMAT == LQ_K6 ? _mm256_setzero_ps() : half8(super + 16);
        for (int s = 0; s < spans; s++, block += span_bytes, x += LQ_SPAN / 4 * W, xs += W, sums += LQ_SPAN / lq_sum_columns(FORMAT) / 2 * W) {
            const uint8_t *above = block + LQ_SPAN_CODES, *at = above + above_bytes;
            __m256i scales[2], minima = _mm256_setzero_si256();
            if (FORMAT == LQ_K6) {
                scales[0] = _mm256_loadu_si256((const __m256i *)at), scales[1] = _mm256_loadu_si256((const __m256i *)(at + 32));
            } else {
                const __m256i lows = _mm256_loadu_si256((const __m256i *)at);
                const __m256i both_lanes = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(at + 32)));
                const __m256i highs = _mm256_srlv_epi32(both_lanes, _mm256_setr_epi32(0, 0, 0, 0, 2, 2, 2, 2));
                scales[0] = scales[1] = _mm256_or_si256(_mm256_and_si256(lows, low),
                                                        _mm256_and_si256(_mm256_slli_epi16(highs, 4), upper));
                minima = _mm256_or_si256(_mm256_and_si256(_mm256_srli_epi16(lows, 4), low), _mm256_and_si256(highs, upper));
            }
            __m256i dot[TILE], least[TILE];
#pragma GCC unroll 8
            for (int m = 0; m < W; m++) dot[m] = least[m] = _mm256_setzero_si256();
#pragma GCC unroll 4
            for (int g = 0; g < 4; g++) {
                __m256i more = _mm256_setzero_si256();
                k_sums sums_of;
                if (FORMAT == LQ_K5) more = _mm256_loadu_si256((const __m256i *)(above + g * 32));
#pragma GCC unroll 4
                for (int j = 0; j < 4; j++) {
                    const int vector = g * 4 + j;
                    const __m256i pairs = _mm256_loadu_si256((const __m256i *)(block + vector * 32));
                    if (j % 2 == 0) prefetch(block + vector * 32);
                    __m256i a = _mm256_and_si256(pairs, low), b = _mm256_and_si256(_mm256_srli_epi16(pairs, 4), low);
                    if (FORMAT == LQ_K5) {
                        a = _mm256_or_si256(a, _mm256_and_si256(shift16(more, 4 - 2 * j), top));
                        b = _mm256_or_si256(b, _mm256_and_si256(shift16(more, 3 - 2 * j), top));
                    }
                    if (FORMAT == LQ_K6) {
                        if (j % 2 == 0) more = _mm256_loadu_si256((const __m256i *)(above + vector / 2 * 32));
                        a = _mm256_or_si256(a, _mm256_and_si256(shift16(more, 4 - 4 * (j % 2)), top));
                        b = _mm256_or_si256(b, _mm256_and_si256(shift16(more, 2 - 4 * (j % 2)), top));
                    }
                    add_products(W, a, b, x + 2 * vector * W, is_first(FORMAT, j), &sums_of);
                    if (is_last(FORMAT, j))
                        add_scaled_k(W, FORMAT, scales[FORMAT == LQ_K6 ? vector / 8 : 0], FORMAT == LQ_K6 ? vector / 2 % 4 : g,
                                     &sums_of, dot);
                }
                if (FORMAT != LQ_K6 && g % 2 == 0) continue;
                // What the minima take, or the 32 that a code of K6 is above its value.
                const __m256i pair = FORMAT == LQ_K6 ? next_to_each_other(scales[g / 2], g % 2 * 2, 1)
                                                     : next_to_each_other(minima, g - 1, 0);
                const int32_t *of = sums + (FORMAT == LQ_K6 ? g : g / 2) * W;
#pragma GCC unroll 8
                for (int m = 0; m < W; m++) least[m] = DOT16(least[m], pair, _mm256_set1_epi32(of[m]));
            }
#pragma GCC unroll 8
            for (int m = 0; m < W; m++) {
                if (FORMAT == LQ_K6) dot[m] = _mm256_sub_epi32(dot[m], _mm256_slli_epi32(least[m], 5));
                __m256 sum = _mm256_mul_ps(_mm256_cvtepi32_ps(dot[m]), d);
                if (FORMAT != LQ_K6) sum = _mm256_fnmadd_ps(_mm256_cvtepi32_ps(least[m]), dmin, sum);
                acc[m] = _mm256_fmadd_ps(sum, _mm256_set1_ps(xs[m]), acc[m]);
            }
        }
        block = super + (FORMAT == LQ_K6 ? 16 : 32);
    }
}
