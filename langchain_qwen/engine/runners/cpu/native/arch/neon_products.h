// The matrix products of ARM: int4 by the dot products of eight bits, or by the matrix products of i8mm where MATRICES is
// defined. No processor of this kind was at hand for measuring; what is here keeps to its registers.
#pragma once
#include "../kernels.h"

INLINE int32x4_t broadcast(const int32_t *x) { return vld1q_dup_s32(x); }

// How far ahead of its use a weight is fetched.
enum { PREFETCH_BYTES = 1024 };

// Ends a group: adds the scaled sums of its codes, and takes their share of the zeros away. A token has two vectors.
INLINE void add_scaled(const int W, const uint8_t *scales, int32x4_t sums[][2], const float *xs, const float *xz, vec acc[][2]) {
    for (int half = 0; half < 2; half++) {
        const vec scale = load_half((const uint16_t *)scales + half * 4);
        const vec scale_zero = load_half((const uint16_t *)scales + 8 + half * 4);
#pragma GCC unroll 4
        for (int m = 0; m < W; m++) {
            acc[m][half] = fma3(mul2(vcvtq_f32_s32(sums[m][half]), set1(xs[m])), scale, acc[m][half]);
            acc[m][half] = fnma3(set1(xz[m]), scale_zero, acc[m][half]);
        }
    }
}

INLINE void dot_int4(const int W, const uint8_t *block, const int32_t *x, int group, int32x4_t sums[][2]) {
#pragma GCC unroll 4
    for (int m = 0; m < W; m++) sums[m][0] = sums[m][1] = vdupq_n_s32(0);
    for (int j = 0; j < group / 8; j++, block += 32, x += 2 * W) {
        if (j % 2 == 0) fetch(block + PREFETCH_BYTES);
        for (int half = 0; half < 2; half++) {  // four rows each
            const uint8x16_t pairs = vld1q_u8(block + half * 16);
            const int8x16_t a = vreinterpretq_s8_u8(vandq_u8(pairs, vdupq_n_u8(15)));
            const int8x16_t b = vreinterpretq_s8_u8(vshrq_n_u8(pairs, 4));
#pragma GCC unroll 4
            for (int m = 0; m < W; m++) {
                sums[m][half] = vdotq_s32(sums[m][half], a, vreinterpretq_s8_s32(broadcast(x + m)));
                sums[m][half] = vdotq_s32(sums[m][half], b, vreinterpretq_s8_s32(broadcast(x + W + m)));
            }
        }
    }
}

#ifdef MATRICES
// Two rows of eight columns times two tokens of them in one instruction, for tiles of two and four tokens.
INLINE void matrix_int4(const int W, const uint8_t *block, const int32_t *x, int group, int32x4_t sums[][2]) {
    int32x4_t all[2][4];  // of two tokens, of two rows: row 0 of both tokens, then row 1
#pragma GCC unroll 4
    for (int r = 0; r < 4; r++)
        for (int p = 0; p < W / 2; p++) all[p][r] = vdupq_n_s32(0);
    for (int j = 0; j < group / 8; j++, block += 32, x += 2 * W) {
        if (j % 2 == 0) fetch(block + PREFETCH_BYTES);
        int8x16_t rows[4];
        for (int half = 0; half < 2; half++) {
            const uint8x16_t pairs = vld1q_u8(block + half * 16);
            const uint32x4_t a = vreinterpretq_u32_u8(vandq_u8(pairs, vdupq_n_u8(15)));
            const uint32x4_t b = vreinterpretq_u32_u8(vshrq_n_u8(pairs, 4));
            rows[2 * half] = vreinterpretq_s8_u32(vzip1q_u32(a, b));
            rows[2 * half + 1] = vreinterpretq_s8_u32(vzip2q_u32(a, b));
        }
#pragma GCC unroll 2
        for (int p = 0; p < W / 2; p++) {
            const int32x4_t a = vcombine_s32(vld1_s32(x + 2 * p), vdup_n_s32(0));
            const int32x4_t b = vcombine_s32(vld1_s32(x + W + 2 * p), vdup_n_s32(0));
            const int8x16_t tokens = vreinterpretq_s8_s32(vzip1q_s32(a, b));
#pragma GCC unroll 4
            for (int r = 0; r < 4; r++) all[p][r] = vmmlaq_s32(all[p][r], rows[r], tokens);
        }
    }
    for (int p = 0; p < W / 2; p++)
        for (int half = 0; half < 2; half++) {
            sums[2 * p][half] = vuzp1q_s32(all[p][2 * half], all[p][2 * half + 1]);
            sums[2 * p + 1][half] = vuzp2q_s32(all[p][2 * half], all[p][2 * half + 1]);
        }
}
#endif

