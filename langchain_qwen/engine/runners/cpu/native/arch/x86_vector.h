// Vectors of eight floats, for processors with AVX2, FMA and F16C.
#pragma once
#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "../forms.h"
#include "../kernels.h"

#define INLINE static inline __attribute__((always_inline))

INLINE __m256 half8(const void *p) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)); }

INLINE float sum8(__m256 v) {  // in the order of the portable path's eight partial sums
    float lanes[8], sum = 0;
    _mm256_storeu_ps(lanes, v);
    for (int i = 0; i < 8; i++) sum += lanes[i];
    return sum;
}

INLINE float max8(__m256 v) {
    __m128 m = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    return _mm_cvtss_f32(_mm_max_ss(m, _mm_movehdup_ps(m)));
}

// exp(x) = 2^n * exp(r), |r| <= ln(2)/2, with the polynomial of Cephes (expf.c); relative error below 2e-7.
INLINE __m256 exp8(__m256 x) {
    x = _mm256_max_ps(_mm256_min_ps(x, _mm256_set1_ps(88.3762626647949f)), _mm256_set1_ps(-87.3365478515625f));
    const __m256 n = _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(1.44269504088896341f)),
                                     _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0.693359375f), x);
    r = _mm256_fnmadd_ps(n, _mm256_set1_ps(-2.12194440e-4f), r);
    __m256 p = _mm256_set1_ps(1.9875691500e-4f);
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.3981999507e-3f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(8.3334519073e-3f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(4.1665795894e-2f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.6666665459e-1f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(5.0000001201e-1f));
    p = _mm256_fmadd_ps(p, _mm256_mul_ps(r, r), _mm256_add_ps(r, _mm256_set1_ps(1)));
    const __m256i power = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23);
    return _mm256_mul_ps(p, _mm256_castsi256_ps(power));
}

static void store_acts_k(const lq_matrix *w, lq_acts *acts, const float *x, int m, int tokens, int begin, int end);

static void store_acts(const lq_matrix *w, lq_acts *acts, const float *x, int m, int tokens, int begin, int end) {
    const int width = lq_tile_width(m, tokens), lane = m % LQ_TILE, tile = m - lane;
    if (w->format == LQ_BF16) {
        float *values = acts->values + (size_t)tile * w->cols;
        for (int k = begin; k < end; k++) values[(size_t)k * width + lane] = x[k];
        return;
    }
    if (lq_is_k(w->format)) {
        store_acts_k(w, acts, x, m, tokens, begin, end);
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
static void rms_norm(const float *x, const float *weight, float eps, int n, float *y) {
    __m256 squares = _mm256_setzero_ps();
    for (int i = 0; i < n; i += 8) {
        const __m256 v = _mm256_loadu_ps(x + i);
        squares = _mm256_fmadd_ps(v, v, squares);
    }
    const __m256 factor = _mm256_set1_ps(1 / sqrtf(sum8(squares) / (float)n + eps));
    for (int i = 0; i < n; i += 8)
        _mm256_storeu_ps(y + i, _mm256_mul_ps(_mm256_mul_ps(_mm256_loadu_ps(x + i), factor), _mm256_loadu_ps(weight + i)));
}

static void add(float *x, const float *y, int n) {
    for (int i = 0; i < n; i += 8) _mm256_storeu_ps(x + i, _mm256_add_ps(_mm256_loadu_ps(x + i), _mm256_loadu_ps(y + i)));
}

static void silu_multiply(const float *gate, const float *up, int n, float *y) {
    const __m256 one = _mm256_set1_ps(1), zero = _mm256_setzero_ps();
    for (int i = 0; i < n; i += 8) {
        const __m256 g = _mm256_loadu_ps(gate + i);
        const __m256 silu = _mm256_div_ps(g, _mm256_add_ps(one, exp8(_mm256_sub_ps(zero, g))));
        _mm256_storeu_ps(y + i, _mm256_mul_ps(silu, _mm256_loadu_ps(up + i)));
    }
}

static void to_half(const float *x, int n, uint16_t *y) {
    for (int i = 0; i < n; i += 8)
        _mm_storeu_si128((__m128i *)(y + i), _mm256_cvtps_ph(_mm256_loadu_ps(x + i), _MM_FROUND_TO_NEAREST_INT));
}
