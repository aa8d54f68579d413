// One step of a Qwen2 model over a ragged batch, as all threads run it together.
#include "system.h"

#include <math.h>
#include <string.h>

#include "forms.h"
#include "runner.h"


static int at_least(int a, int b) { return a > b ? a : b; }

static void multiply(lq_runner *r, lq_threads *threads, const lq_matrix *w, int tokens, float *out) {
    int first, last;
    while (lq_threads_take_share(threads, w->rows / 8, &first, &last))
        r->kernels->multiply(w, &r->acts, tokens, first, last, out);
    lq_threads_barrier(threads);
}

// The same for all parts of a matrix. `x` are the inputs, whose activations stand ready for the first part.
static void multiply_parts(lq_runner *r, lq_threads *threads, const lq_matrix *parts, int most, const float *x, int tokens,
                           float *out) {
    for (int i = 0; i < most && parts[i].rows; out += parts[i++].rows) {
        if (i && x && !lq_same_acts(&parts[i - 1], &parts[i])) {
            FOR_EACH(m, tokens)
                r->kernels->store_acts(&parts[i], &r->acts, x + (size_t)m * parts[i].cols, m, tokens, 0, parts[i].cols);
            lq_threads_barrier(threads);
        }
        multiply(r, threads, &parts[i], tokens, out);
    }
}

// The inputs of token `m` in the order that a matrix wants.
static const float *ordered(lq_runner *r, const lq_matrix *w, const float *x, int m) {
    if (!w->order) return x;
    float *y = r->ordered + (size_t)m * w->cols;
    for (int k = 0; k < w->cols; k++) y[k] = x[w->order[k]];
    return y;
}

// Where the inputs of the matrix that comes next go, [count][cols]; NULL when the caller does not want to see them.
static float *kept(float **inputs, int count, int cols) {
    float *here = *inputs;
    if (here) *inputs += (size_t)count * cols;
    return here;
}

static void keep(float *kept, size_t place, const float *x, int count) {
    if (kept) memcpy(kept + place, x, (size_t)count * sizeof *x);
}

// hidden += product (unless NULL); activations of norm(hidden) for the matrix that comes next.
static void add_and_norm(lq_runner *r, lq_threads *threads, const float *product, const float *norm, const lq_matrix *next,
                         float *kept) {
    const lq_step *s = &r->step;
    const int hidden = r->model.hidden;
    FOR_EACH(m, s->tokens) {
        float *h = s->hidden + (size_t)m * hidden, *normed = r->normed + (size_t)m * hidden;
        if (product) r->kernels->add(h, product + (size_t)m * hidden, hidden);
        r->kernels->rms_norm(h, norm, r->model.norm_eps, hidden, normed);
        keep(kept, (size_t)m * hidden, normed, hidden);
        r->kernels->store_acts(next, &r->acts, ordered(r, next, normed, m), m, s->tokens, 0, hidden);
    }
    lq_threads_barrier(threads);
}

static void store_attended(lq_runner *r, lq_threads *threads, const lq_matrix *next, float *kept) {
    FOR_EACH(m, r->step.tokens) {
        const float *attended = r->attended + (size_t)m * next->cols, *x = ordered(r, next, attended, m);
        keep(kept, (size_t)m * next->cols, attended, next->cols);
        r->kernels->store_acts(next, &r->acts, x, m, r->step.tokens, 0, next->cols);
    }
    lq_threads_barrier(threads);
}

