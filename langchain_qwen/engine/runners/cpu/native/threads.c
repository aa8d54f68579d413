#include "threads.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

// Spinning bridges the gap between two steps of an answer; then the threads sleep, so that an idle chat costs nothing.
enum { SPIN_IN_STEP = 4000, SPIN_BETWEEN_STEPS = 20000 };

struct lq_threads {
    int count;
    pthread_t *workers;
    lq_work work;
    void *context;
    _Atomic unsigned generation;  // counts calls of run; workers wait for it to change
    _Atomic bool stopping;
    _Atomic int sleeping;
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    _Alignas(64) _Atomic int arrived;  // the barrier
    _Alignas(64) _Atomic unsigned phase;
    _Alignas(64) _Atomic int next_item;
};

typedef struct {
    lq_threads *threads;
    int number;
} worker_start;

static inline void pause_briefly(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

void lq_threads_barrier(lq_threads *t) {
    const unsigned phase = atomic_load_explicit(&t->phase, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&t->arrived, 1, memory_order_acq_rel) == t->count - 1) {
        atomic_store_explicit(&t->arrived, 0, memory_order_relaxed);
        atomic_store_explicit(&t->next_item, 0, memory_order_relaxed);
        atomic_store_explicit(&t->phase, phase + 1, memory_order_release);
        return;
    }
    for (int spins = 0; atomic_load_explicit(&t->phase, memory_order_acquire) == phase; spins++) {
        if (spins < SPIN_IN_STEP)
            pause_briefly();
        else
            sched_yield();  // another thread lost its processor; do not keep it away from this one
    }
}

int lq_threads_take(lq_threads *t) { return atomic_fetch_add_explicit(&t->next_item, 1, memory_order_relaxed); }

bool lq_threads_take_share(lq_threads *t, int count, int *first, int *last) {
    int taken = atomic_load_explicit(&t->next_item, memory_order_relaxed);
    do {
        if (taken >= count) return false;
        const int share = (count - taken) / (2 * t->count);
        *last = taken + (share > 1 ? share : 1);
    } while (!atomic_compare_exchange_weak_explicit(&t->next_item, &taken, *last, memory_order_relaxed, memory_order_relaxed));
    *first = taken;
    return true;
}

static unsigned wait_for_work(lq_threads *t, unsigned seen) {
    unsigned now;
    for (int spins = 0; spins < SPIN_BETWEEN_STEPS; spins++) {
        if ((now = atomic_load_explicit(&t->generation, memory_order_acquire)) != seen) return now;
        pause_briefly();
    }
    pthread_mutex_lock(&t->mutex);
    atomic_fetch_add(&t->sleeping, 1);
    while ((now = atomic_load(&t->generation)) == seen) pthread_cond_wait(&t->wake, &t->mutex);
    atomic_fetch_sub(&t->sleeping, 1);
    pthread_mutex_unlock(&t->mutex);
    return now;
}

static void *worker_main(void *argument) {
    worker_start start = *(worker_start *)argument;
    free(argument);
    lq_threads *t = start.threads;
    unsigned seen = 0;
    for (;;) {
        seen = wait_for_work(t, seen);
        if (atomic_load(&t->stopping)) return NULL;
        t->work(t->context, t, start.number);
        lq_threads_barrier(t);
    }
}

static void announce(lq_threads *t) {
    atomic_fetch_add(&t->generation, 1);
    if (atomic_load(&t->sleeping)) {
        pthread_mutex_lock(&t->mutex);
        pthread_cond_broadcast(&t->wake);
        pthread_mutex_unlock(&t->mutex);
    }
}

void lq_threads_run(lq_threads *t, lq_work work, void *context) {
    t->work = work;
    t->context = context;
    announce(t);
    work(context, t, 0);
    lq_threads_barrier(t);
}

lq_threads *lq_threads_start(int count) {
    lq_threads *t = aligned_alloc(64, (sizeof *t + 63) / 64 * 64);
    if (!t) return NULL;
    *t = (lq_threads){.count = 1};
    pthread_mutex_init(&t->mutex, NULL);
    pthread_cond_init(&t->wake, NULL);
    t->workers = calloc((size_t)count, sizeof *t->workers);
    while (t->workers && t->count < count) {
        worker_start *start = malloc(sizeof *start);
        if (!start) break;
        *start = (worker_start){t, t->count};
        if (pthread_create(&t->workers[t->count], NULL, worker_main, start)) {
            free(start);
            break;
        }
        t->count++;
    }
    if (t->count == count) return t;
    lq_threads_stop(t);
    return NULL;
}

void lq_threads_stop(lq_threads *t) {
    if (!t) return;
    atomic_store(&t->stopping, true);
    announce(t);
    for (int i = 1; i < t->count; i++) pthread_join(t->workers[i], NULL);
    pthread_mutex_destroy(&t->mutex);
    pthread_cond_destroy(&t->wake);
    free(t->workers);
    free(t);
}
