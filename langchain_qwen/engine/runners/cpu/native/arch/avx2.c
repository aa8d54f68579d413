// Built for x86_64 with -mavx2 -mfma -mf16c
// Processors since 2013.
#define TILE 4  // tokens that share each unpacking of a panel
#include "simd_avx2.h"

#include "x86_sums.h"

// One panel times one tile of W tokens. 4-bit codes times 8-bit activations: pairs are at most 2*15*127 = 3810, so eight
// of them fit int16 and only every 32 columns are widened to int32.
INLINE void tile_int4(const int W, const uint8_t *block, const int32_t *x, const float *xs, const float *xz, int groups,
                      int group, __m256 *acc) {
    const __m256i low = _mm256_set1_epi8(15), ones = _mm256_set1_epi16(1);
    for (int g = 0; g < groups; g++, xs += W, xz += W) {
        __m256i sum32[4] = {_mm256_setzero_si256()};
        for (int c = 0; c < group / 32; c++, block += 128, x += 8 * W) {
            __m256i sum16[4];
#pragma GCC unroll 4
            for (int j = 0; j < 4; j++) {
                const __m256i pairs = _mm256_loadu_si256((const __m256i *)(block + j * 32));
                if (j % 2 == 0) prefetch(block + j * 32);
                const __m256i a = _mm256_and_si256(pairs, low);
                const __m256i b = _mm256_and_si256(_mm256_srli_epi16(pairs, 4), low);
#pragma GCC unroll 4
                for (int m = 0; m < W; m++) {
                    const __m256i t = _mm256_maddubs_epi16(a, _mm256_set1_epi32(x[2 * j * W + m]));
                    const __m256i u = _mm256_maddubs_epi16(b, _mm256_set1_epi32(x[(2 * j + 1) * W + m]));
                    sum16[m] = j ? _mm256_add_epi16(sum16[m], t) : t;
                    IN_REGISTER(sum16[m]);
                    sum16[m] = _mm256_add_epi16(sum16[m], u);
                    IN_REGISTER(sum16[m]);
                }
            }
#pragma GCC unroll 4
            for (int m = 0; m < W; m++) {
                const __m256i t = _mm256_madd_epi16(sum16[m], ones);
                sum32[m] = c ? _mm256_add_epi32(sum32[m], t) : t;
            }
        }
        add_scaled(W, block, sum32, xs, xz, acc);
        block += 32;
    }
}

// 8-bit codes times 14-bit activations. Columns 0 and 2 of a four are widened to int16 in place, then 1 and 3.
INLINE void tile_int8(const int W, const uint8_t *block, const int32_t *x, const float *xs, const float *xz, int groups,
                      int group, __m256 *acc) {
    for (int g = 0; g < groups; g++, xs += W, xz += W) {
        __m256i sum32[4];
#pragma GCC unroll 4
        for (int m = 0; m < W; m++) sum32[m] = _mm256_setzero_si256();
        for (int j = 0; j < group / 4; j++, block += 32, x += 2 * W) {
            const __m256i codes = _mm256_loadu_si256((const __m256i *)block);
            const __m256i even = _mm256_srai_epi16(_mm256_slli_epi16(codes, 8), 8), odd = _mm256_srai_epi16(codes, 8);
            if (j % 2 == 0) prefetch(block);
#pragma GCC unroll 4
            for (int m = 0; m < W; m++) {
                sum32[m] = _mm256_add_epi32(sum32[m], _mm256_madd_epi16(even, _mm256_set1_epi32(x[m])));
                IN_REGISTER(sum32[m]);
                sum32[m] = _mm256_add_epi32(sum32[m], _mm256_madd_epi16(odd, _mm256_set1_epi32(x[W + m])));
                IN_REGISTER(sum32[m]);
            }
        }
        add_scaled(W, block, sum32, xs, xz, acc);
        block += 32;
    }
}

#include "attention.h"
#include "x86_products.h"

LQ_TABLE(lq_kernels_avx2, "avx2", store_acts, multiply)
