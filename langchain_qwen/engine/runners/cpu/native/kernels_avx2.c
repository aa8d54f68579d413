// AVX2, FMA and F16C: x86 processors since 2013.
#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "kernels.h"

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

static void store_acts(const lq_matrix *w, lq_acts *acts, const float *x, int m, int tokens, int begin, int end) {
    const int width = lq_tile_width(m, tokens), lane = m % LQ_TILE, tile = m - lane;
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

// Holds a sum in its register: left alone, GCC reorders the (associative) integer sums of a tile until most of them
// spill to the stack, at a third of the speed.
#define IN_REGISTER(x) __asm__("" : "+x"(x))

// How far ahead of its use a weight is fetched. The hardware's own prefetching stops at each page and leaves a seventh
// of the memory's speed unused.
enum { PREFETCH_BYTES = 2048 };

INLINE void prefetch(const uint8_t *at) { _mm_prefetch((const char *)at + PREFETCH_BYTES, _MM_HINT_T0); }

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
        const __m256 scale = half8(block), scale_zero = half8(block + 16);
        block += 32;
#pragma GCC unroll 4
        for (int m = 0; m < W; m++) {
            acc[m] = _mm256_fmadd_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(sum32[m]), _mm256_set1_ps(xs[m])), scale, acc[m]);
            acc[m] = _mm256_fnmadd_ps(_mm256_set1_ps(xz[m]), scale_zero, acc[m]);
        }
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
        const __m256 scale = half8(block), scale_zero = half8(block + 16);
        block += 32;
#pragma GCC unroll 4
        for (int m = 0; m < W; m++) {
            acc[m] = _mm256_fmadd_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(sum32[m]), _mm256_set1_ps(xs[m])), scale, acc[m]);
            acc[m] = _mm256_fnmadd_ps(_mm256_set1_ps(xz[m]), scale_zero, acc[m]);
        }
    }
}

// Even and odd columns are summed apart: four sums alone could not hide the latency of the multiply-adds.
INLINE void tile_bf16(const int W, const uint8_t *weights, const float *x, int cols, __m256 *acc) {
    __m256 odd[4];
#pragma GCC unroll 4
    for (int m = 0; m < W; m++) odd[m] = _mm256_setzero_ps();
    for (int k = 0; k < cols; k += 2, weights += 32, x += 2 * W) {
        const __m256i bits = _mm256_loadu_si256((const __m256i *)weights);  // 8 rows at k, 8 rows at k + 1
        if (k % 4 == 0) prefetch(weights);
        const __m256i first = _mm256_cvtepu16_epi32(_mm256_castsi256_si128(bits));
        const __m256i second = _mm256_cvtepu16_epi32(_mm256_extracti128_si256(bits, 1));
        const __m256 w0 = _mm256_castsi256_ps(_mm256_slli_epi32(first, 16));
        const __m256 w1 = _mm256_castsi256_ps(_mm256_slli_epi32(second, 16));
#pragma GCC unroll 4
        for (int m = 0; m < W; m++) {
            acc[m] = _mm256_fmadd_ps(_mm256_set1_ps(x[m]), w0, acc[m]);
            odd[m] = _mm256_fmadd_ps(_mm256_set1_ps(x[W + m]), w1, odd[m]);
        }
    }
#pragma GCC unroll 4
    for (int m = 0; m < W; m++) acc[m] = _mm256_add_ps(acc[m], odd[m]);
}

INLINE void multiply_tile(const int W, const lq_matrix *w, const lq_acts *acts, int tile, int panel, float *out) {
    __m256 acc[4];
#pragma GCC unroll 4
    for (int m = 0; m < W; m++) acc[m] = _mm256_setzero_ps();
    if (w->format == LQ_BF16) {
        tile_bf16(W, w->data + (size_t)panel * w->cols * 16, acts->values + (size_t)tile * w->cols, w->cols, acc);
    } else {
        const int groups = w->cols / w->group;
        const size_t block_bytes = (size_t)w->group * (w->format == LQ_INT4 ? 4 : 8) + 32;
        const uint8_t *block = w->data + (size_t)panel * groups * block_bytes;
        const int32_t *x = (const int32_t *)acts->codes + (size_t)tile * w->cols / 4 * (w->format == LQ_INT8 ? 2 : 1);
        const float *xs = acts->scale + (size_t)tile * groups, *xz = acts->sum + (size_t)tile * groups;
        if (w->format == LQ_INT8)
            tile_int8(W, block, x, xs, xz, groups, w->group, acc);
        else if (w->group == 32)  // constants let the compiler keep all sums in registers
            tile_int4(W, block, x, xs, xz, groups, 32, acc);
        else if (w->group == 64)
            tile_int4(W, block, x, xs, xz, groups, 64, acc);
        else
            tile_int4(W, block, x, xs, xz, groups, w->group, acc);
    }
    const __m256 bias = w->bias ? _mm256_loadu_ps(w->bias + panel * 8) : _mm256_setzero_ps();
#pragma GCC unroll 4
    for (int m = 0; m < W; m++)
        _mm256_storeu_ps(out + (size_t)(tile + m) * w->rows + panel * 8, _mm256_add_ps(acc[m], bias));
}

