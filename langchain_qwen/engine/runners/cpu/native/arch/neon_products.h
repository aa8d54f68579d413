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

// The K formats; see model.h. Bytes of four rows are half a vector there, and a vector here.
INLINE void span_k(const int FORMAT, const int W, const uint8_t *span, const int32_t *x, const int16_t *sums, int half,
                   int32x4_t *dot, int32x4_t *least) {
    const uint8_t *above = span + LQ_SPAN_CODES, *at = above + (FORMAT - LQ_K4) * LQ_SPAN;
    for (int g = 0; g < 4; g++) {
        int32x4_t sum[TILE];
#pragma GCC unroll 4
        for (int m = 0; m < W; m++) sum[m] = vdupq_n_s32(0);
        for (int j = 0; j < 4; j++) {
            const int vector = g * 4 + j;
            const uint8x16_t pairs = vld1q_u8(span + vector * 32 + half * 16);
            if (j % 2 == 0) fetch(span + vector * 32 + PREFETCH_BYTES);
            uint8x16_t a = vandq_u8(pairs, vdupq_n_u8(15)), b = vshrq_n_u8(pairs, 4);
            if (FORMAT == LQ_K5) {
                const uint8x16_t more = vld1q_u8(above + g * 32 + half * 16);
                a = vorrq_u8(a, vshlq_n_u8(vandq_u8(vshlq_u8(more, vdupq_n_s8((int8_t)(-2 * j))), vdupq_n_u8(1)), 4));
                b = vorrq_u8(b, vshlq_n_u8(vandq_u8(vshlq_u8(more, vdupq_n_s8((int8_t)(-2 * j - 1))), vdupq_n_u8(1)), 4));
            }
            if (FORMAT == LQ_K6) {
                const uint8x16_t more = vld1q_u8(above + vector / 2 * 32 + half * 16);
                a = vorrq_u8(a, vshlq_n_u8(vandq_u8(vshlq_u8(more, vdupq_n_s8((int8_t)(-4 * (j % 2)))), vdupq_n_u8(3)), 4));
                b = vorrq_u8(b, vshlq_n_u8(vandq_u8(vshlq_u8(more, vdupq_n_s8((int8_t)(-4 * (j % 2) - 2))), vdupq_n_u8(3)), 4));
            }
            int32_t scales[4];
            for (int r = 0; r < 4; r++) {
                const int place = half * 16 + g * 4 + r;
                scales[r] = FORMAT == LQ_K6 ? (int8_t)at[vector / 8 * 32 + half * 16 + vector / 2 % 4 * 4 + r]
                                            : (at[place] & 15) | (at[32 + place % 16] >> half * 2 & 3) << 4;
            }
            const int32x4_t scale = vld1q_s32(scales);
#pragma GCC unroll 4
            for (int m = 0; m < W; m++) {
                if (FORMAT == LQ_K6 && j == 2) sum[m] = vdupq_n_s32(0);
                sum[m] = vdotq_s32(sum[m], vreinterpretq_s8_u8(a), vreinterpretq_s8_s32(broadcast(x + 2 * vector * W + m)));
                sum[m] = vdotq_s32(sum[m], vreinterpretq_s8_u8(b), vreinterpretq_s8_s32(broadcast(x + (2 * vector + 1) * W + m)));
                if (FORMAT == LQ_K6 ? j % 2 == 1 : j == 3) dot[m] = vmlaq_s32(dot[m], sum[m], scale);
            }
            if (FORMAT == LQ_K6 && j % 2 == 1)
#pragma GCC unroll 4
                for (int m = 0; m < W; m++)
                    least[m] = vmlaq_s32(least[m], scale, vdupq_n_s32(sums[(g * W + m) * 2 + j / 2]));
        }
        if (FORMAT == LQ_K6) continue;
        int32_t minima[4];
        for (int r = 0; r < 4; r++) {
            const int place = half * 16 + g * 4 + r;
            minima[r] = at[place] >> 4 | (at[32 + place % 16] >> (half * 2 + 4) & 3) << 4;
        }
        const int32x4_t minimum = vld1q_s32(minima);
#pragma GCC unroll 4
        for (int m = 0; m < W; m++)
            least[m] = vmlaq_s32(least[m], minimum, vdupq_n_s32(sums[(g / 2 * W + m) * 2 + g % 2]));
    }
}

