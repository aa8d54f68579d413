// Random models, lengths and schedules through the native engine, built with the address and undefined-behaviour
// sanitizers. Each round runs the same requests with every table of kernels that this machine has, (a) in one go and (b)
// in random chunks, on another number of threads; all bits must agree.
// Usage: fuzz [rounds] [threads]
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine.h"

enum { MAX_TOKENS = 40, REQUESTS = 3, MAX_LENGTH = 300 };

static uint64_t state;
static int fixed_threads;  // 0 draws a number for each run

static uint32_t draw(uint32_t below) {  // xorshift64*
    state ^= state >> 12, state ^= state << 25, state ^= state >> 27;
    return (uint32_t)((state * 0x2545F4914F6CDD1D) >> 33) % below;
}

static float noise(void) { return ((float)draw(20001) - 10000) / 10000; }

static float *floats(size_t count, float scale, float offset) {
    float *x = malloc(count * sizeof *x);
    for (size_t i = 0; i < count; i++) x[i] = noise() * scale + offset;
    return x;
}

// Blocks of any bits that a GGUF file might hold, with scales of about 0.01.
static void random_blocks(int type, size_t bytes, uint8_t *blocks) {
    const size_t size = type == 14 ? 210 : type == 13 ? 176 : 144;
    for (size_t i = 0; i < bytes; i++) blocks[i] = (uint8_t)draw(256);
    for (size_t i = 0; i < bytes; i += size) {
        const uint16_t scale = (uint16_t)(0x0800 + draw(0x400)), scales[2] = {scale, scale};
        if (type == 14)
            memcpy(blocks + i + 208, scales, 2);
        else
            memcpy(blocks + i, scales, 4);
    }
}

static lq_matrix matrix(int format, int group, int rows, int cols, int with_bias, int with_order) {
    float *weights = floats((size_t)rows * cols, 0.1f, 0);
    const size_t bytes = lq_packed_bytes(format, group, rows, cols);
    uint8_t *data = malloc(bytes);  // exactly as large as promised, so that any read beyond it is found
    if (lq_is_k(format) && (format != LQ_K4 || (group == 256 && draw(2)))) {
        const int type = format - LQ_K4 + 12;
        const size_t size = (size_t)rows * (size_t)(cols / 256) * (type == 14 ? 210 : type == 13 ? 176 : 144);
        uint8_t *blocks = malloc(size);
        random_blocks(type, size, blocks);
        if (lq_repack_gguf(blocks, type, rows, cols, data)) abort();
        free(blocks);
    } else if (format == LQ_K4) {
        if (lq_pack_k4(weights, rows, cols, group, data)) abort();
    } else if ((format == LQ_INT4 ? lq_pack_int4 : format == LQ_INT8 ? lq_pack_int8 : lq_pack_bf16)(weights, rows, cols, group,
                                                                                                   data)) {
        abort();
    }
    free(weights);
    int32_t *order = NULL;
    if (with_order) {
        order = malloc(sizeof *order * (size_t)cols);
        for (int i = 0; i < cols; i++) order[i] = i;
        for (int i = cols - 1; i > 0; i--) {
            const int j = (int)draw((uint32_t)i + 1), kept = order[i];
            order[i] = order[j], order[j] = kept;
        }
    }
    return (lq_matrix){format, group, rows, cols, rows, bytes, data, with_bias ? floats((size_t)rows, 0.1f, 0) : NULL, order};
}

// Rows in one matrix, or one below the other in matrices of other forms.
static void parts(lq_matrix *to, const int *rows, int count, int format, int group, int cols, int with_bias, int with_order) {
    int all = 0;
    for (int i = 0; i < count; i++) all += rows[i];
    if (with_order || draw(2)) {
        to[0] = matrix(format, group, all, cols, with_bias, with_order);
        return;
    }
    for (int i = 0; i < count; i++) {
        const int k = lq_is_k(format), other = k ? LQ_K4 + (int)draw(3) : (int)draw(3);
        to[i] = matrix(other, k ? 256 : group, rows[i], cols, with_bias, 0);
        to[i].stride = all;
    }
}

static void free_matrix(lq_matrix *m) {
    free((void *)m->data);
    free((void *)m->bias);
    free((void *)m->order);
}

