// Plain C for every machine, and what the fast kernels are tested against.
#include <math.h>

#include "../forms.h"
#include "../half.h"
#include "../kernels.h"

// Where column k of a tile's token is among its codes.
static size_t place8(int k, int lane, int width) { return ((size_t)(k / 4) * width + lane) * 4 + k % 4; }
static size_t place16(int k, int lane, int width) {
    return ((size_t)(k / 4 * 2 + k % 2) * width + lane) * 2 + k % 4 / 2;
}

static size_t place_sum(int k, int lane, int width) { return ((size_t)(k / 32) * width + lane) * 2 + k % 32 / 16; }

static void store_acts_k(const lq_matrix *w, lq_acts *acts, const float *x, int m, int tokens, int begin, int end) {
    const int width = lq_tile_width(m, tokens), lane = m % LQ_TILE, tile = m - lane;
    int8_t *codes = acts->codes + (size_t)tile * w->cols;
    int16_t *sums = acts->sums16 + (size_t)tile * w->cols / 16;
    float *scales = acts->scale + (size_t)tile * w->cols / LQ_SPAN;
    for (int span = begin; span < end; span += LQ_SPAN) {
        float largest = 0;
        for (int k = span; k < span + LQ_SPAN; k++) largest = fmaxf(largest, fabsf(x[k]));
        const float inverse = largest > 0 ? 127 / largest : 0;
        for (int k = span; k < span + LQ_SPAN; k += 16) {
            int sum = 0;
            for (int i = k; i < k + 16; i++) sum += codes[place8(i, lane, width)] = (int8_t)lrintf(x[i] * inverse);
            sums[place_sum(k, lane, width)] = (int16_t)sum;
        }
        scales[span / LQ_SPAN * width + lane] = largest / 127;
    }
}

static void store_acts(const lq_matrix *w, lq_acts *acts, const float *x, int m, int tokens, int begin, int end) {
    const int width = lq_tile_width(m, tokens), lane = m % LQ_TILE, tile = m - lane;
    if (w->format == LQ_BF16) {
        float *values = acts->values + (size_t)tile * w->cols;
        for (int k = begin; k < end; k++) values[(size_t)k * width + lane] = x[k];
        return;
    }
    if (lq_is_k(w->format)) {
        store_acts_k(w, acts, x, m, tokens, begin, end);
        return;
    }
    const int group = w->group, groups = w->cols / group;
    const float steps = w->format == LQ_INT8 ? LQ_LARGEST_INT16 : 127;
    float *scales = acts->scale + (size_t)tile * groups, *sums = acts->sum + (size_t)tile * groups;
    for (int g = begin / group; g < end / group; g++) {
        float largest = 0;
        for (int k = g * group; k < (g + 1) * group; k++) largest = fmaxf(largest, fabsf(x[k]));
        const float scale = largest / steps, inverse = largest > 0 ? steps / largest : 0;
        int32_t sum = 0;
        for (int k = g * group; k < (g + 1) * group; k++) {
            const int code = (int)lrintf(x[k] * inverse);
            if (w->format == LQ_INT8)
                acts->codes16[(size_t)tile * w->cols + place16(k, lane, width)] = (int16_t)code;
            else
                acts->codes[(size_t)tile * w->cols + place8(k, lane, width)] = (int8_t)code;
            sum += code;
        }
        scales[g * width + lane] = scale;
        sums[g * width + lane] = scale * (float)sum;
    }
}

static int weight_code(const lq_matrix *w, const uint8_t *block, int row, int k) {
    if (w->format == LQ_INT8) return (int8_t)block[k / 4 * 32 + row * 4 + k % 4];
    const uint8_t pair = block[k / 8 * 32 + row * 4 + k % 4];
    return k % 8 < 4 ? pair & 15 : pair >> 4;
}

