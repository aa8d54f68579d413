// Threads that run one function together, with barriers inside. No OpenMP: two OpenMP runtimes in a process fight.
#pragma once
#include <stdatomic.h>
#include <stdbool.h>

typedef struct lq_threads lq_threads;
typedef void (*lq_work)(void *context, lq_threads *threads, int thread);

lq_threads *lq_threads_start(int count);  // NULL when the system refuses; count includes the caller
void lq_threads_stop(lq_threads *threads);      // in a forked child it frees the memory alone

// Runs work(context, threads, 0 .. n-1), the caller being thread 0, and returns when all are done. n is the count, or
// less where the process may use fewer processors.
void lq_threads_run(lq_threads *threads, lq_work work, void *context);

// Inside work: waits for all threads. Also resets what has been taken.
void lq_threads_barrier(lq_threads *threads);

// Inside work: takes the next item of a list that all threads share; returns its number.
int lq_threads_take(lq_threads *threads);

// Inside work: takes the next of `count` items, first to last - 1; false when none are left. Shares are large at first,
// so that memory is read in long runs, and small at last, so that all threads end together.
bool lq_threads_take_share(lq_threads *threads, int count, int *first, int *last);
