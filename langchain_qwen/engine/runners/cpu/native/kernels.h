// The arithmetic of a step: a table of kernels for each instruction set, one file of arch/ each. dispatch.c chooses.
//
// Every kernel computes a token's numbers from that token's inputs in a fixed order, whatever else is in the step: this
// is what makes an answer independent, to the bit, of batch mates, chunk sizes and drafts.
#pragma once
#include "model.h"

enum { LQ_TILE = 4 };  // tokens that share each unpacking of a panel

// Activations as the matrix products read them: tiles of up to LQ_TILE tokens, `width` in the last one may be less.
//   int4:  codes   [cols/4][width] fours of int8, scale [cols/group][width], sum = scale * sum of codes
//   int8:  codes16 [cols/4][2][width] pairs of int16, columns 0 and 2 of a four, then 1 and 3; scale and sum as above.
//          14 bits cost these kernels no more than 8 do, and leave the rounding of the weights the only loss.
//   k:     codes as int4, scale [cols/LQ_SPAN][width], sums16 [cols/32][width] pairs of int16: the codes' sums over 16
//          columns and over the 16 behind them
//   bf16:  values  [cols][width] float
enum { LQ_LARGEST_INT16 = 8191 };  // a group of 1,024 products still fits int32 (LQ_MAX_GROUP)

typedef struct {
    int8_t *codes;
    int16_t *codes16;
    float *scale, *sum;
    int16_t *sums16;  // in the memory of sum
    float *values;
} lq_acts;

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

    // Attention of one token and one KV head over `length` stored tokens.
    // query, out: [group heads][head_dim]; scores: scratch [group heads][length rounded up to 16].
    void (*attend)(const float *query, int group_heads, int head_dim, const uint16_t *keys, const uint16_t *values,
                   size_t block_stride, const int32_t *blocks, int length, float *scores, float *out);

    void (*to_half)(const float *x, int n, uint16_t *y);
} lq_kernels;

extern const lq_kernels lq_kernels_portable, lq_kernels_avx2;

// The table of this name, or the best one for NULL; NULL when there is none that this processor can run.
const lq_kernels *lq_kernels_named(const char *name);

// The names of all tables of this build, the best first, NULL behind the last. Whether this processor can run it, and
// whether it is among those that are chosen when none is asked for by name.
const char *lq_kernels_list(int index, int *runs, int *proven);

// Where a token's tile begins and how wide it is.
static inline int lq_tile_width(int m, int tokens) {
    int left = tokens - m / LQ_TILE * LQ_TILE;
    return left < LQ_TILE ? left : LQ_TILE;
}