static lq_model random_model(void) {
    const int format = draw(2) ? (int)draw(3) : LQ_K4 + (int)draw(3), layers = 1 + (int)draw(2), k = lq_is_k(format);
    const int unit = k ? 256 : 64, group = format == LQ_K4 ? 128 << draw(2) : k ? 256 : 32 << draw(2);
    const int head_dim = 16 << draw(3), kv_heads = 1 + (int)draw(2), per_kv = 1 + (int)draw(8);
    const int hidden = unit * (1 + (int)draw(k ? 1 : 3)), ffn = unit * (1 + (int)draw(k ? 2 : 5)), vocab = 8 * (1 + (int)draw(30));
    // The width of the attention's output must hold whole groups too.
    const int heads = k ? kv_heads * (256 / head_dim) : kv_heads * per_kv * (64 / head_dim > 1 ? 64 / head_dim : 1);
    const int qkv[] = {heads * head_dim, kv_heads * head_dim, kv_heads * head_dim}, gate_up[] = {ffn, ffn};
    lq_layer *all = calloc((size_t)layers, sizeof *all);
    for (int i = 0; i < layers; i++) {
        const int ordered = draw(4) == 0;
        parts(all[i].qkv, qkv, 3, format, group, hidden, 1, ordered);
        all[i].out = matrix(format, group, hidden, heads * head_dim, 0, ordered);
        parts(all[i].gate_up, gate_up, 2, format, group, hidden, 0, ordered);
        all[i].down = matrix(format, group, hidden, ffn, 0, 0);
        all[i].attention_norm = floats((size_t)hidden, 0.1f, 1);
        all[i].ffn_norm = floats((size_t)hidden, 0.1f, 1);
    }
    return (lq_model){layers, hidden, heads,  kv_heads,
                      head_dim, ffn, vocab, 1e-6f, all, floats((size_t)hidden, 0.1f, 1), matrix(format, group, vocab, hidden, 0, 0)};
}

static void free_model(lq_model *m) {
    for (int i = 0; i < m->num_layers; i++) {
        lq_layer *layer = (lq_layer *)&m->layers[i];
        for (int p = 0; p < LQ_QKV_PARTS; p++) free_matrix(&layer->qkv[p]);
        for (int p = 0; p < LQ_GATE_UP_PARTS; p++) free_matrix(&layer->gate_up[p]);
        free_matrix(&layer->out), free_matrix(&layer->down);
        free((void *)layer->attention_norm), free((void *)layer->ffn_norm);
    }
    free((void *)m->layers), free((void *)m->final_norm);
    free_matrix(&m->head);
}

