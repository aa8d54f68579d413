// The arithmetic of a step: a table of kernels for each instruction set, one file of arch/ each. dispatch.c chooses.
//
// Every kernel computes a token's numbers from that token's inputs in a fixed order, whatever else is in the step: this
// is what makes an answer independent, to the bit, of batch mates, chunk sizes and drafts.
#pragma once
#include "forms.h"

// Activations as the matrix products of the same table read them; each has a form of its own. That of x86 and portable C
// are tiles of some tokens that share each unpacking of a panel, `width` of them, which in the last one may be less.
//   int4:  codes   [cols/4][width] fours of int8, scale [cols/group][width], sum = scale * sum of codes
//   int8:  codes16 [cols/4][2][width] pairs of int16, columns 0 and 2 of a four, then 1 and 3; scale and sum as above.
//          14 bits cost these kernels no more than 8 do, and leave the rounding of the weights the only loss.
//   k:     codes as int4, scale [cols/LQ_SPAN][width], sums16 pairs of int16, the codes' sums over some columns and over as
//          many behind them: K4 and K5 over 32, [cols/64][width], K6 over 16, [cols/32][width]
//   bf16:  values  [cols][width] float
enum { LQ_LARGEST_INT16 = 8191 };  // a group of 1,024 products still fits int32 (LQ_MAX_GROUP)

typedef struct {
    int8_t *codes;
    int16_t *codes16;
    float *scale, *sum;
    float *values;
    int16_t *sums16;  // in the memory of sum
} lq_acts;

// Attention goes by segments of so many stored tokens, counted from a request's first one. Each is summed up by itself,
// and they are merged in their order: so they may be computed together or apart, by one thread or many.
enum { LQ_SEGMENT = 256, LQ_ROWS_AT_ONCE = 12 };

// Queries of tokens that follow one another in a request, for the heads that share one KV head.
typedef struct {
    const float *query;  // of the first token, [heads][head_dim]; the next token's lies `stride` floats further
    size_t stride;
    int tokens, heads, head_dim;
    int position;  // of the first token
    const uint16_t *keys, *values;
    size_t block_stride;
    const int32_t *blocks;  // of the request
} lq_queries;

// What a segment gives for each row, a row being one head of one token: the largest score, the sum of the weights
// exp(score - largest), and the sums of the weighted values [row][head_dim]. Nothing for tokens before the segment.
typedef struct {
    float *largest, *total, *sums;
} lq_attended;

typedef struct {
    const char *name;

    // Write the activations of token `m` of `tokens` in the form that matrix `w` reads; columns [begin, end) only.
    void (*store_acts)(const lq_matrix *w, lq_acts *acts, const float *x, int m, int tokens, int begin, int end);

    // out[m][row] = sum_k w[row][k] * x[m][k] + bias[row] for all tokens and the rows of panels [first, last).
    void (*multiply)(const lq_matrix *w, const lq_acts *acts, int tokens, int first, int last, float *out);

    // y = x * weight / sqrt(mean(x*x) + eps)
    void (*rms_norm)(const float *x, const float *weight, float eps, int n, float *y);
    void (*add)(float *x, const float *y, int n);                          // x += y
    void (*silu_multiply)(const float *gate, const float *up, int n, float *y);  // y = gate * sigmoid(gate) * up

    // Attention of some queries to the stored tokens of one segment. `scratch` holds lq_attention_scratch(head_dim) floats.
    void (*attend)(const lq_queries *queries, int segment, float *scratch, const lq_attended *out);

    void (*to_half)(const float *x, int n, uint16_t *y);
} lq_kernels;

// What each file of arch/ ends with. Those two it may have of its own; the others have the names of their fields.
#define LQ_TABLE(table, title, storing, multiplying)                                                                  \
    const lq_kernels table = {.name = title, .store_acts = storing, .multiply = multiplying, .rms_norm = rms_norm,    \
                              .add = add, .silu_multiply = silu_multiply, .attend = attend, .to_half = to_half};

extern const lq_kernels lq_kernels_portable, lq_kernels_avx2, lq_kernels_vnni, lq_kernels_avxvnni, lq_kernels_avx512, lq_kernels_amx,
    lq_kernels_neon, lq_kernels_i8mm;

// The table of this name, or the best one for NULL; NULL when there is none that this processor can run.
const lq_kernels *lq_kernels_named(const char *name);

// The names of all tables of this build, the best first, NULL behind the last. Whether this processor can run it, and
// whether it is among those that are chosen when none is asked for by name.
const char *lq_kernels_list(int index, int *runs, int *proven);

// Whether the products of two tables have the same bits.
bool lq_agree(const lq_kernels *one, const lq_kernels *other);

// How many tokens of a segment the query of token `m` sees.
static inline int lq_in_segment(const lq_queries *q, int segment, int m) {
    const int seen = q->position + m + 1 - segment * LQ_SEGMENT;
    return seen < 0 ? 0 : seen < LQ_SEGMENT ? seen : LQ_SEGMENT;
}

static inline size_t lq_attention_scratch(int head_dim) { return (size_t)LQ_ROWS_AT_ONCE * (size_t)(head_dim + LQ_SEGMENT); }

// The bytes of eight rows.
static inline size_t lq_panel_bytes(const lq_matrix *w) {
    if (w->format == LQ_BF16) return (size_t)w->cols * 16;
    return (size_t)(w->cols / w->group) * (size_t)lq_block_bytes(w->format, w->group);
}

// How wide the tile of a token is.
static inline int lq_tile_width(int m, int tokens, int tile) {
    const int left = tokens - m / tile * tile;
    return left < tile ? left : tile;
}
