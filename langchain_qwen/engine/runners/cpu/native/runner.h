// What the threads of a step share.
#pragma once
#include "kernels.h"
#include "threads.h"

// Tokens of a step that follow one another in a request, and so attend together.
typedef struct {
    int first, tokens;
    size_t part;  // where its rows begin in `parts`
} lq_span;

typedef struct lq_runner {
    const lq_kernels *kernels;
    lq_threads *threads;
    lq_model model;
    lq_kv kv;
    int num_threads, max_tokens, max_length;
    lq_acts acts;
    float *normed, *ordered, *qkv, *attended, *gate_up, *product;  // [max_tokens][...]
    float *scratch;                                                // [num_threads][lq_scratch_floats]
    float *parts;                                                  // [max_parts][head_dim + 2]
    size_t scratch_floats, max_parts;
    lq_span *spans;  // [max_tokens]
    int num_spans, num_items;  // items: pieces of spans that are attended to apart, or 0
    lq_step step;
} lq_runner;

// Hands out items 0 .. count-1 to the threads.
#define FOR_EACH(item, count) for (int item; (item = lq_threads_take(threads)) < (count);)

// Memory for a * b * c floats; NULL when there is none, or the product is no size.
void *lq_buffer(size_t a, size_t b, size_t c);

// attention.c
int lq_attention_allocate(lq_runner *r);  // whether there was memory
void lq_attention_prepare(lq_runner *r);  // once a step, on one thread
void lq_attend(lq_runner *r, lq_threads *threads, int thread, int layer);
