// What the engine needs of the operating system: Windows' own calls there, POSIX elsewhere. Include it first.
#pragma once
#if defined(__linux__)
#define _GNU_SOURCE  // sched_getaffinity
#endif
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#if defined(_WIN32)
#define WIN32_LEAN_AND_MEAN
#include <malloc.h>
#include <windows.h>

typedef HANDLE lq_thread;
typedef SRWLOCK lq_mutex;
typedef CONDITION_VARIABLE lq_condition;
#define LQ_THREAD_MAIN(name, argument) static DWORD WINAPI name(LPVOID argument)
#define LQ_THREAD_END return 0

static inline bool lq_thread_start(lq_thread *thread, LPTHREAD_START_ROUTINE main, void *argument) {
    return (*thread = CreateThread(NULL, 0, main, argument, 0, NULL)) != NULL;
}
static inline void lq_thread_join(lq_thread thread) {
    WaitForSingleObject(thread, INFINITE);
    CloseHandle(thread);
}
static inline void lq_thread_yield(void) { SwitchToThread(); }
static inline uint64_t lq_microseconds(void) {
    LARGE_INTEGER now, frequency;
    QueryPerformanceCounter(&now);
    QueryPerformanceFrequency(&frequency);
    return (uint64_t)(now.QuadPart / (frequency.QuadPart / 1000000 > 0 ? frequency.QuadPart / 1000000 : 1));
}

static inline void lq_mutex_init(lq_mutex *mutex) { InitializeSRWLock(mutex); }
static inline void lq_mutex_lock(lq_mutex *mutex) { AcquireSRWLockExclusive(mutex); }
static inline void lq_mutex_unlock(lq_mutex *mutex) { ReleaseSRWLockExclusive(mutex); }
static inline void lq_mutex_destroy(lq_mutex *mutex) { (void)mutex; }

static inline void lq_condition_init(lq_condition *condition) { InitializeConditionVariable(condition); }
static inline void lq_condition_wait(lq_condition *condition, lq_mutex *mutex) {
    SleepConditionVariableSRW(condition, mutex, INFINITE, 0);
}
static inline void lq_condition_wake_all(lq_condition *condition) { WakeAllConditionVariable(condition); }
static inline void lq_condition_destroy(lq_condition *condition) { (void)condition; }

static inline long lq_process(void) { return (long)GetCurrentProcessId(); }
static inline void *lq_aligned(size_t alignment, size_t bytes) { return _aligned_malloc(bytes, alignment); }
static inline void lq_aligned_free(void *p) { _aligned_free(p); }

// The processors that this process may use; 0 where that cannot be told.
static inline int lq_usable_processors(void) {
    DWORD_PTR mine, all;
    if (!GetProcessAffinityMask(GetCurrentProcess(), &mine, &all)) return 0;
    int count = 0;
    for (; mine; mine &= mine - 1) count++;
    return count;  // 0 too for a process on several groups of 64
}

#else
#include <pthread.h>
#include <sched.h>
#include <time.h>
#include <unistd.h>

typedef pthread_t lq_thread;
typedef pthread_mutex_t lq_mutex;
typedef pthread_cond_t lq_condition;
#define LQ_THREAD_MAIN(name, argument) static void *name(void *argument)
#define LQ_THREAD_END return NULL

static inline bool lq_thread_start(lq_thread *thread, void *(*main)(void *), void *argument) {
    return pthread_create(thread, NULL, main, argument) == 0;
}
static inline void lq_thread_join(lq_thread thread) { pthread_join(thread, NULL); }
static inline void lq_thread_yield(void) { sched_yield(); }
static inline uint64_t lq_microseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static inline void lq_mutex_init(lq_mutex *mutex) { pthread_mutex_init(mutex, NULL); }
static inline void lq_mutex_lock(lq_mutex *mutex) { pthread_mutex_lock(mutex); }
static inline void lq_mutex_unlock(lq_mutex *mutex) { pthread_mutex_unlock(mutex); }
static inline void lq_mutex_destroy(lq_mutex *mutex) { pthread_mutex_destroy(mutex); }

static inline void lq_condition_init(lq_condition *condition) { pthread_cond_init(condition, NULL); }
static inline void lq_condition_wait(lq_condition *condition, lq_mutex *mutex) { pthread_cond_wait(condition, mutex); }
static inline void lq_condition_wake_all(lq_condition *condition) { pthread_cond_broadcast(condition); }
static inline void lq_condition_destroy(lq_condition *condition) { pthread_cond_destroy(condition); }

static inline long lq_process(void) { return (long)getpid(); }
static inline void *lq_aligned(size_t alignment, size_t bytes) {
    void *p = NULL;
    return posix_memalign(&p, alignment, bytes) ? NULL : p;
}
static inline void lq_aligned_free(void *p) { free(p); }

// The processors that this process may use; 0 where that cannot be told.
static inline int lq_usable_processors(void) {
#if defined(__linux__)
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) ? 0 : CPU_COUNT(&set);
#else
    return 0;
#endif
}
#endif
