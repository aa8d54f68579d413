// Plain C for every machine, and what the fast kernels are tested against: they give the same bits. So sums are taken here
// as vectors take them, sixteen partial ones that are added pairwise in the end.
#define TILE 1  // tokens that share each unpacking of a panel
#include <math.h>

#include "../exp.h"
#include "../half.h"
#include "../kernels.h"
#include "acts.h"
#include "k_products.h"

// Where column k is among a token's codes of 16 bits.
static int place16(int k) { return k / 4 * 4 + k % 2 * 2 + k % 4 / 2; }

static int weight_code(const lq_matrix *w, const uint8_t *block, int row, int k) {
    if (w->format == LQ_INT8) return (int8_t)block[k / 4 * 32 + row * 4 + k % 4];
    const uint8_t pair = block[k / 8 * 32 + row * 4 + k % 4];
    return k % 8 < 4 ? pair & 15 : pair >> 4;
}

static void multiply_quantised(const lq_matrix *w, const lq_acts *acts, int m, int panel, float *out) {
    const int group = w->group, groups = w->cols / group;
    const size_t block_bytes = lq_panel_bytes(w) / (size_t)groups, code_bytes = block_bytes - 32;
    const uint8_t *block = w->data + (size_t)panel * lq_panel_bytes(w);
    const int8_t *codes = acts->codes + (size_t)m * w->cols;
    const int16_t *codes16 = acts->codes16 + (size_t)m * w->cols;
    const float *scales = acts->scale + (size_t)m * groups, *sums = acts->sum + (size_t)m * groups;
    float y[8] = {0};
    for (int g = 0; g < groups; g++, block += block_bytes) {
        const uint16_t *scale = (const uint16_t *)(block + code_bytes), *scale_zero = scale + 8;
        for (int r = 0; r < 8; r++) {
            int32_t dot = 0;
            for (int k = 0; k < group; k++) {
                const int code = w->format == LQ_INT8 ? codes16[place16(g * group + k)]
                                                      : codes[g * group + k];
                dot += weight_code(w, block, r, k) * code;
            }
            y[r] = fmaf((float)dot * scales[g], lq_half_to_float(scale[r]), y[r]);
            y[r] = fmaf(-sums[g], lq_half_to_float(scale_zero[r]), y[r]);
        }
    }
    for (int r = 0; r < 8; r++) out[r] = y[r] + (w->bias ? w->bias[panel * 8 + r] : 0);
}

static void multiply_bf16(const lq_matrix *w, const lq_acts *acts, int m, int panel, float *out) {
    const uint16_t *weights = (const uint16_t *)w->data + (size_t)panel * w->cols * 8;
    const float *values = acts->values + (size_t)m * w->cols;
    float y[2][8] = {0};  // of the even and of the odd columns: vectors hide the latency of one sum behind the other
    for (int k = 0; k < w->cols; k++)
        for (int r = 0; r < 8; r++) y[k % 2][r] = fmaf(values[k], lq_bf16_to_float(weights[k * 8 + r]), y[k % 2][r]);
    for (int r = 0; r < 8; r++) out[r] = y[0][r] + y[1][r] + (w->bias ? w->bias[panel * 8 + r] : 0);
}

static void multiply(const lq_matrix *w, const lq_acts *acts, int tokens, int first, int last, float *out) {
    for (int panel = first; panel < last; panel++)
        for (int m = 0; m < tokens; m++) {
            float *to = out + (size_t)m * w->stride + panel * 8;
            if (lq_is_k(w->format))
                multiply_k(w, acts, m, tokens, panel, to);
            else
                (w->format == LQ_BF16 ? multiply_bf16 : multiply_quantised)(w, acts, m, panel, to);
        }
}

static float sum16(float *s) {
    for (int half = 8; half; half /= 2)
        for (int i = 0; i < half; i++) s[i] += s[i + half];
    return s[0];
}

static void rms_norm(const float *x, const float *weight, float eps, int n, float *y) {
    float squares[16] = {0};
    for (int i = 0; i < n; i++) squares[i % 16] = fmaf(x[i], x[i], squares[i % 16]);
    const float factor = 1 / sqrtf(sum16(squares) / (float)n + eps);
    for (int i = 0; i < n; i++) y[i] = x[i] * factor * weight[i];
}

static void add(float *x, const float *y, int n) {
    for (int i = 0; i < n; i++) x[i] += y[i];
}

static void silu_multiply(const float *gate, const float *up, int n, float *y) {
    for (int i = 0; i < n; i++) y[i] = gate[i] / (1 + lq_exp(-gate[i])) * up[i];
}

static void attend(const lq_queries *q, int segment, float *scratch, const lq_attended *out) {
    const int d = q->head_dim;
    const int32_t *blocks = q->blocks + segment * (LQ_SEGMENT / LQ_BLOCK);
    for (int row = 0; row < q->tokens * q->heads; row++) {
        const int m = row / q->heads, count = lq_in_segment(q, segment, m);
        const float *query = q->query + (size_t)m * q->stride + (size_t)(row % q->heads) * (size_t)d;
        float *scores = scratch, *sums = out->sums + (size_t)row * (size_t)d, largest = -INFINITY, total[16] = {0};
        for (int i = 0; i < d; i++) sums[i] = 0;
        for (int t = 0; t < count; t++) {
            const uint16_t *key = q->keys + (size_t)blocks[t / LQ_BLOCK] * q->block_stride + t % LQ_BLOCK;
            scores[t] = 0;
            for (int i = 0; i < d; i++) scores[t] = fmaf(query[i], lq_half_to_float(key[i * LQ_BLOCK]), scores[t]);
            largest = fmaxf(largest, scores[t]);
        }
        for (int t = 0; t < count; t++) {
            const uint16_t *value =
                q->values + (size_t)blocks[t / LQ_BLOCK] * q->block_stride + (size_t)(t % LQ_BLOCK) * (size_t)d;
            const float weight = lq_exp(scores[t] - largest);
            total[t % 16] += weight;
            for (int i = 0; i < d; i++) sums[i] = fmaf(weight, lq_half_to_float(value[i]), sums[i]);
        }
        out->largest[row] = largest;
        out->total[row] = sum16(total);
    }
}

static void to_half(const float *x, int n, uint16_t *y) {
    for (int i = 0; i < n; i++) y[i] = lq_float_to_half(x[i]);
}

LQ_TABLE(lq_kernels_portable, "portable", store_acts, multiply)