INLINE void blocks_k(const int FORMAT, const int W, const lq_matrix *w, const uint8_t *block, const lq_acts *acts, int tile,
                     vec acc[][2]) {
    const int spans = w->group / LQ_SPAN, span_bytes = lq_span_bytes(FORMAT), blocks = w->cols / w->group;
    const int32_t *x = (const int32_t *)acts->codes + (size_t)tile * w->cols / 4;
    const int together = lq_sum_columns(FORMAT);
    const int16_t *sums = acts->sums16 + (size_t)tile * (w->cols / together);
    const float *xs = acts->scale + (size_t)tile * w->cols / LQ_SPAN;
    for (int n = 0; n < blocks; n++) {
        const uint8_t *super = block + spans * span_bytes;
        for (int s = 0; s < spans; s++, block += span_bytes, x += LQ_SPAN / 4 * W, xs += W, sums += LQ_SPAN / together * W)
            for (int half = 0; half < 2; half++) {
                const vec d = load_half((const uint16_t *)super + half * 4);
                const vec dmin = FORMAT == LQ_K6 ? d : load_half((const uint16_t *)super + 8 + half * 4);
                int32x4_t dot[TILE], least[TILE];
#pragma GCC unroll 4
                for (int m = 0; m < W; m++) dot[m] = least[m] = vdupq_n_s32(0);
                span_k(FORMAT, W, block, x, sums, half, dot, least);
#pragma GCC unroll 4
                for (int m = 0; m < W; m++) {
                    if (FORMAT == LQ_K6) dot[m] = vsubq_s32(dot[m], vshlq_n_s32(least[m], 5));
                    vec sum = mul2(vcvtq_f32_s32(dot[m]), d);
                    if (FORMAT != LQ_K6) sum = fnma3(vcvtq_f32_s32(least[m]), dmin, sum);
                    acc[m][half] = fma3(sum, set1(xs[m]), acc[m][half]);
                }
            }
        block = super + (FORMAT == LQ_K6 ? 16 : 32);
    }
}

INLINE void tile_k(const int W, const lq_matrix *w, const uint8_t *block, const lq_acts *acts, int tile, vec acc[][2]) {
    if (w->format == LQ_K4)
        blocks_k(LQ_K4, W, w, block, acts, tile, acc);
    else if (w->format == LQ_K5)
        blocks_k(LQ_K5, W, w, block, acts, tile, acc);
    else
        blocks_k(LQ_K6, W, w, block, acts, tile, acc);
}

INLINE void multiply_tile(const int W, const lq_matrix *w, const lq_acts *acts, int tile, int panel, float *out) {
    vec acc[TILE][2];
#pragma GCC unroll 4
    for (int m = 0; m < W; m++) acc[m][0] = acc[m][1] = set1(0);
    const uint8_t *block = w->data + (size_t)panel * lq_panel_bytes(w);
    if (lq_is_k(w->format))
        tile_k(W, w, block, acts, tile, acc);
    else if (w->format == LQ_BF16)
        tile_bf16(W, block, acts->values + (size_t)tile * w->cols, w->cols, acc);
    else
        tile_quantised(W, w, block, acts, tile, acc);
#pragma GCC unroll 4
    for (int m = 0; m < W; m++)
        for (int half = 0; half < 2; half++) {
            const vec bias = w->bias ? load(w->bias + panel * 8 + half * 4) : set1(0);
            store(out + (size_t)(tile + m) * w->stride + panel * 8 + half * 4, add2(acc[m][half], bias));
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
