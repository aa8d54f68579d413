// From float weights to the packed forms of model.h.
#include <math.h>
#include <string.h>

#include "half.h"
#include "pack.h"

// One source for both instruction sets; sums run in eight lanes in either, so the results are the same.
#if defined(__x86_64__) && defined(__gnu_linux__)
#define CLONES __attribute__((target_clones("avx2,fma", "default")))
#else
#define CLONES
#endif

enum { LANES = 8 };

static int is_finite(float x) {  // x - x is NaN else, and 0 for what is finite; no branch, so that it costs nothing
    return x - x == 0;
}

static int has_shape(int rows, int cols, int group) {
    return rows > 0 && rows % 8 == 0 && group >= 32 && group <= LQ_MAX_GROUP && group % 32 == 0 && cols > 0 &&
           cols % group == 0;
}

static float lanes_sum(const float *lanes) {
    float sum = 0;
    for (int i = 0; i < LANES; i++) sum += lanes[i];
    return sum;
}

// Scale and offset of weight = scale * code - offset that fit best for given codes (least squares), and the error.
static float refit(const float *w, const float *codes, int n, float *scale, float *offset) {
    float c[LANES] = {0}, cc[LANES] = {0}, x[LANES] = {0}, cx[LANES] = {0}, error[LANES] = {0};
    for (int i = 0; i < n; i += LANES)
        for (int l = 0; l < LANES; l++) {
            c[l] += codes[i + l];
            cc[l] += codes[i + l] * codes[i + l];
            x[l] += w[i + l];
            cx[l] += codes[i + l] * w[i + l];
        }
    const float sc = lanes_sum(c), scc = lanes_sum(cc), sx = lanes_sum(x), scx = lanes_sum(cx), count = (float)n;
    const float determinant = count * scc - sc * sc;
    if (determinant > 0) {
        *scale = (count * scx - sc * sx) / determinant;
        *offset = (*scale * sc - sx) / count;
    }
    *scale = lq_half_to_float(lq_float_to_half(*scale));
    *offset = lq_half_to_float(lq_float_to_half(*offset));
    for (int i = 0; i < n; i += LANES)
        for (int l = 0; l < LANES; l++) {
            const float d = *scale * codes[i + l] - *offset - w[i + l];
            error[l] += d * d;
        }
    return lanes_sum(error);
}

static void round_codes(const float *w, int n, float inverse, float offset, float *codes) {
    for (int i = 0; i < n; i++) {
        const float code = rintf((w[i] + offset) * inverse);
        codes[i] = code < 0 ? 0 : code > 15 ? 15 : code;
    }
}

// The 4-bit fit with the smallest squared error among ranges shrunk a little at both ends, each refitted by least
// squares: outliers are cut where the rest gains more. Returns 0 where there is none.
CLONES static int fit_int4(const float *w, int n, float *best_codes, float *best_scale, float *best_offset) {
    float low = w[0], high = w[0], codes[LQ_MAX_GROUP];
    int all_finite = 1;
    for (int i = 0; i < n; i++) {
        low = w[i] < low ? w[i] : low;
        high = w[i] > high ? w[i] : high;
        all_finite &= is_finite(w[i]);
    }
    if (!all_finite) return 0;
    *best_scale = 0;
    *best_offset = lq_half_to_float(lq_float_to_half(-low));
    memset(best_codes, 0, sizeof(float) * (size_t)n);
    if (!(high > low)) return is_finite(*best_offset);
    float best = INFINITY;
    for (int step = 0; step < 12; step++) {
        const float steps = 14.4f + 0.2f * (float)step;  // 15 steps would span the range exactly
        float scale = (high - low) / steps, offset = scale * (steps - 15) / 2 - low;
        for (int round = 0; round < 2; round++) {
            round_codes(w, n, 1 / scale, offset, codes);
            const float error = refit(w, codes, n, &scale, &offset);
            if (error < best) {
                best = error;
                *best_scale = scale;
                *best_offset = offset;
                memcpy(best_codes, codes, sizeof(float) * (size_t)n);
            }
            if (!(scale > 0)) break;
        }
    }
    // Where the range is too small for fp16, or for arithmetic, the smallest weight stands for all.
    return is_finite(*best_offset) && (is_finite(best) || high - low < 0x1p-24f);
}