static void multiply(const lq_matrix *w, const lq_acts *acts, int tokens, int first, int last, float *out) {
    // The activations of a long prompt exceed the second-level cache: each tile then serves a few panels in turn.
    const int at_once = tokens > 32 ? 4 : 1;
    for (int begin = first; begin < last; begin += at_once) {
        const int end = begin + at_once < last ? begin + at_once : last;
        for (int tile = 0; tile < tokens; tile += LQ_TILE)
            for (int panel = begin; panel < end; panel++) switch (lq_tile_width(tile, tokens)) {
                    case 1: multiply_tile(1, w, acts, tile, panel, out); break;
                    case 2: multiply_tile(2, w, acts, tile, panel, out); break;
                    case 3: multiply_tile(3, w, acts, tile, panel, out); break;
                    default: multiply_tile(4, w, acts, tile, panel, out);
                }
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

// Query heads that share each load of a key or value: their sums just fit the registers, and are enough of them to hide
// the latency of the multiply-adds.
enum { HEADS_AT_ONCE = 6 };

// Scores of H heads with the 16 tokens of a block.
INLINE void block_scores(const int H, const float *query, int head_dim, const uint16_t *keys, const uint16_t *next_keys,
                         float *scores, size_t stride) {
    __m256 acc[HEADS_AT_ONCE][2];
#pragma GCC unroll 6
    for (int h = 0; h < H; h++) acc[h][0] = acc[h][1] = _mm256_setzero_ps();
    for (int d = 0; d < head_dim; d++) {
        const __m256 k0 = half8(keys + d * LQ_BLOCK), k1 = half8(keys + d * LQ_BLOCK + 8);
        if (d % 2 == 0) _mm_prefetch((const char *)(next_keys + d * LQ_BLOCK), _MM_HINT_T0);
#pragma GCC unroll 6
        for (int h = 0; h < H; h++) {
            const __m256 q = _mm256_set1_ps(query[h * head_dim + d]);
            acc[h][0] = _mm256_fmadd_ps(q, k0, acc[h][0]);
            acc[h][1] = _mm256_fmadd_ps(q, k1, acc[h][1]);
        }
    }
#pragma GCC unroll 6
    for (int h = 0; h < H; h++) {
        _mm256_storeu_ps(scores + h * stride, acc[h][0]);
        _mm256_storeu_ps(scores + h * stride + 8, acc[h][1]);
    }
}

// Adds the block's weighted values to the outputs of H heads.
INLINE void block_values(const int H, const float *weights, size_t stride, int head_dim, const uint16_t *values,
                         const uint16_t *next_values, int tokens, float *out) {
    for (int d = 0; d < head_dim; d += 16) {
        __m256 acc[HEADS_AT_ONCE][2];
#pragma GCC unroll 6
        for (int h = 0; h < H; h++) {
            acc[h][0] = _mm256_loadu_ps(out + h * head_dim + d);
            acc[h][1] = _mm256_loadu_ps(out + h * head_dim + d + 8);
        }
        for (int t = 0; t < tokens; t++) {
            const __m256 v0 = half8(values + t * head_dim + d), v1 = half8(values + t * head_dim + d + 8);
            if (d % 32 == 0) _mm_prefetch((const char *)(next_values + t * head_dim + d), _MM_HINT_T0);
#pragma GCC unroll 6
            for (int h = 0; h < H; h++) {
                const __m256 weight = _mm256_set1_ps(weights[h * stride + t]);
                acc[h][0] = _mm256_fmadd_ps(weight, v0, acc[h][0]);
                acc[h][1] = _mm256_fmadd_ps(weight, v1, acc[h][1]);
            }
        }
#pragma GCC unroll 6
        for (int h = 0; h < H; h++) {
            _mm256_storeu_ps(out + h * head_dim + d, acc[h][0]);
            _mm256_storeu_ps(out + h * head_dim + d + 8, acc[h][1]);
        }
    }
}

INLINE void attend_heads(const int H, const float *query, int head_dim, const uint16_t *keys, const uint16_t *values,
                         size_t block_stride, const int32_t *blocks, int length, float *scores, float *out) {
    const int num_blocks = (length + LQ_BLOCK - 1) / LQ_BLOCK, padded = num_blocks * LQ_BLOCK;
#define NEXT_BLOCK(b) ((size_t)blocks[(b) + 1 < num_blocks ? (b) + 1 : (b)] * block_stride)
    for (int b = 0; b < num_blocks; b++)
        block_scores(H, query, head_dim, keys + (size_t)blocks[b] * block_stride, keys + NEXT_BLOCK(b),
                     scores + b * LQ_BLOCK, (size_t)padded);
    float total[HEADS_AT_ONCE];
#pragma GCC unroll 6
    for (int h = 0; h < H; h++) {
        float *row = scores + (size_t)h * padded;
        for (int t = length; t < padded; t++) row[t] = -INFINITY;  // slots that nobody has written yet
        __m256 largest = _mm256_set1_ps(-INFINITY), sum = _mm256_setzero_ps();
        for (int t = 0; t < padded; t += 8) largest = _mm256_max_ps(largest, _mm256_loadu_ps(row + t));
        largest = _mm256_set1_ps(max8(largest));
        for (int t = 0; t < padded; t += 8) {
            __m256 weight = exp8(_mm256_sub_ps(_mm256_loadu_ps(row + t), largest));
            if (t + 8 > length) {  // exp8 clamps, but what is not there must weigh nothing
                float lanes[8];
                _mm256_storeu_ps(lanes, weight);
                for (int i = 0; i < 8; i++)
                    if (t + i >= length) lanes[i] = 0;
                weight = _mm256_loadu_ps(lanes);
            }
            sum = _mm256_add_ps(sum, weight);
            _mm256_storeu_ps(row + t, weight);
        }
        total[h] = sum8(sum);
    }
    memset(out, 0, sizeof(float) * (size_t)(H * head_dim));
    for (int b = 0; b < num_blocks; b++) {
        const int tokens = length - b * LQ_BLOCK < LQ_BLOCK ? length - b * LQ_BLOCK : LQ_BLOCK;
        block_values(H, scores + b * LQ_BLOCK, (size_t)padded, head_dim, values + (size_t)blocks[b] * block_stride,
                     values + NEXT_BLOCK(b), tokens, out);
    }
#pragma GCC unroll 4
    for (int h = 0; h < H; h++) {
        const __m256 inverse = _mm256_set1_ps(1 / total[h]);
        for (int d = 0; d < head_dim; d += 8)
            _mm256_storeu_ps(out + h * head_dim + d, _mm256_mul_ps(_mm256_loadu_ps(out + h * head_dim + d), inverse));
    }
}

static void attend(const float *query, int group_heads, int head_dim, const uint16_t *keys, const uint16_t *values,
                   size_t block_stride, const int32_t *blocks, int length, float *scores, float *out) {
#define HEADS(n) \
    case n: attend_heads(n, query, head_dim, keys, values, block_stride, blocks, length, scores, out); break;
    for (int rounds = (group_heads + HEADS_AT_ONCE - 1) / HEADS_AT_ONCE; rounds > 0; rounds--) {
        const int heads = (group_heads + rounds - 1) / rounds;  // 7 heads are better split 4 + 3 than 6 + 1
        switch (heads) { HEADS(1) HEADS(2) HEADS(3) HEADS(4) HEADS(5) HEADS(6) }
        query += heads * head_dim;
        out += heads * head_dim;
        group_heads -= heads;
    }
#undef HEADS
}

static void to_half(const float *x, int n, uint16_t *y) {
    for (int i = 0; i < n; i += 8)
        _mm_storeu_si128((__m128i *)(y + i), _mm256_cvtps_ph(_mm256_loadu_ps(x + i), _MM_FROUND_TO_NEAREST_INT));
}

const lq_kernels lq_kernels_avx2 = {
    .name = "avx2",
    .store_acts = store_acts,
    .multiply = multiply,
    .rms_norm = rms_norm,
    .add = add,
    .silu_multiply = silu_multiply,
    .attend = attend,
    .to_half = to_half,
};
