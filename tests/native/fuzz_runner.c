// libFuzzer: any numbers as a model, its matrices, its KV memory and a runner's settings; then a step. Either the model
// is refused, or nothing outside of its memory, each piece of it an allocation of its own, is touched.
#include <stdlib.h>
#include <string.h>

#include "engine.h"

enum { LARGEST = 1 << 22 };  // bytes of an allocation; what would need more is given less, and has to be refused

static const uint8_t *input;
static size_t left, taken;

static uint8_t byte(void) { return taken < left ? input[taken++] : 0; }

static int32_t word(void) {
    uint32_t x = 0;
    for (int i = 0; i < 4; i++) x = x << 8 | byte();
    return (int32_t)x;
}

// Mostly one of `count` steps of `unit`, sometimes anything.
static int32_t number(int32_t unit, int count) {
    const uint8_t b = byte();
    return b >= 248 ? word() : unit * (1 + b % count);
}

static void *memory(int64_t bytes) {
    const size_t size = bytes < 1 ? 1 : bytes > LARGEST ? LARGEST : (size_t)bytes;
    uint8_t *p = malloc(size);
    memset(p, 0, size);
    if (taken < left)  // any bits: NaN and infinity too
        for (size_t i = 0; i < size; i += left - taken)
            memcpy(p + i, input + taken, size - i < left - taken ? size - i : left - taken);
    return p;
}

static lq_matrix matrix(int32_t rows, int32_t cols) {
    const int format = byte() % 6;
    lq_matrix w = {format, format < LQ_K4 ? number(32, 4) : number(LQ_SPAN, 2), rows, cols, rows, 0, NULL, NULL, NULL};
    const uint8_t change = byte();
    if (change == 255) w.rows = word();
    if (change == 254) w.cols = word();
    if (change == 251) w.stride = word();
    if (change == 253) w.format = word();
    const int honest = w.rows > 0 && w.cols > 0 && w.rows <= LQ_MAX_VOCAB && w.cols <= LQ_MAX_FFN && w.group > 0;
    const uint64_t size = honest ? lq_packed_bytes(w.format, w.group, w.rows, w.cols) : 1;
    w.bytes = size > LARGEST ? LARGEST : size;
    if (change != 252) w.data = memory((int64_t)w.bytes);
    if (change % 4 == 1) w.bias = memory((int64_t)w.rows * 4);
    if (change % 8 == 2 && w.cols > 0 && w.cols <= LQ_MAX_FFN) {
        int32_t *order = malloc((size_t)w.cols * sizeof *order);
        for (int32_t k = 0; k < w.cols; k++) order[k] = change == 250 ? word() : w.cols - 1 - k;
        w.order = order;
    }
    return w;
}

// In one matrix, or in two that may or may not fit together.
static void parts(lq_matrix *to, int32_t rows, int32_t cols) {
    const uint8_t first = byte();
    if (first % 2 || rows < 16 || rows > LQ_MAX_VOCAB) {
        to[0] = matrix(rows, cols);
        return;
    }
    const int32_t some = first == 254 ? word() : 8 * (1 + first % (rows / 8));
    to[0] = matrix(some, cols), to[1] = matrix(rows - (some & 0xffffff), cols);
    if (first != 252) to[0].stride = to[1].stride = rows;
}

static void free_matrix(const lq_matrix *w) { free((void *)w->data), free((void *)w->bias), free((void *)w->order); }

