// Sums over a group in one instruction for four products of 8 bits or two of 16: DOT8 and DOT16 name it.
#pragma once
#include "x86_sums.h"

// Few tokens have two sums each: one alone waits for its last product most of the time.
#define TWO_SUMS(W) ((W) <= 4)

INLINE void tile_int4(const int W, const uint8_t *block, const int32_t *x, const float *xs, const float *xz, int groups,
                      int group, __m256 *acc) {
    const __m256i low = _mm256_set1_epi8(15);
    for (int g = 0; g < groups; g++, xs += W, xz += W) {
        __m256i sum[TILE], more[TILE];
#pragma GCC unroll 8
        for (int m = 0; m < W; m++) sum[m] = more[m] = _mm256_setzero_si256();
#pragma GCC unroll 4
        for (int j = 0; j < group / 8; j++, block += 32, x += 2 * W) {
            const __m256i pairs = _mm256_loadu_si256((const __m256i *)block);
            if (j % 2 == 0) prefetch(block);
            const __m256i a = _mm256_and_si256(pairs, low), b = _mm256_and_si256(_mm256_srli_epi16(pairs, 4), low);
#pragma GCC unroll 8
            for (int m = 0; m < W; m++) {
                __m256i *second = TWO_SUMS(W) ? more : sum;
                sum[m] = DOT8(sum[m], a, _mm256_set1_epi32(x[m]));
                second[m] = DOT8(second[m], b, _mm256_set1_epi32(x[W + m]));
            }
        }
#pragma GCC unroll 8
        for (int m = 0; m < W && TWO_SUMS(W); m++) sum[m] = _mm256_add_epi32(sum[m], more[m]);
        add_scaled(W, block, sum, xs, xz, acc);
        block += 32;
    }
}

INLINE void tile_int8(const int W, const uint8_t *block, const int32_t *x, const float *xs, const float *xz, int groups,
                      int group, __m256 *acc) {
    for (int g = 0; g < groups; g++, xs += W, xz += W) {
        __m256i sum[TILE], more[TILE];
#pragma GCC unroll 8
        for (int m = 0; m < W; m++) sum[m] = more[m] = _mm256_setzero_si256();
#pragma GCC unroll 4
        for (int j = 0; j < group / 4; j++, block += 32, x += 2 * W) {
            const __m256i codes = _mm256_loadu_si256((const __m256i *)block);
            const __m256i even = _mm256_srai_epi16(_mm256_slli_epi16(codes, 8), 8), odd = _mm256_srai_epi16(codes, 8);
            if (j % 2 == 0) prefetch(block);
#pragma GCC unroll 8
            for (int m = 0; m < W; m++) {
                __m256i *second = TWO_SUMS(W) ? more : sum;
                sum[m] = DOT16(sum[m], even, _mm256_set1_epi32(x[m]));
                second[m] = DOT16(second[m], odd, _mm256_set1_epi32(x[W + m]));
            }
        }
#pragma GCC unroll 8
        for (int m = 0; m < W && TWO_SUMS(W); m++) sum[m] = _mm256_add_epi32(sum[m], more[m]);
        add_scaled(W, block, sum, xs, xz, acc);
        block += 32;
    }
}
