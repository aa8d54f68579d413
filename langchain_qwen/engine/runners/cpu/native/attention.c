// Attention of a step: rotates and stores the new keys and values, shares the queries out among the threads, and merges
// what the segments of a long context give.
#include <math.h>
#include <stdlib.h>

#include "exp.h"
#include "runner.h"

// Rows (heads of tokens) that share each key and value they load; the larger, the longer a prompt's threads run apart.
enum { ROWS = 48 };

static int span_tokens(const lq_model *m) {
    const int group = m->heads / m->kv_heads;
    return group < ROWS ? ROWS / group : 1;
}

static int segments(int position) { return position / LQ_SEGMENT + 1; }

static int span_segments(const lq_runner *r, const lq_span *span) {
    return segments(r->step.position[span->first] + span->tokens - 1);
}

int lq_attention_allocate(lq_runner *r) {
    const lq_model *m = &r->model;
    const size_t rows = (size_t)span_tokens(m) * (size_t)(m->heads / m->kv_heads), d = (size_t)m->head_dim;
    // Of a thread: what the kernels need, then sums, largest and total of one segment, then largest and total of all.
    r->scratch_floats = (lq_attention_scratch(m->head_dim) + rows * (d + 4) + 15) / 16 * 16;
    r->max_parts = 2 * (size_t)m->heads * (size_t)segments(r->max_length - 1);
    r->scratch = lq_buffer((size_t)r->num_threads, r->scratch_floats, 1);
    r->parts = lq_buffer(r->max_parts, d + 2, 1);
    r->spans = calloc((size_t)r->max_tokens, sizeof *r->spans);
    return r->scratch && r->parts && r->spans;
}

void lq_attention_prepare(lq_runner *r) {
    const lq_step *s = &r->step;
    const int most = span_tokens(&r->model);
    r->num_spans = 0;
    for (int m = 0; m < s->tokens; m++) {
        lq_span *last = r->num_spans ? &r->spans[r->num_spans - 1] : NULL;
        const bool follows = last && s->table[m] == s->table[m - 1] && s->position[m] == s->position[m - 1] + 1;
        if (follows && last->tokens < most)
            last->tokens++;
        else
            r->spans[r->num_spans++] = (lq_span){m, 1, 0};
    }
    // Few spans over many segments: each segment is an item of its own, so that all threads have something to do.
    r->num_items = 0;
    if (r->num_spans * r->model.kv_heads >= 4 * r->num_threads) return;
    size_t parts = 0;
    int count = 0;
    for (int i = 0; i < r->num_spans; i++) {
        lq_span *span = &r->spans[i];
        span->part = parts;
        count += span_segments(r, span);
        parts += (size_t)span_segments(r, span) * (size_t)span->tokens * (size_t)r->model.heads;
    }
    if (count > r->num_spans && parts <= r->max_parts) r->num_items = count * r->model.kv_heads;
}

// Rotary embedding in the half-split form of transformers: components i and i + head_dim/2 are a pair.
static void rotate(float *head, const float *cosine, const float *sine, int head_dim, float scale) {
    const int half = head_dim / 2;
    for (int i = 0; i < half; i++) {
        const float a = head[i], b = head[i + half];
        head[i] = (a * cosine[i] - b * sine[i]) * scale;
        head[i + half] = (b * cosine[i] + a * sine[i]) * scale;
    }
}

static size_t layer_offset(const lq_runner *r, int layer) {
    return (size_t)layer * (size_t)r->kv.num_blocks * (size_t)r->model.kv_heads * LQ_BLOCK * (size_t)r->model.head_dim;
}

static void rotate_and_store(lq_runner *r, lq_threads *threads, int layer) {
    const lq_model *model = &r->model;
    const lq_step *s = &r->step;
    const int d = model->head_dim, heads = model->heads, kv_heads = model->kv_heads;
    FOR_EACH(m, s->tokens) {
        float *row = r->qkv + (size_t)m * (size_t)(heads + 2 * kv_heads) * (size_t)d;
        const float *cosine = s->cosine + (size_t)m * (d / 2), *sine = s->sine + (size_t)m * (d / 2);
        for (int h = 0; h < heads; h++) rotate(row + h * d, cosine, sine, d, 1 / sqrtf((float)d));
        const int slot = s->position[m] % LQ_BLOCK;
        const size_t block = (size_t)s->blocks[s->table[m] + s->position[m] / LQ_BLOCK];
        for (int h = 0; h < kv_heads; h++) {
            float *key = row + (size_t)(heads + h) * d, *value = row + (size_t)(heads + kv_heads + h) * d;
            const size_t offset = layer_offset(r, layer) + (block * kv_heads + h) * LQ_BLOCK * d;
            rotate(key, cosine, sine, d, 1);
            for (int begin = 0; begin < d; begin += 16) {  // head_dim is a multiple of 16
                uint16_t halves[16];
                r->kernels->to_half(key + begin, 16, halves);
                for (int i = 0; i < 16; i++) r->kv.keys[offset + (size_t)(begin + i) * LQ_BLOCK + slot] = halves[i];
            }
            r->kernels->to_half(value, d, r->kv.values + offset + (size_t)slot * d);
        }
    }
    lq_threads_barrier(threads);
}