// 8-bit codes times 14-bit activations. Columns 0 and 2 of a four are widened to int16 in place, then 1 and 3.
INLINE void dot_int8(const int W, const uint8_t *block, const int32_t *x, int group, int32x4_t sums[][2]) {
    int32x4_t all[TILE][4];  // two rows each: the products of a row lie side by side
#pragma GCC unroll 4
    for (int m = 0; m < W; m++)
        for (int r = 0; r < 4; r++) all[m][r] = vdupq_n_s32(0);
    for (int j = 0; j < group / 4; j++, block += 32, x += 2 * W) {
        if (j % 2 == 0) fetch(block + PREFETCH_BYTES);
        for (int half = 0; half < 2; half++) {
            const int16x8_t codes = vreinterpretq_s16_u8(vld1q_u8(block + half * 16));
            const int16x8_t even = vshrq_n_s16(vshlq_n_s16(codes, 8), 8), odd = vshrq_n_s16(codes, 8);
#pragma GCC unroll 4
            for (int m = 0; m < W; m++) {
                const int16x8_t u = vreinterpretq_s16_s32(broadcast(x + m)), v = vreinterpretq_s16_s32(broadcast(x + W + m));
                int32x4_t *two = all[m] + 2 * half;
                two[0] = vmlal_s16(two[0], vget_low_s16(even), vget_low_s16(u));
                two[1] = vmlal_high_s16(two[1], even, u);
                two[0] = vmlal_s16(two[0], vget_low_s16(odd), vget_low_s16(v));
                two[1] = vmlal_high_s16(two[1], odd, v);
            }
        }
    }
#pragma GCC unroll 4
    for (int m = 0; m < W; m++)
        for (int half = 0; half < 2; half++) sums[m][half] = vpaddq_s32(all[m][2 * half], all[m][2 * half + 1]);
}

INLINE void tile_quantised(const int W, const lq_matrix *w, const uint8_t *block, const lq_acts *acts, int tile, vec acc[][2]) {
    const int group = w->group, groups = w->cols / group, wide = w->format == LQ_INT8;
    const int32_t *x = (const int32_t *)acts->codes + (size_t)tile * w->cols / 4 * (1 + wide);
    const float *xs = acts->scale + (size_t)tile * groups, *xz = acts->sum + (size_t)tile * groups;
    for (int g = 0; g < groups; g++, xs += W, xz += W, x += group / 4 * W * (1 + wide)) {
        int32x4_t sums[TILE][2];
        if (wide)
            dot_int8(W, block, x, group, sums);
#ifdef MATRICES
        else if (W % 2 == 0)
            matrix_int4(W, block, x, group, sums);
#endif
        else
            dot_int4(W, block, x, group, sums);
        block += group * (wide ? 8 : 4);
        add_scaled(W, block, sums, xs, xz, acc);
        block += 32;
    }
}

INLINE void tile_bf16(const int W, const uint8_t *block, const float *x, int cols, vec acc[][2]) {
    vec odd[TILE][2];
#pragma GCC unroll 4
    for (int m = 0; m < W; m++) odd[m][0] = odd[m][1] = set1(0);
    for (int k = 0; k < cols; k++, block += 16, x += W) {
        const uint16x8_t bits = vreinterpretq_u16_u8(vld1q_u8(block));
        const vec w0 = vreinterpretq_f32_u32(vshll_n_u16(vget_low_u16(bits), 16));
        const vec w1 = vreinterpretq_f32_u32(vshll_high_n_u16(bits, 16));
        vec(*to)[2] = k % 2 ? odd : acc;
        if (k % 4 == 0) fetch(block + PREFETCH_BYTES);
#pragma GCC unroll 4
        for (int m = 0; m < W; m++) {
            to[m][0] = fma3(set1(x[m]), w0, to[m][0]);
            to[m][1] = fma3(set1(x[m]), w1, to[m][1]);
        }
    }
#pragma GCC unroll 4
    for (int m = 0; m < W; m++) acc[m][0] = add2(acc[m][0], odd[m][0]), acc[m][1] = add2(acc[m][1], odd[m][1]);
}

INLINE void multiply_tile(const int W, const lq_matrix *w, const lq_acts *acts, int tile, int panel, float *out) {
    vec acc[TILE][2];
#pragma GCC unroll 4
    for (int m = 0; m < W; m++) acc[m][0] = acc[m][1] = set1(0);
    const uint8_t *block = w->data + (size_t)panel * lq_panel_bytes(w);
    if (w->format == LQ_BF16)
        tile_bf16(W, block, acts->values + (size_t)tile * w->cols, w->cols, acc);
    else
        tile_quantised(W, w, block, acts, tile, acc);
#pragma GCC unroll 4
    for (int m = 0; m < W; m++)
        for (int half = 0; half < 2; half++) {
            const vec bias = w->bias ? load(w->bias + panel * 8 + half * 4) : set1(0);
            store(out + (size_t)(tile + m) * w->rows + panel * 8 + half * 4, add2(acc[m][half], bias));
        }
}

static void multiply(const lq_matrix *w, const lq_acts *acts, int tokens, int first, int last, float *out) {
    const int at_once = tokens > 32 ? 4 : 1;  // the activations of a long prompt exceed the caches
    for (int begin = first; begin < last; begin += at_once) {
        const int end = begin + at_once < last ? begin + at_once : last;
        for (int tile = 0; tile < tokens; tile += TILE)
            for (int panel = begin; panel < end; panel++) switch (lq_tile_width(tile, tokens, TILE)) {
                    case 1: multiply_tile(1, w, acts, tile, panel, out); break;
                    case 2: multiply_tile(2, w, acts, tile, panel, out); break;
                    case 3: multiply_tile(3, w, acts, tile, panel, out); break;
                    default: multiply_tile(4, w, acts, tile, panel, out);
                }
    }
}
