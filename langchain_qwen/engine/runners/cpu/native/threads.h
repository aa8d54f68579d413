// Threads that run one function together, with barriers inside. No OpenMP: two OpenMP runtimes in a process fight.
#pragma once
#include <stdatomic.h>

typedef struct lq_threads lq_threads;
typedef void (*lq_work)(void *context, lq_threads *threads, int thread);

lq_threads *lq_threads_start(int count);  // NULL when the system refuses; count includes the caller
void lq_threads_stop(lq_threads *threads);

// Runs work(context, threads, 0 .. count-1), the caller being thread 0, and returns when all are done.
void lq_threads_run(lq_threads *threads, lq_work work, void *context);

// Inside work: waits for all threads. Also resets the shared counter of lq_threads_take.
void lq_threads_barrier(lq_threads *threads);

// Inside work: takes the next `size` items of a list that all threads share; returns the first one's number.
int lq_threads_take(lq_threads *threads, int size);