// Activations of silu(gate) * up. One token's columns are shared out too: there are many, and often only one token.
static void store_gated(lq_runner *r, lq_threads *threads, const lq_matrix *next, float *kept) {
    const int ffn = r->model.ffn, tokens = r->step.tokens, group = next->group, groups = ffn / group;
    const int piece = (groups + r->num_threads - 1) / r->num_threads, pieces = (groups + piece - 1) / piece;
    FOR_EACH(item, tokens * pieces) {
        const int m = item / pieces, begin = item % pieces * piece * group;
        const int end = begin + piece * group < ffn ? begin + piece * group : ffn;
        float *gate = r->gate_up + (size_t)m * 2 * ffn;
        r->kernels->silu_multiply(gate + begin, gate + ffn + begin, end - begin, gate + begin);
        keep(kept, (size_t)m * ffn + begin, gate + begin, end - begin);
        r->kernels->store_acts(next, &r->acts, gate, m, tokens, begin, end);
    }
    lq_threads_barrier(threads);
}

static void write_logits(lq_runner *r, lq_threads *threads, float *kept) {
    const lq_step *s = &r->step;
    const int hidden = r->model.hidden;
    FOR_EACH(i, s->wanted) {
        const size_t m = (size_t)s->wanted_token[i];
        float *h = s->hidden + m * hidden, *normed = r->normed + (size_t)i * hidden;
        r->kernels->add(h, r->product + m * hidden, hidden);
        r->kernels->rms_norm(h, r->model.final_norm, r->model.norm_eps, hidden, normed);
        keep(kept, (size_t)i * hidden, normed, hidden);
        r->kernels->store_acts(&r->model.head, &r->acts, ordered(r, &r->model.head, normed, i), i, s->wanted, 0, hidden);
    }
    lq_threads_barrier(threads);
    if (s->panels) {
        FOR_EACH(i, s->num_panels)
            r->kernels->multiply(&r->model.head, &r->acts, s->wanted, s->panels[i], s->panels[i] + 1, s->logits);
        lq_threads_barrier(threads);
    } else {
        multiply(r, threads, &r->model.head, s->wanted, s->logits);
    }
}

static void run_step(void *context, lq_threads *threads, int thread) {
    lq_runner *r = context;
    const int tokens = r->step.tokens, hidden = r->model.hidden;
    float *inputs = r->step.inputs;
    for (int i = 0; i < r->model.num_layers; i++) {
        const lq_layer *layer = &r->model.layers[i];
        float *before = i ? r->product : NULL;
        add_and_norm(r, threads, before, layer->attention_norm, layer->qkv, kept(&inputs, tokens, hidden));
        multiply_parts(r, threads, layer->qkv, LQ_QKV_PARTS, r->normed, tokens, r->qkv);
        lq_attend(r, threads, thread, i);
        store_attended(r, threads, &layer->out, kept(&inputs, tokens, layer->out.cols));
        multiply(r, threads, &layer->out, tokens, r->product);
        add_and_norm(r, threads, r->product, layer->ffn_norm, layer->gate_up, kept(&inputs, tokens, hidden));
        multiply_parts(r, threads, layer->gate_up, LQ_GATE_UP_PARTS, r->normed, tokens, r->gate_up);
        store_gated(r, threads, &layer->down, kept(&inputs, tokens, r->model.ffn));
        multiply(r, threads, &layer->down, tokens, r->product);
    }
    if (r->step.wanted) write_logits(r, threads, inputs);
}

static void run_products(void *context, lq_threads *threads, int thread) {
    (void)thread;
    lq_runner *r = context;
    for (int i = 0; i < r->model.num_layers; i++) {
        const lq_layer *layer = &r->model.layers[i];
        multiply_parts(r, threads, layer->qkv, LQ_QKV_PARTS, NULL, r->step.tokens, r->qkv);
        multiply(r, threads, &layer->out, r->step.tokens, r->product);
        multiply_parts(r, threads, layer->gate_up, LQ_GATE_UP_PARTS, NULL, r->step.tokens, r->gate_up);
        multiply(r, threads, &layer->down, r->step.tokens, r->product);
    }
    multiply(r, threads, &r->model.head, r->step.tokens, r->step.logits);
}

