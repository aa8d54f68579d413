// Attention in vectors of eight floats.
#pragma once
#include "x86_vector.h"

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