static void multiply_quantised(const lq_matrix *w, const lq_acts *acts, int m, int tokens, int panel, float *out) {
    const int width = lq_tile_width(m, tokens), lane = m % LQ_TILE, tile = m - lane;
    const int group = w->group, groups = w->cols / group;
    const size_t code_bytes = (size_t)group * (w->format == LQ_INT4 ? 4 : 8), block_bytes = code_bytes + 32;
    const uint8_t *block = w->data + (size_t)panel * groups * block_bytes;
    const int8_t *codes = acts->codes + (size_t)tile * w->cols;
    const int16_t *codes16 = acts->codes16 + (size_t)tile * w->cols;
    const float *scales = acts->scale + (size_t)tile * groups, *sums = acts->sum + (size_t)tile * groups;
    float y[8] = {0};
    for (int g = 0; g < groups; g++, block += block_bytes) {
        const uint16_t *scale = (const uint16_t *)(block + code_bytes), *scale_zero = scale + 8;
        for (int r = 0; r < 8; r++) {
            int32_t dot = 0;
            for (int k = 0; k < group; k++) {
                const int code = w->format == LQ_INT8 ? codes16[place16(g * group + k, lane, width)]
                                                      : codes[place8(g * group + k, lane, width)];
                dot += weight_code(w, block, r, k) * code;
            }
            y[r] = fmaf((float)dot * scales[g * width + lane], lq_half_to_float(scale[r]), y[r]);
            y[r] = fmaf(-sums[g * width + lane], lq_half_to_float(scale_zero[r]), y[r]);
        }
    }
    for (int r = 0; r < 8; r++) out[r] = y[r] + (w->bias ? w->bias[panel * 8 + r] : 0);
}

// What a span of a K format holds of a row: its code in a column, and its integer scales.
static int code_k(int format, const uint8_t *span, int row, int k) {
    const int vector = k / 8, place = row * 4 + k % 4, high = k % 8 / 4;
    const uint8_t pair = span[vector * 32 + place], *above = span + LQ_SPAN_CODES;
    const int code = high ? pair >> 4 : pair & 15;
    if (format == LQ_K5) return code | (above[vector / 4 * 32 + place] >> (vector % 4 * 2 + high) & 1) << 4;
    if (format == LQ_K6) return (code | (above[vector / 2 * 32 + place] >> (vector % 2 * 4 + high * 2) & 3) << 4) - 32;
    return code;
}

static void scales_k(int format, const uint8_t *span, int row, int k, int *scale, int *minimum) {
    const uint8_t *scales = span + LQ_SPAN_CODES + lq_span_above(format);
    const int lane = row / 4 * 16 + row % 4;
    if (format == LQ_K6) {
        *scale = (int8_t)scales[k / 64 * 32 + lane + k % 64 / 16 * 4], *minimum = 0;
        return;
    }
    const int place = lane + k / 32 * 4, shift = place / 16 * 2;
    const uint8_t low = scales[place], above = scales[32 + place % 16];
    *scale = (low & 15) | (above >> shift & 3) << 4;
    *minimum = low >> 4 | (above >> (shift + 4) & 3) << 4;
}

static void multiply_k(const lq_matrix *w, const lq_acts *acts, int m, int tokens, int panel, float *out) {
    const int width = lq_tile_width(m, tokens), lane = m % LQ_TILE, tile = m - lane, format = w->format;
    const int spans = w->group / LQ_SPAN, span_bytes = lq_span_bytes(format);
    const size_t block_bytes = (size_t)lq_block_bytes(format, w->group);
    const uint8_t *block = w->data + (size_t)panel * (w->cols / w->group) * block_bytes;
    const int8_t *codes = acts->codes + (size_t)tile * w->cols;
    const int16_t *sums = acts->sums16 + (size_t)tile * w->cols / 16;
    const float *scales = acts->scale + (size_t)tile * w->cols / LQ_SPAN;
    float y[8] = {0};
    for (int first = 0; first < w->cols; first += LQ_SPAN) {
        const uint8_t *span = block + first / LQ_SPAN % spans * span_bytes;
        const uint16_t *d = (const uint16_t *)(block + spans * span_bytes), *dmin = d + 8;
        const float x_scale = scales[first / LQ_SPAN * width + lane];
        for (int r = 0; r < 8; r++) {
            int32_t dot = 0, minima = 0;
            for (int k = 0; k < LQ_SPAN; k++) {
                int scale, minimum;
                scales_k(format, span, r, k, &scale, &minimum);
                dot += scale * code_k(format, span, r, k) * codes[place8(first + k, lane, width)];
                if (k % 16 == 0) minima += minimum * sums[place_sum(first + k, lane, width)];
            }
            y[r] = fmaf((float)dot * x_scale, lq_half_to_float(d[r]), y[r]);
            if (format != LQ_K6) y[r] = fmaf(-((float)minima * x_scale), lq_half_to_float(dmin[r]), y[r]);
        }
        if (first / LQ_SPAN % spans == spans - 1) block += block_bytes;
    }
    for (int r = 0; r < 8; r++) out[r] = y[r] + (w->bias ? w->bias[panel * 8 + r] : 0);
}