// One step of all tokens that fit, as one request.
static void step(lq_runner *r, const lq_model *m, int num_blocks, int tokens) {
    const size_t half = (size_t)m->head_dim / 2, count = (size_t)tokens;
    int32_t *position = malloc(count * 4), *table = calloc(count, 4), *blocks = malloc((size_t)num_blocks * 4);
    for (int i = 0; i < tokens; i++) position[i] = i;
    for (int i = 0; i < num_blocks; i++) blocks[i] = num_blocks - 1 - i;
    int32_t *wanted = malloc(4);
    *wanted = tokens - 1;
    float *cosine = memory((int64_t)(count * half * 4)), *sine = memory((int64_t)(count * half * 4));
    float *hidden = memory((int64_t)(count * (size_t)m->hidden * 4)), *logits = malloc((size_t)m->vocab * 4);
    const lq_step s = {tokens, position, table, blocks, cosine, sine, hidden, 1, wanted, logits, 0, NULL, NULL};
    lq_runner_step(r, &s);
    free(position), free(table), free(blocks), free(wanted), free(cosine), free(sine), free(hidden), free(logits);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    input = data, left = size, taken = 0;
    lq_model m = {number(1, 2), number(32, 6), number(1, 8), number(1, 4), number(16, 24), number(32, 6), number(8, 9), 1e-6f,
                  NULL, NULL, {0}};
    if (byte() > 250) memcpy(&m.norm_eps, &(int32_t){word()}, 4);
    const int sane = m.num_layers > 0 && m.num_layers <= 4 && m.heads > 0 && m.heads <= LQ_MAX_HEADS && m.kv_heads > 0 &&
                     m.kv_heads <= LQ_MAX_HEADS && m.head_dim > 0 && m.head_dim <= LQ_MAX_HEAD_DIM && m.ffn > 0 &&
                     m.ffn <= LQ_MAX_FFN && m.hidden > 0 && m.hidden <= LQ_MAX_HIDDEN;
    const int layers = sane ? m.num_layers : 0;
    lq_layer *all = calloc(layers ? (size_t)layers : 1, sizeof *all);
    for (int i = 0; i < layers; i++) {
        parts(all[i].qkv, (m.heads + 2 * m.kv_heads) * m.head_dim, m.hidden);
        all[i].out = matrix(m.hidden, m.heads * m.head_dim);
        parts(all[i].gate_up, 2 * m.ffn, m.hidden);
        all[i].down = matrix(m.hidden, m.ffn);
        all[i].attention_norm = memory((int64_t)m.hidden * 4), all[i].ffn_norm = memory((int64_t)m.hidden * 4);
    }
    m.layers = sane || m.num_layers < 1 || m.num_layers > LQ_MAX_LAYERS ? all : NULL;
    m.final_norm = memory((int64_t)m.hidden * 4);
    m.head = matrix(m.vocab, m.hidden);
    lq_kv kv = {number(1, 3), 0, NULL, NULL};
    const int64_t per_block = sane ? (int64_t)m.num_layers * m.kv_heads * m.head_dim * LQ_BLOCK * 2 : 1;
    kv.bytes = kv.num_blocks > 0 && kv.num_blocks < 64 && per_block < LARGEST / 64 ? (uint64_t)(per_block * kv.num_blocks) : 1;
    kv.keys = memory((int64_t)kv.bytes), kv.values = memory((int64_t)kv.bytes);
    const int threads = byte() > 250 ? 2 : 1;
    int tokens = number(1, 8), length = number(16, 3);
    if (tokens > 8 && tokens <= LQ_MAX_STEP) tokens = 8;  // gigabytes of buffers prove nothing
    if (length > 64 && length <= LQ_MAX_LENGTH) length = 64;
    const char *refused;
    lq_runner *r = lq_runner_new(&m, &kv, byte() == 255 ? word() % 3 - 1 : threads, tokens, length, byte() & 1 ? "portable" : NULL, &refused);
    if (r && refused) abort();
    if (r) {
        const int room = kv.num_blocks * LQ_BLOCK < length ? kv.num_blocks * LQ_BLOCK : length;
        step(r, &m, kv.num_blocks, tokens < room ? tokens : room);
    }
    lq_runner_free(r);
    for (int i = 0; i < layers; i++) {
        for (int p = 0; p < LQ_QKV_PARTS; p++) free_matrix(&all[i].qkv[p]);
        for (int p = 0; p < LQ_GATE_UP_PARTS; p++) free_matrix(&all[i].gate_up[p]);
        free_matrix(&all[i].out), free_matrix(&all[i].down);
        free((void *)all[i].attention_norm), free((void *)all[i].ffn_norm);
    }
    free_matrix(&m.head);
    free(all), free((void *)m.final_norm), free(kv.keys), free(kv.values);
    return 0;
}