static void put_scales(uint8_t *block_end, int row, float scale, float scale_zero) {
    const uint16_t halves[2] = {lq_float_to_half(scale), lq_float_to_half(scale_zero)};
    memcpy(block_end + row * 2, &halves[0], 2);
    memcpy(block_end + 16 + row * 2, &halves[1], 2);
}

// Each packs some rows, a multiple of 8, of a matrix: `weights` is [rows][cols], `packed` where their first panel goes.

EXPORT int lq_pack_int4(const float *weights, int rows, int cols, int group, uint8_t *packed) {
    if (!has_shape(rows, cols, group)) return NO_SUCH_SHAPE;
    const int groups = cols / group;
    const size_t block_bytes = (size_t)group * 4 + 32;
    float codes[LQ_MAX_GROUP], scale, offset;
    for (int row = 0; row < rows; row++) {
        for (int g = 0; g < groups; g++, weights += group) {
            if (!fit_int4(weights, group, codes, &scale, &offset)) return NOT_FINITE;
            uint8_t *block = packed + ((size_t)(row / 8) * groups + g) * block_bytes;
            for (int k = 0; k < group; k += 8)
                for (int i = 0; i < 4; i++)
                    block[k / 8 * 32 + row % 8 * 4 + i] = (uint8_t)((int)codes[k + i] | (int)codes[k + 4 + i] << 4);
            put_scales(block + (size_t)group * 4, row % 8, scale, offset);
        }
    }
    return PACKED;
}

// Symmetric: the zero is zero.
EXPORT int lq_pack_int8(const float *weights, int rows, int cols, int group, uint8_t *packed) {
    if (!has_shape(rows, cols, group)) return NO_SUCH_SHAPE;
    const int groups = cols / group;
    const size_t block_bytes = (size_t)group * 8 + 32;
    for (int row = 0; row < rows; row++) {
        for (int g = 0; g < groups; g++, weights += group) {
            float largest = 0;
            int all_finite = 1;
            for (int k = 0; k < group; k++) {
                largest = fmaxf(largest, fabsf(weights[k]));
                all_finite &= is_finite(weights[k]);
            }
            const float scale = lq_half_to_float(lq_float_to_half(largest / 127)), inverse = scale > 0 ? 1 / scale : 0;
            if (!all_finite || !is_finite(scale)) return NOT_FINITE;
            uint8_t *block = packed + ((size_t)(row / 8) * groups + g) * block_bytes;
            for (int k = 0; k < group; k++) {
                const float code = rintf(weights[k] * inverse);
                block[k / 4 * 32 + row % 8 * 4 + k % 4] = (uint8_t)(int8_t)(code < -127 ? -127 : code > 127 ? 127 : code);
            }
            put_scales(block + (size_t)group * 8, row % 8, scale, 0);
        }
    }
    return PACKED;
}

EXPORT int lq_pack_bf16(const float *weights, int rows, int cols, int group, uint8_t *packed) {
    if (!has_shape(rows, cols, group)) return NO_SUCH_SHAPE;
    int all_finite = 1;
    for (int row = 0; row < rows; row++)
        for (int k = 0; k < cols; k++, weights++) {
            uint32_t bits;
            memcpy(&bits, weights, 4);
            const uint16_t rounded = (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
            all_finite &= (rounded & 0x7f80) != 0x7f80;
            memcpy(packed + (((size_t)(row / 8) * cols + k) * 8 + row % 8) * 2, &rounded, 2);
        }
    return all_finite ? PACKED : NOT_FINITE;
}