static lq_queries queries(const lq_runner *r, const lq_span *span, int layer, int kv_head) {
    const lq_model *m = &r->model;
    const int d = m->head_dim, group = m->heads / m->kv_heads;
    const size_t head_block = (size_t)LQ_BLOCK * (size_t)d, stride = (size_t)(m->heads + 2 * m->kv_heads) * (size_t)d;
    const size_t offset = layer_offset(r, layer) + (size_t)kv_head * head_block;
    return (lq_queries){
        .query = r->qkv + (size_t)span->first * stride + (size_t)kv_head * (size_t)group * (size_t)d,
        .stride = stride,
        .tokens = span->tokens,
        .heads = group,
        .head_dim = d,
        .position = r->step.position[span->first],
        .keys = r->kv.keys + offset,
        .values = r->kv.values + offset,
        .block_stride = head_block * (size_t)m->kv_heads,
        .blocks = r->step.blocks + r->step.table[span->first],
    };
}

// Merges a row's next segment into those before it.
static void merge(float *sums, float *largest, float *total, const float *more, float more_largest, float more_total, int n) {
    const float most = *largest > more_largest ? *largest : more_largest;
    const float kept = lq_exp(*largest - most), added = lq_exp(more_largest - most);
    for (int i = 0; i < n; i++) sums[i] = sums[i] * kept + more[i] * added;
    *total = *total * kept + more_total * added;
    *largest = most;
}

static void divide(float *sums, float total, int n) {
    const float inverse = 1 / total;
    for (int i = 0; i < n; i++) sums[i] *= inverse;
}

// Where the result of a row of a span goes.
static float *result(const lq_runner *r, const lq_span *span, int kv_head, int row) {
    const int group = r->model.heads / r->model.kv_heads;
    const size_t head = (size_t)(span->first + row / group) * (size_t)r->model.heads + (size_t)(kv_head * group + row % group);
    return r->attended + head * (size_t)r->model.head_dim;
}

// One span and KV head, segment after segment.
static void attend_span(lq_runner *r, int thread, int layer, const lq_span *span, int kv_head) {
    const lq_queries q = queries(r, span, layer, kv_head);
    const int d = q.head_dim, rows = q.tokens * q.heads;
    float *scratch = r->scratch + (size_t)thread * r->scratch_floats;
    float *sums = scratch + lq_attention_scratch(d), *numbers = sums + (size_t)rows * (size_t)d;
    const lq_attended part = {numbers, numbers + rows, sums};
    float *largest = numbers + 2 * rows, *total = numbers + 3 * rows;
    for (int segment = 0; segment < span_segments(r, span); segment++) {
        r->kernels->attend(&q, segment, scratch, &part);
        for (int row = 0; row < rows; row++) {
            float *out = result(r, span, kv_head, row);
            const float *more = sums + (size_t)row * (size_t)d;
            if (!segment) {
                for (int i = 0; i < d; i++) out[i] = more[i];
                largest[row] = part.largest[row], total[row] = part.total[row];
            } else if (lq_in_segment(&q, segment, row / q.heads)) {
                merge(out, &largest[row], &total[row], more, part.largest[row], part.total[row], d);
            }
        }
    }
    for (int row = 0; row < rows; row++) divide(result(r, span, kv_head, row), total[row], d);
}

// What an item of its own has found: [rows] largest, [rows] total, [rows][head_dim] sums.
static lq_attended part_of(const lq_runner *r, const lq_span *span, int segment, int kv_head) {
    const lq_model *m = &r->model;
    const size_t rows = (size_t)span->tokens * (size_t)(m->heads / m->kv_heads);
    float *memory = r->parts + (span->part + (size_t)(segment * m->kv_heads + kv_head) * rows) * (size_t)(m->head_dim + 2);
    return (lq_attended){memory, memory + rows, memory + 2 * rows};
}

static void merge_parts(const lq_runner *r, const lq_span *span, int kv_head) {
    const int d = r->model.head_dim, group = r->model.heads / r->model.kv_heads, position = r->step.position[span->first];
    for (int row = 0; row < span->tokens * group; row++) {
        const lq_attended first = part_of(r, span, 0, kv_head);
        float *out = result(r, span, kv_head, row), largest = first.largest[row], total = first.total[row];
        for (int i = 0; i < d; i++) out[i] = first.sums[(size_t)row * (size_t)d + (size_t)i];
        for (int segment = 1; segment < segments(position + row / group); segment++) {
            const lq_attended part = part_of(r, span, segment, kv_head);
            merge(out, &largest, &total, part.sums + (size_t)row * (size_t)d, part.largest[row], part.total[row], d);
        }
        divide(out, total, d);
    }
}

static void attend_apart(lq_runner *r, lq_threads *threads, int thread, int layer) {
    const int kv_heads = r->model.kv_heads;
    float *scratch = r->scratch + (size_t)thread * r->scratch_floats;
    FOR_EACH(item, r->num_items) {
        const lq_span *span = r->spans;
        int rest = item;
        while (rest >= span_segments(r, span) * kv_heads) rest -= span_segments(r, span++) * kv_heads;
        const lq_queries q = queries(r, span, layer, rest % kv_heads);
        const lq_attended part = part_of(r, span, rest / kv_heads, rest % kv_heads);
        r->kernels->attend(&q, rest / kv_heads, scratch, &part);
    }
    lq_threads_barrier(threads);
    FOR_EACH(item, r->num_spans * kv_heads) merge_parts(r, &r->spans[item / kv_heads], item % kv_heads);
}

void lq_attend(lq_runner *r, lq_threads *threads, int thread, int layer) {
    const int kv_heads = r->model.kv_heads, count = r->num_spans * kv_heads;
    rotate_and_store(r, threads, layer);
    if (r->num_items)
        attend_apart(r, threads, thread, layer);
    else  // the last spans of a prompt take longest, so they come first
        FOR_EACH(item, count) attend_span(r, thread, layer, &r->spans[(count - 1 - item) / kv_heads], item % kv_heads);
    lq_threads_barrier(threads);
}
