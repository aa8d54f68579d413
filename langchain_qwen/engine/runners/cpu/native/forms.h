// What the forms of a matrix measure.
#pragma once
#include <stdbool.h>

#include "model.h"

enum { LQ_SPAN_CODES = LQ_SPAN * 4, LQ_SPAN_SCALES = 48, LQ_SPAN_SCALES_K6 = 64 };

static inline bool lq_is_k(int format) { return LQ_K4 <= format && format <= LQ_K6; }

// Of a span of a K format: the bits above the low 4, and all of it.
static inline int lq_span_above(int format) { return (format - LQ_K4) * LQ_SPAN; }
static inline int lq_span_bytes(int format) {
    return LQ_SPAN_CODES + lq_span_above(format) + (format == LQ_K6 ? LQ_SPAN_SCALES_K6 : LQ_SPAN_SCALES);
}

// Columns whose activations a K format wants the sum of: those that share a minimum, or a scale.
static inline int lq_sum_columns(int format) { return format == LQ_K6 ? 16 : 32; }

// Of a panel's group, or super-block.
static inline int64_t lq_block_bytes(int format, int64_t group) {
    if (lq_is_k(format)) return group / LQ_SPAN * lq_span_bytes(format) + (format == LQ_K6 ? 16 : 32);
    return group * (format == LQ_INT4 ? 4 : 8) + 32;
}

// Of a matrix whose sizes are within the limits of model.h.
static inline uint64_t lq_packed_bytes(int format, int64_t group, int64_t rows, int64_t cols) {
    if (format == LQ_BF16) return (uint64_t)(rows * cols * 2);
    return (uint64_t)(rows / 8 * (cols / group) * lq_block_bytes(format, group));
}

// Columns that a format can have in a group.
static inline bool lq_is_group(int format, int group) {
    if (lq_is_k(format)) return group == LQ_SPAN || group == 2 * LQ_SPAN;
    return 32 <= group && group <= LQ_MAX_GROUP && group % 32 == 0;
}

// Whether the same activations serve two matrices.
static inline bool lq_same_acts(const lq_matrix *a, const lq_matrix *b) {
    if (lq_is_k(a->format) && lq_is_k(b->format)) return (a->format == LQ_K6) == (b->format == LQ_K6);
    if (lq_is_k(a->format) || lq_is_k(b->format)) return false;
    return a->format == b->format && (a->format == LQ_BF16 || a->group == b->group);
}
