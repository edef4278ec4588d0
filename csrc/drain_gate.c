/* drain_gate: see drain_gate.h.
 *
 * How no wake-up is lost: the writer changes what is looked at, then the turn, then reads the sleepers; a sleeper
 * counts itself, then reads the turn, then looks. All four are sequentially consistent, so either the writer sees the
 * sleeper, or the sleeper sees the change; and the kernel does not let it sleep on a turn that is over.
 *
 * How a look is exact though it reads two words: the phase is read before and after the count, and begin calls the
 * old drain off before it stores the new count. A count that belongs to another drain is thus never believed. */
#include "drain_gate.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S INT64_C(1000000000)
#define WAITING (-1)

static uint32_t phase_of(uint32_t generation, uint32_t state) { return generation << 2 | state; }
static uint32_t state_of(uint32_t phase) { return phase & 3u; }
static uint32_t generation_of(uint32_t phase) { return phase >> 2; }

int64_t drain_now_ns(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * NS_PER_S + ts.tv_nsec;
}

static struct timespec timespec_of(int64_t at_ns) {
    return (struct timespec){.tv_sec = (time_t)(at_ns / NS_PER_S), .tv_nsec = (long)(at_ns % NS_PER_S)};
}

static void wake_all(drain_gate *gate) {
    atomic_fetch_add(&gate->turn, 1);
    if (atomic_load(&gate->sleepers) != 0) {
        syscall(SYS_futex, &gate->turn, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, INT_MAX, NULL, NULL, 0);
    }
}

static void move_to(drain_gate *gate, uint32_t state) {
    atomic_store(&gate->phase, phase_of(generation_of(atomic_load(&gate->phase)), state));
}

void drain_gate_begin(drain_gate *gate, int64_t outstanding) {
    uint32_t phase = atomic_load(&gate->phase);
    if (state_of(phase) == GATE_ARMED) { move_to(gate, GATE_CALLED_OFF); }
    int64_t now_ns = drain_now_ns();
    atomic_store(&gate->begun_at_ns, now_ns);
    atomic_store(&gate->drained_at_ns, outstanding == 0 ? now_ns : 0);
    atomic_store(&gate->outstanding, outstanding);
    atomic_store(&gate->phase, phase_of(generation_of(phase) + 1, GATE_ARMED));
    wake_all(gate);
}

bool drain_gate_end(drain_gate *gate) {
    if (state_of(atomic_load(&gate->phase)) != GATE_ARMED) { return false; }
    bool called_off = atomic_load(&gate->outstanding) != 0;
    move_to(gate, called_off ? GATE_CALLED_OFF : GATE_OPEN);
    wake_all(gate);
    return called_off;
}

bool drain_gate_set(drain_gate *gate, int64_t outstanding) {
    if (state_of(atomic_load_explicit(&gate->phase, memory_order_relaxed)) != GATE_ARMED) { return false; }
    bool was_zero = atomic_load_explicit(&gate->outstanding, memory_order_relaxed) == 0;
    if (outstanding != 0) {
        if (was_zero) { atomic_store(&gate->drained_at_ns, 0); }
        atomic_store_explicit(&gate->outstanding, outstanding, memory_order_release);
        return false;
    }
    if (was_zero) { return false; }
    atomic_store(&gate->drained_at_ns, drain_now_ns());
    atomic_store(&gate->outstanding, 0);
    wake_all(gate);
    return true;
}

/* What a waiter for this generation should do now. */
static int look(const drain_gate *gate, uint32_t generation) {
    for (;;) {
        uint32_t phase = atomic_load(&gate->phase);
        if (generation_of(phase) != generation || state_of(phase) == GATE_CALLED_OFF) { return DRAIN_SUPERSEDED; }
        if (state_of(phase) == GATE_OPEN) { return DRAIN_DRAINED; }
        int64_t outstanding = atomic_load(&gate->outstanding);
        if (atomic_load(&gate->phase) == phase) { return outstanding == 0 ? DRAIN_DRAINED : WAITING; }
    }
}

bool drain_gate_drained(const drain_gate *gate) {
    return look(gate, generation_of(atomic_load(&gate->phase))) == DRAIN_DRAINED;
}

void drain_wait_start(const drain_gate *gate, drain_wait *wait) {
    wait->started_ns = drain_now_ns();
    wait->waited_ns = 0;
    wait->polls = wait->wake_ups = 0;
    wait->generation = generation_of(atomic_load(&gate->phase));
}

static int64_t deadline_of(const drain_wait *wait) {
    return wait->timeout_ns > INT64_MAX - wait->started_ns ? INT64_MAX : wait->started_ns + wait->timeout_ns;
}

/* Read the count, sleep the interval (less when the deadline is nearer), read again: at the deadline once more. */
static int wait_by_polling(drain_gate *gate, drain_wait *wait, int64_t deadline_ns) {
    for (;;) {
        int64_t now_ns = drain_now_ns();
        wait->polls++;
        int outcome = look(gate, wait->generation);
        if (outcome != WAITING) { return outcome; }
        if (now_ns >= deadline_ns) { return DRAIN_DEADLINE; }
        struct timespec until =
            timespec_of(wait->interval_ns < deadline_ns - now_ns ? now_ns + wait->interval_ns : deadline_ns);
        if (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR) { return DRAIN_INTERRUPTED; }
    }
}

static int wait_for_wake(drain_gate *gate, drain_wait *wait, int64_t deadline_ns) {
    struct timespec until = timespec_of(deadline_ns);
    for (;;) {
        uint32_t turn = atomic_load(&gate->turn);
        int outcome = look(gate, wait->generation);
        if (outcome != WAITING) { return outcome; }
        if (drain_now_ns() >= deadline_ns) { return DRAIN_DEADLINE; }
        long slept = syscall(SYS_futex, &gate->turn, FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG, turn, &until, NULL,
                             FUTEX_BITSET_MATCH_ANY);
        if (slept == 0) { wait->wake_ups++; }
        else if (errno == EINTR) { return DRAIN_INTERRUPTED; }
    }
}

int drain_gate_wait(drain_gate *gate, drain_wait *wait) {
    int64_t deadline_ns = deadline_of(wait);
    atomic_fetch_add(&gate->sleepers, 1);
    bool polling = wait->interval_ns > 0;
    int outcome = polling ? wait_by_polling(gate, wait, deadline_ns) : wait_for_wake(gate, wait, deadline_ns);
    atomic_fetch_sub(&gate->sleepers, 1);
    wait->waited_ns = drain_now_ns() - wait->started_ns;
    if (outcome != DRAIN_INTERRUPTED) {
        atomic_fetch_add(&gate->waits, 1);
        atomic_fetch_add(&gate->polls, wait->polls);
        atomic_fetch_add(&gate->wake_ups, wait->wake_ups);
    }
    return outcome;
}
