// Attention over one segment, in the vectors of the instruction set. A row is one head of one query. Rows are taken
// ROWS_AT_ONCE at a time: each key and value that is loaded serves all of them, and they hide the latency of one another.
#pragma once
#include <math.h>
#include <string.h>

#include "../kernels.h"
#include "vector.h"

enum { BLOCK_VECTORS = LQ_BLOCK / LANES, PIECE = 2 * LQ_BLOCK, SEGMENT_BLOCKS = LQ_SEGMENT / LQ_BLOCK };

// Scores of R rows with the 16 tokens of a block; `query` [head_dim][R]. The keys that come next are
// fetched near, and the values of these keys into the second cache, where the next pass finds them.
INLINE void block_scores(const int R, const float *query, int head_dim, const uint16_t *keys, const uint16_t *next_keys,
                         const uint16_t *values, float *scores) {
    vec acc[ROWS_AT_ONCE][BLOCK_VECTORS];
#pragma GCC unroll 12
    for (int r = 0; r < R; r++)
#pragma GCC unroll 4
        for (int v = 0; v < BLOCK_VECTORS; v++) acc[r][v] = set1(0);
    for (int d = 0; d < head_dim; d++, query += R) {
        vec k[BLOCK_VECTORS];
#pragma GCC unroll 4
        for (int v = 0; v < BLOCK_VECTORS; v++) k[v] = load_half(keys + d * LQ_BLOCK + v * LANES);
        if (values && d % 2 == 0) fetch(next_keys + d * LQ_BLOCK), fetch_later(values + d * LQ_BLOCK);
#pragma GCC unroll 12
        for (int r = 0; r < R; r++) {
            const vec q = set1(query[r]);
#pragma GCC unroll 4
            for (int v = 0; v < BLOCK_VECTORS; v++) acc[r][v] = fma3(q, k[v], acc[r][v]);
        }
    }
#pragma GCC unroll 12
    for (int r = 0; r < R; r++)
#pragma GCC unroll 4
        for (int v = 0; v < BLOCK_VECTORS; v++) store(scores + r * LQ_SEGMENT + v * LANES, acc[r][v]);
}

// Adds the weighted values of the tokens [begin, end) of a segment to V vectors of the sums of R rows. Keys of the next
// segment are fetched meanwhile, as far as there are any before its block `fetched`: so memory has work in both passes.
INLINE void add_values(const int R, const int V, const lq_queries *q, const int32_t *blocks, int begin, int end, int d,
                       int fetched, const float *weights, float *sums) {
    vec acc[ROWS_AT_ONCE][WIDE_VALUES * BLOCK_VECTORS];
    const int head_dim = q->head_dim;
#pragma GCC unroll 12
    for (int r = 0; r < R; r++)
#pragma GCC unroll 4
        for (int v = 0; v < V; v++) acc[r][v] = load(sums + r * head_dim + d + v * LANES);
    for (int t = begin; t < end;) {
        const int block = t / LQ_BLOCK, stop = (block + 1) * LQ_BLOCK < end ? (block + 1) * LQ_BLOCK : end;
        const uint16_t *values = q->values + (size_t)blocks[block] * q->block_stride + d;
        const bool fetches = block < fetched && d % (64 / (int)sizeof *values) == 0;  // each line once
        const uint16_t *keys = fetches ? q->keys + (size_t)blocks[block + SEGMENT_BLOCKS] * q->block_stride + d : values;
        for (; t < stop; t++) {
            if (fetches) fetch_later(keys + t % LQ_BLOCK * head_dim);
            vec x[WIDE_VALUES * BLOCK_VECTORS];
#pragma GCC unroll 4
            for (int v = 0; v < V; v++) x[v] = load_half(values + t % LQ_BLOCK * head_dim + v * LANES);
#pragma GCC unroll 12
            for (int r = 0; r < R; r++) {
                const vec weight = set1(weights[r * LQ_SEGMENT + t]);
#pragma GCC unroll 4
                for (int v = 0; v < V; v++) acc[r][v] = fma3(weight, x[v], acc[r][v]);
            }
        }
    }
#pragma GCC unroll 12
    for (int r = 0; r < R; r++)
#pragma GCC unroll 4
        for (int v = 0; v < V; v++) store(sums + r * head_dim + d + v * LANES, acc[r][v]);
}

