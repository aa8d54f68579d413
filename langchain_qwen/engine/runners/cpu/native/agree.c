// Whether two tables of kernels compute the same: what one that its authors had no machine for has to show before it is
// used. Products are compared, of every format whose kernels differ; the rest of such a table is that of another one.
#include <stdlib.h>
#include <string.h>

#include "forms.h"
#include "kernels.h"

enum { ROWS = 40, COLS = 512, TOKENS = 69 };  // pairs of panels and one alone; pairs of tiles of tokens and some that are left

typedef struct {
    uint8_t weights[ROWS * COLS * 2];
    float x[TOKENS * COLS], bias[ROWS], out[2][TOKENS * ROWS];
    int16_t codes[TOKENS * COLS];
    float scale[TOKENS * COLS / 16], sum[TOKENS * COLS / 16];
} room;

static uint32_t next(uint32_t *state) { return *state = *state * 1664525 + 1013904223, *state >> 8; }

static void multiply(const lq_kernels *kernels, const lq_matrix *w, room *r, float *out) {
    // Codes of one format at a time, and sums of one kind.
    lq_acts acts = {(int8_t *)r->codes, r->codes, r->scale, r->sum, NULL, (int16_t *)r->sum};
    for (int m = 0; m < TOKENS; m++) kernels->store_acts(w, &acts, r->x + m * COLS, m, TOKENS, 0, COLS);
    kernels->multiply(w, &acts, TOKENS, 0, ROWS / 8, out);
}

EXPORT bool lq_agree(const lq_kernels *one, const lq_kernels *other) {
    static const struct {
        int format, group;
    } layouts[] = {{LQ_INT4, 32}, {LQ_INT4, 64}, {LQ_INT8, 64}, {LQ_K4, 256}, {LQ_K5, 256}, {LQ_K6, 256}};
    room *r = calloc(1, sizeof *r);
    if (!r) return false;
    uint32_t state = 1;
    bool same = true;
    for (int i = 0; i < TOKENS * COLS; i++) r->x[i] = (float)(int32_t)(next(&state) % 2001 - 1000) / 256;
    for (int i = 0; i < ROWS; i++) r->bias[i] = (float)(next(&state) % 256);
    for (size_t l = 0; same && l < sizeof layouts / sizeof *layouts; l++) {
        const int format = layouts[l].format, group = layouts[l].group;
        const size_t block = (size_t)lq_block_bytes(format, group), halves = format == LQ_K6 ? 8 : 16;
        const size_t bytes = lq_packed_bytes(format, group, ROWS, COLS);
        for (size_t i = 0; i < bytes; i++) r->weights[i] = (uint8_t)next(&state);
        for (size_t end = block; end <= bytes; end += block)  // scales that are numbers, from 0.06 to 0.5
            for (size_t i = 0; i < halves; i++) {
                const uint16_t half = (uint16_t)(0x2c00 + next(&state) % 0xc00);
                memcpy(r->weights + end - 2 * (i + 1), &half, sizeof half);
            }
        const lq_matrix w = {.format = format, .group = group, .rows = ROWS, .cols = COLS, .stride = ROWS,
                             .bytes = bytes, .data = r->weights, .bias = r->bias};
        multiply(one, &w, r, r->out[0]);
        multiply(other, &w, r, r->out[1]);
        same = !memcmp(r->out[0], r->out[1], sizeof r->out[0]);
    }
    free(r);
    return same;
}