// Memory for a * b * c floats; NULL when there is none, or the product is no size.
void *lq_buffer(size_t a, size_t b, size_t c) {
    size_t size;
    if (__builtin_mul_overflow(a, b, &size) || __builtin_mul_overflow(size, c, &size) ||
        __builtin_mul_overflow(size, sizeof(float), &size))
        return NULL;
    return lq_aligned(64, size);
}

// All buffers of a step, so that a step allocates nothing. Each is as long as it has to be and no longer, so that the
// sanitizers find what goes beyond it.
static int allocate(lq_runner *r) {
    const lq_model *m = &r->model;
    const size_t tokens = (size_t)r->max_tokens, attended = (size_t)m->heads * (size_t)m->head_dim;
    const size_t widest = (size_t)at_least(m->ffn, at_least(m->hidden, m->heads * m->head_dim));
    r->normed = lq_buffer(tokens, (size_t)m->hidden, 1);
    r->qkv = lq_buffer(tokens, (size_t)(m->heads + 2 * m->kv_heads), (size_t)m->head_dim);
    r->attended = lq_buffer(tokens, attended, 1);
    r->gate_up = lq_buffer(tokens, 2, (size_t)m->ffn);
    r->product = lq_buffer(tokens, (size_t)m->hidden, 1);
    r->ordered = lq_buffer(tokens, widest, 1);
    r->acts.values = lq_buffer(tokens, widest, 1);  // or codes, which take no more
    r->acts.codes16 = (int16_t *)r->acts.values;
    r->acts.codes = (int8_t *)r->acts.values;
    r->acts.scale = lq_buffer(tokens, widest / 32, 1);
    r->acts.sum = lq_buffer(tokens, widest / 32, 1);
    r->acts.sums16 = (int16_t *)r->acts.sum;
    return r->normed && r->qkv && r->attended && r->gate_up && r->product && r->ordered && r->acts.values &&
           r->acts.scale && r->acts.sum && lq_attention_allocate(r);
}

EXPORT void lq_runner_free(lq_runner *r) {
    if (!r) return;
    lq_threads_stop(r->threads);
    float *buffers[] = {r->normed, r->qkv,   r->attended, r->gate_up,     r->product,   r->scratch,
                        r->parts,  r->ordered, r->acts.values, r->acts.scale, r->acts.sum};
    for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++) lq_aligned_free(buffers[i]);
    free(r->spans);
    free(r);
}

// `kernels` names a table, or is NULL for the best. NULL when the model is none that can be run, and then `*refused` says what of
// it is wrong; or when memory or threads cannot be had, and then it is NULL.
EXPORT lq_runner *lq_runner_new(const lq_model *model, const lq_kv *kv, int num_threads, int max_tokens, int max_length,
                                const char *kernels, const char **refused) {
    *refused = lq_check(model, kv, num_threads, max_tokens, max_length);
    if (!*refused && !lq_kernels_named(kernels)) *refused = "the name of the kernels";
    if (*refused) return NULL;
    lq_runner *r = calloc(1, sizeof *r);
    if (!r) return NULL;
    r->kernels = lq_kernels_named(kernels);
    r->model = *model;
    r->kv = *kv;
    r->num_threads = num_threads;
    r->max_tokens = max_tokens;
    r->max_length = (max_length + LQ_BLOCK - 1) / LQ_BLOCK * LQ_BLOCK;
    r->threads = lq_threads_start(num_threads);
    if (!r->threads || !allocate(r)) {
        lq_runner_free(r);
        return NULL;
    }
    return r;
}

EXPORT void lq_runner_step(lq_runner *r, const lq_step *step) {
    r->step = *step;
    lq_attention_prepare(r);
    lq_threads_run(r->threads, run_step, r);
}

// The matrix products of a step and nothing else, on whatever the buffers hold: how near they come to the memory's speed.
EXPORT void lq_runner_products(lq_runner *r, const lq_step *step) {
    r->step = *step;
    lq_threads_run(r->threads, run_products, r);
}