// All requests to their ends; `logits` [REQUESTS][vocab] gets the last token's of each.
static void run(const lq_model *m, const int *lengths, float *const *inputs, int in_chunks, const char *kernels, float *logits) {
    const int per_request = (MAX_LENGTH + LQ_BLOCK - 1) / LQ_BLOCK, half = m->head_dim / 2;
    const int num_blocks = per_request * REQUESTS;
    const size_t halves = (size_t)m->num_layers * num_blocks * m->kv_heads * LQ_BLOCK * m->head_dim;
    lq_kv kv = {num_blocks, halves * 2, malloc(halves * 2), malloc(halves * 2)};
    memset(kv.keys, 0xff, halves * 2);  // NaN: what nobody wrote must not count
    memset(kv.values, 0xff, halves * 2);
    const char *refused;
    const int threads = fixed_threads ? fixed_threads : 1 + (int)draw(4);
    lq_runner *runner = lq_runner_new(m, &kv, threads, MAX_TOKENS, MAX_LENGTH, kernels, &refused);
    if (!runner) printf("refused: %s\n", refused ? refused : "no memory"), abort();
    int32_t blocks[REQUESTS * (MAX_LENGTH / LQ_BLOCK + 1)], done[REQUESTS] = {0};
    for (int i = 0; i < num_blocks; i++) blocks[i] = (i * 5 + 3) % num_blocks;  // scattered: 5 and 15 blocks share a factor
    if (num_blocks % 5 == 0)
        for (int i = 0; i < num_blocks; i++) blocks[i] = num_blocks - 1 - i;
    for (;;) {
        int32_t position[MAX_TOKENS], table[MAX_TOKENS], wanted_token[REQUESTS], owner[REQUESTS];
        int tokens = 0, wanted = 0;
        float *hidden = malloc(sizeof(float) * MAX_TOKENS * (size_t)m->hidden);
        for (int r = 0; r < REQUESTS; r++) {
            int count = lengths[r] - done[r], room = MAX_TOKENS - tokens;
            if (in_chunks && count > 1) count = 1 + (int)draw((uint32_t)count);
            if (count > room) count = room;
            for (int i = 0; i < count; i++, tokens++, done[r]++) {
                position[tokens] = done[r];
                table[tokens] = r * per_request;
                memcpy(hidden + (size_t)tokens * m->hidden, inputs[r] + (size_t)done[r] * m->hidden, sizeof(float) * (size_t)m->hidden);
            }
            if (count > 0 && done[r] == lengths[r]) wanted_token[wanted] = tokens - 1, owner[wanted++] = r;
        }
        if (!tokens) {
            free(hidden);
            break;
        }
        float *cosine = malloc(sizeof(float) * (size_t)(tokens * half)), *sine = malloc(sizeof(float) * (size_t)(tokens * half));
        for (int t = 0; t < tokens; t++)
            for (int i = 0; i < half; i++) {
                const float angle = (float)position[t] / powf(10000, (float)i / (float)half);
                cosine[t * half + i] = cosf(angle), sine[t * half + i] = sinf(angle);
            }
        float *out = malloc(sizeof(float) * (size_t)(wanted + 1) * (size_t)m->vocab);
        // Panel by panel is the same as all at once.
        const int num_panels = m->vocab / 8;
        int32_t *panels = malloc(sizeof(int32_t) * (size_t)num_panels);
        for (int p = 0; p < num_panels; p++) panels[p] = num_panels - 1 - p;
        const int widths = 2 * m->hidden + m->heads * m->head_dim + m->ffn;
        float *inputs = malloc(sizeof(float) * ((size_t)tokens * m->num_layers * widths + (size_t)wanted * m->hidden));
        lq_step step = {tokens, position, table, blocks, cosine, sine, hidden, wanted, wanted_token, out,
                        num_panels, in_chunks ? panels : NULL, in_chunks ? inputs : NULL};
        lq_runner_step(runner, &step);
        free(panels), free(inputs);
        for (int w = 0; w < wanted; w++)
            memcpy(logits + (size_t)owner[w] * m->vocab, out + (size_t)w * m->vocab, sizeof(float) * (size_t)m->vocab);
        free(hidden), free(cosine), free(sine), free(out);
    }
    lq_runner_free(runner);
    free(kv.keys), free(kv.values);
}

int main(int argc, char **argv) {
    const int rounds = argc > 1 ? atoi(argv[1]) : 200;
    const char *name;
    fixed_threads = argc > 2 ? atoi(argv[2]) : 0;
    for (int round = 0; round < rounds; round++) {
        state = 0x9E3779B97F4A7C15u * (uint64_t)(round + 1);
        lq_model m = random_model();
        int lengths[REQUESTS];
        float *inputs[REQUESTS];
        for (int r = 0; r < REQUESTS; r++) {
            lengths[r] = 1 + (int)draw(round % 16 ? 70 : MAX_LENGTH);  // a long one in each sixteenth round
            inputs[r] = floats((size_t)lengths[r] * m.hidden, 1, 0);
        }
        const size_t count = (size_t)REQUESTS * m.vocab;
        float *expected = malloc(sizeof(float) * count), *logits = malloc(sizeof(float) * count);
        run(&m, lengths, inputs, 0, "portable", expected);
        for (size_t i = 0; i < count; i++)
            if (!isfinite(expected[i])) return printf("round %d: a logit is not finite\n", round), 1;
        for (int i = 0, runs, proven; (name = lq_kernels_list(i, &runs, &proven)); i++)
            for (int in_chunks = 0; in_chunks < 2 && runs; in_chunks++) {
                run(&m, lengths, inputs, in_chunks, name, logits);
                if (memcmp(expected, logits, sizeof(float) * count))
                    return printf("round %d: %s kernels %s differ\n", round, name, in_chunks ? "in chunks" : "in one go"), 1;
            }
        free(expected), free(logits);
        for (int r = 0; r < REQUESTS; r++) free(inputs[r]);
        free_model(&m);
    }
    printf("%d rounds: no memory error, same bits in any chunks and of all kernels:", rounds);
    for (int i = 0, runs, proven; (name = lq_kernels_list(i, &runs, &proven)); i++)
        if (runs) printf(" %s", name);
    printf("\n");
}