static void multiply_bf16(const lq_matrix *w, const lq_acts *acts, int m, int tokens, int panel, float *out) {
    const int width = lq_tile_width(m, tokens), lane = m % LQ_TILE, tile = m - lane;
    const uint16_t *weights = (const uint16_t *)w->data + (size_t)panel * w->cols * 8;
    const float *values = acts->values + (size_t)tile * w->cols;
    float y[8] = {0};
    for (int k = 0; k < w->cols; k++)
        for (int r = 0; r < 8; r++)
            y[r] = fmaf(values[(size_t)k * width + lane], lq_bf16_to_float(weights[k * 8 + r]), y[r]);
    for (int r = 0; r < 8; r++) out[r] = y[r] + (w->bias ? w->bias[panel * 8 + r] : 0);
}

static void multiply(const lq_matrix *w, const lq_acts *acts, int tokens, int first, int last, float *out) {
    for (int panel = first; panel < last; panel++)
        for (int m = 0; m < tokens; m++)
            (w->format == LQ_BF16 ? multiply_bf16 : lq_is_k(w->format) ? multiply_k : multiply_quantised)(w, acts, m, tokens, panel,
                                                                        out + (size_t)m * w->stride + panel * 8);
}

static void rms_norm(const float *x, const float *weight, float eps, int n, float *y) {
    float squares[8] = {0};
    for (int i = 0; i < n; i++) squares[i % 8] = fmaf(x[i], x[i], squares[i % 8]);
    float sum = 0;
    for (int i = 0; i < 8; i++) sum += squares[i];
    const float factor = 1 / sqrtf(sum / (float)n + eps);
    for (int i = 0; i < n; i++) y[i] = x[i] * factor * weight[i];
}

static void add(float *x, const float *y, int n) {
    for (int i = 0; i < n; i++) x[i] += y[i];
}

static void silu_multiply(const float *gate, const float *up, int n, float *y) {
    for (int i = 0; i < n; i++) y[i] = gate[i] / (1 + expf(-gate[i])) * up[i];
}

static void attend(const float *query, int group_heads, int head_dim, const uint16_t *keys, const uint16_t *values,
                   size_t block_stride, const int32_t *blocks, int length, float *scores, float *out) {
    for (int h = 0; h < group_heads; h++, query += head_dim, out += head_dim) {
        float largest = -INFINITY, sum = 0;
        for (int t = 0; t < length; t++) {
            const uint16_t *key = keys + (size_t)blocks[t / LQ_BLOCK] * block_stride + t % LQ_BLOCK;
            float score = 0;
            for (int d = 0; d < head_dim; d++) score = fmaf(query[d], lq_half_to_float(key[d * LQ_BLOCK]), score);
            scores[t] = score;
            largest = fmaxf(largest, score);
        }
        for (int d = 0; d < head_dim; d++) out[d] = 0;
        for (int t = 0; t < length; t++) {
            const uint16_t *value =
                values + (size_t)blocks[t / LQ_BLOCK] * block_stride + (size_t)(t % LQ_BLOCK) * head_dim;
            const float weight = expf(scores[t] - largest);
            sum += weight;
            for (int d = 0; d < head_dim; d++) out[d] = fmaf(weight, lq_half_to_float(value[d]), out[d]);
        }
        for (int d = 0; d < head_dim; d++) out[d] /= sum;
    }
}

static void to_half(const float *x, int n, uint16_t *y) {
    for (int i = 0; i < n; i++) y[i] = lq_float_to_half(x[i]);
}

const lq_kernels lq_kernels_portable = {
    .name = "portable",
    .store_acts = store_acts,
    .multiply = multiply,
    .rms_norm = rms_norm,
    .add = add,
    .silu_multiply = silu_multiply,
    .attend = attend,
    .to_half = to_half,
};
