// From float weights to the packed forms of model.h.
#include <math.h>
#include <string.h>

#include "half.h"
#include "kernels.h"
#include "x86.h"

enum { LANES = 8 };
typedef float lanes __attribute__((vector_size(4 * LANES)));
typedef int32_t lanes_int __attribute__((vector_size(4 * LANES)));

// What the packers return. Not finite: a weight, or the scale that fp16 would have to hold.
enum { PACKED = 0, NOT_FINITE = 1, NO_SUCH_SHAPE = 2 };

static int is_finite(float x) {  // x - x is NaN else, and 0 for what is finite; no branch, so that it costs nothing
    return x - x == 0;
}

static int has_shape(int rows, int cols, int group) {
    return rows > 0 && rows % 8 == 0 && group >= 32 && group <= LQ_MAX_GROUP && group % 32 == 0 && cols > 0 &&
           cols % group == 0;
}

static float lanes_sum(const lanes *v) {
    float sum = 0;
    for (int i = 0; i < LANES; i++) sum += (*v)[i];
    return sum;
}

// The same source for both instruction sets; sums run in eight lanes in either, so the results are the same.
#define TARGET
#define NAME(x) x
#include "fit.h"
#if defined(__x86_64__)
#undef TARGET
#undef NAME
#define TARGET __attribute__((target("avx2,fma")))
#define NAME(x) x##_avx2
#include "fit.h"
#endif

static int fit_int4(const float *w, int n, float *codes, float *scale, float *offset) {
#if defined(__x86_64__)
    if (lq_x86_has(LQ_AVX2)) return fit_avx2(w, n, codes, scale, offset);
#endif
    return fit(w, n, codes, scale, offset);
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
