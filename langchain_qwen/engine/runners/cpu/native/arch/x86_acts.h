// Activations in tiles of up to TILE tokens, with AVX2.
#pragma once
#include <immintrin.h>
#include <string.h>

#include "../kernels.h"

static inline float max8(__m256 v) {
    __m128 m = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    return _mm_cvtss_f32(_mm_max_ss(m, _mm_movehdup_ps(m)));
}

static void store_acts(const lq_matrix *w, lq_acts *acts, const float *x, int m, int tokens, int begin, int end) {
    const int width = lq_tile_width(m, tokens, TILE), lane = m % TILE, tile = m - lane;
    if (w->format == LQ_BF16) {
        float *values = acts->values + (size_t)tile * w->cols;
        for (int k = begin; k < end; k++) values[(size_t)k * width + lane] = x[k];
        return;
    }
    const int group = w->group, groups = w->cols / group;
    const int wide = w->format == LQ_INT8;  // a four of columns takes two int32 rather than one
    const float steps = wide ? LQ_LARGEST_INT16 : 127;
    int32_t *codes = (int32_t *)acts->codes + (size_t)tile * w->cols / 4 * (1 + wide);
    float *scales = acts->scale + (size_t)tile * groups, *sums = acts->sum + (size_t)tile * groups;
    const __m256 no_sign = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
    for (int g = begin / group; g < end / group; g++) {
        const float *in = x + g * group;
        __m256 largest8 = _mm256_setzero_ps();
        for (int k = 0; k < group; k += 8)
            largest8 = _mm256_max_ps(largest8, _mm256_and_ps(_mm256_loadu_ps(in + k), no_sign));
        const float largest = max8(largest8), scale = largest / steps, inverse = largest > 0 ? steps / largest : 0;
        const __m256 inverse8 = _mm256_set1_ps(inverse);
        __m256i sum8 = _mm256_setzero_si256();
        int32_t *to = codes + (size_t)(g * group / 4) * width * (1 + wide) + lane;
        for (int k = 0; k < group; k += 8, to += 2 * width * (1 + wide)) {
            const __m256i c = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(in + k), inverse8));
            sum8 = _mm256_add_epi32(sum8, c);
            if (wide) {
                int32_t eight[8];
                _mm256_storeu_si256((__m256i *)eight, c);
                for (int i = 0; i < 4; i++) {  // columns 0 and 2, 1 and 3, 4 and 6, 5 and 7
                    const int first = i / 2 * 4 + i % 2;
                    to[i * width] = (eight[first] & 0xffff) | (int32_t)((uint32_t)eight[first + 2] << 16);
                }
            } else {
                const __m128i c16 = _mm_packs_epi32(_mm256_castsi256_si128(c), _mm256_extracti128_si256(c, 1));
                const uint64_t c8 = (uint64_t)_mm_cvtsi128_si64(_mm_packs_epi16(c16, c16));
                to[0] = (int32_t)(uint32_t)c8;
                to[width] = (int32_t)(uint32_t)(c8 >> 32);
            }
        }
        uint32_t lanes[8], sum = 0;  // unsigned: what is no number has the code -2^31, eight of which overflow
        _mm256_storeu_si256((__m256i *)lanes, sum8);
        for (int i = 0; i < 8; i++) sum += lanes[i];
        scales[g * width + lane] = scale;
        sums[g * width + lane] = scale * (float)(int32_t)sum;
    }
}