// All components; by pieces of the segment, whose values the nearest cache holds.
INLINE void add_all_values(const int R, const lq_queries *q, const int32_t *blocks, int begin, int end, int fetched,
                           const float *weights, float *sums) {
    for (int stop; begin < end; begin = stop) {
        stop = (begin / PIECE + 1) * PIECE < end ? (begin / PIECE + 1) * PIECE : end;
        int d = 0;
        for (; WIDE_VALUES > 1 && d + WIDE_VALUES * LQ_BLOCK <= q->head_dim; d += WIDE_VALUES * LQ_BLOCK)
            add_values(R, WIDE_VALUES * BLOCK_VECTORS, q, blocks, begin, stop, d, fetched, weights, sums);
        for (; d < q->head_dim; d += LQ_BLOCK) add_values(R, BLOCK_VECTORS, q, blocks, begin, stop, d, fetched, weights, sums);
    }
}

// Turns the scores of a row's `count` tokens into weights. Returns their sum.
static float weigh(float *row, int count, float *largest) {
    const int padded = (count + LQ_BLOCK - 1) / LQ_BLOCK * LQ_BLOCK;
    for (int t = count; t < padded; t++) row[t] = -INFINITY;  // slots that are not there, or that nobody has written
    vec most = set1(-INFINITY), sums[SUMS];
    for (int t = 0; t < padded; t += LANES) most = max2(most, load(row + t));
    float lanes[LANES];
    store(lanes, most);
    *largest = lanes[0];
    for (int i = 1; i < LANES; i++) *largest = lanes[i] > *largest ? lanes[i] : *largest;
    for (int s = 0; s < SUMS; s++) sums[s] = set1(0);
    for (int t = 0; t < padded; t += LANES) store(row + t, exp_of(sub2(load(row + t), set1(*largest))));
    for (int t = count; t < padded; t++) row[t] = 0;  // exp_of clamps
    for (int t = 0; t < padded; t += 16)
        for (int s = 0; s < SUMS; s++) sums[s] = add2(sums[s], load(row + t + s * LANES));
    return sum16(sums);
}

// R rows, of which the first is number `first`.
INLINE void attend_rows(const int R, const lq_queries *q, int segment, int first, float *scratch, const lq_attended *out) {
    const int head_dim = q->head_dim, start = segment * LQ_SEGMENT;
    const int32_t *blocks = q->blocks + start / LQ_BLOCK;
    float *query = scratch, *scores = scratch + ROWS_AT_ONCE * head_dim;
    for (int r = 0; r < R; r++) {
        const float *from = q->query + (size_t)((first + r) / q->heads) * q->stride + (size_t)((first + r) % q->heads) * head_dim;
        for (int d = 0; d < head_dim; d++) query[d * R + r] = from[d];
    }
    const int most = lq_in_segment(q, segment, (first + R - 1) / q->heads), least = lq_in_segment(q, segment, first / q->heads);
    for (int t = 0; t < most; t += LQ_BLOCK) {
        const size_t here = (size_t)blocks[t / LQ_BLOCK] * q->block_stride;
        const size_t next = (size_t)blocks[(t + LQ_BLOCK < most ? t + LQ_BLOCK : t) / LQ_BLOCK] * q->block_stride;
        block_scores(R, query, head_dim, q->keys + here, q->keys + next, first ? NULL : q->values + here, scores + t);
    }
    float *sums = out->sums + (size_t)first * head_dim;
    memset(sums, 0, sizeof(float) * (size_t)R * (size_t)head_dim);
    for (int r = 0; r < R; r++) {
        const int count = lq_in_segment(q, segment, (first + r) / q->heads);
        if (count > 0) out->total[first + r] = weigh(scores + r * LQ_SEGMENT, count, &out->largest[first + r]);
    }
    const int after = (q->position + q->tokens - 1 - start) / LQ_BLOCK + 1 - SEGMENT_BLOCKS;
    add_all_values(R, q, blocks, 0, least, first ? 0 : after, scores, sums);
    for (int r = 0; r < R; r++)  // what the first of the queries does not see yet
        add_all_values(1, q, blocks, least, lq_in_segment(q, segment, (first + r) / q->heads), 0,
                       scores + r * LQ_SEGMENT, sums + (size_t)r * head_dim);
}

static void attend(const lq_queries *q, int segment, float *scratch, const lq_attended *out) {
    const int rows = q->tokens * q->heads;
    for (int first = 0, rounds = (rows + ROWS_AT_ONCE - 1) / ROWS_AT_ONCE; rounds > 0; rounds--) {
        const int count = (rows - first + rounds - 1) / rounds;  // 7 rows are better split 4 + 3 than 6 + 1
#define ROWS(n) \
    case n: attend_rows(n, q, segment, first, scratch, out); break;
        switch (count) {
            ROWS(1) ROWS(2) ROWS(3) ROWS(4) ROWS(5) ROWS(6)
#ifdef TWELVE_ROWS
            ROWS(7) ROWS(8) ROWS(9) ROWS(10) ROWS(11) ROWS(12)
#endif
        }
#undef ROWS
        first += count;
    }
}
