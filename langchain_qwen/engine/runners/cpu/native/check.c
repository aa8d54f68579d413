// Whether a model is one that the kernels can run without reading or writing beyond what they were given.
#include <math.h>
#include <stdbool.h>

#include "forms.h"

static bool within(int32_t x, int32_t low, int32_t high) { return low <= x && x <= high; }

// Codes are read as bytes, scales and bf16 weights as pairs of them.
static bool part_fits(const lq_matrix *w, int32_t rows, int32_t cols) {
    if (!within(w->format, LQ_BF16, LQ_K6) || !lq_is_group(w->format, w->group)) return false;
    if (w->cols != cols || w->stride != rows || w->rows % 8 || cols % w->group) return false;
    if (!w->data || (uintptr_t)w->data % sizeof(uint16_t)) return false;
    if (w->bytes != lq_packed_bytes(w->format, w->group, w->rows, w->cols)) return false;
    for (int32_t k = 0; w->order && k < cols; k++)
        if (!within(w->order[k], 0, cols - 1)) return false;
    return true;
}

// Up to `most` parts that have so many rows together; only a matrix of one part may want another order of its inputs.
static bool parts_fit(const lq_matrix *parts, int most, int32_t rows, int32_t cols) {
    int32_t found = 0;
    int count = 0;
    while (count < most && parts[count].rows) {
        if (!within(parts[count].rows, 8, rows - found) || !part_fits(&parts[count], rows, cols)) return false;
        found += parts[count++].rows;
    }
    for (int i = count; i < most; i++)
        if (parts[i].rows) return false;
    for (int i = 0; i < count && count > 1; i++)
        if (parts[i].order) return false;
    return found == rows;
}

static const char *check_layer(const lq_model *m, const lq_layer *layer) {
    const int32_t attended = m->heads * m->head_dim;
    if (!parts_fit(layer->qkv, LQ_QKV_PARTS, attended + 2 * m->kv_heads * m->head_dim, m->hidden)) return "a matrix qkv";
    if (!parts_fit(&layer->out, 1, m->hidden, attended)) return "a matrix out";
    if (!parts_fit(layer->gate_up, LQ_GATE_UP_PARTS, 2 * m->ffn, m->hidden)) return "a matrix gate_up";
    if (!parts_fit(&layer->down, 1, m->hidden, m->ffn) || layer->down.order) return "a matrix down";
    return layer->attention_norm && layer->ffn_norm ? NULL : "a norm";
}

const char *lq_check(const lq_model *m, const lq_kv *kv, int num_threads, int max_tokens, int max_length) {
    if (!within(m->num_layers, 1, LQ_MAX_LAYERS) || !m->layers) return "the layers";
    if (!within(m->hidden, 32, LQ_MAX_HIDDEN) || m->hidden % 32) return "the hidden size";
    if (!within(m->heads, 1, LQ_MAX_HEADS) || !within(m->kv_heads, 1, m->heads) || m->heads % m->kv_heads)
        return "the heads";
    if (!within(m->head_dim, 16, LQ_MAX_HEAD_DIM) || m->head_dim % 16) return "the size of a head";
    if (m->heads * m->head_dim > LQ_MAX_ATTENDED) return "the size of all heads";
    if (!within(m->ffn, 32, LQ_MAX_FFN) || m->ffn % 32) return "the intermediate size";
    if (!within(m->vocab, 8, LQ_MAX_VOCAB) || m->vocab % 8) return "the vocabulary";
    if (!isfinite(m->norm_eps) || m->norm_eps <= 0) return "the epsilon of the norms";
    for (int32_t i = 0; i < m->num_layers; i++) {
        const char *wrong = check_layer(m, &m->layers[i]);
        if (wrong) return wrong;
    }
    if (!m->final_norm) return "the last norm";
    if (!parts_fit(&m->head, 1, m->vocab, m->hidden)) return "the head";
    if (!within(num_threads, 1, LQ_MAX_THREADS)) return "the number of threads";
    if (!within(max_tokens, 1, LQ_MAX_STEP) || !within(max_length, 1, LQ_MAX_LENGTH)) return "the length of a step";
    uint64_t bytes = (uint64_t)m->num_layers * (uint64_t)m->kv_heads * (uint64_t)m->head_dim * LQ_BLOCK * 2;
    if (!within(kv->num_blocks, 1, LQ_MAX_BLOCKS) || __builtin_mul_overflow(bytes, (uint64_t)kv->num_blocks, &bytes) ||
        !kv->keys || !kv->values || kv->bytes != bytes)
        return "the KV memory";
    return NULL;
}
