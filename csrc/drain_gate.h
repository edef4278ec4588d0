/* drain_gate: where a drain is waited for.
 *
 * Role: a count of what is still outstanding, a phase, and a way to sleep until the count is nought. The pending
 * table owns one gate. Everything in it is atomic and lies inside the struct, so a waiter needs nothing else: it may
 * run while the table's arrays are moved, and without Python's interpreter lock.
 *
 * Thread: the functions under "writer" belong to one thread (the I/O thread); a wait may run on any thread, also
 * several at once. The gate must outlive its waiters; whoever calls sees to that.
 *
 * Upstream: none. The write-up's drain sleeps 10 ms between looks and gives up after 5000 ms; drain_gate_wait with an
 * interval is that loop, and without one it is woken by the last reply.
 * Left out: fairness among waiters (all are woken), any clock but CLOCK_MONOTONIC, any kernel but Linux (futex). */
#ifndef COORDEMU_DRAIN_GATE_H
#define COORDEMU_DRAIN_GATE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* How a wait ended. DRAIN_INTERRUPTED: by a signal; the caller looks at it and calls again with the same drain_wait. */
enum { DRAIN_DRAINED = 0, DRAIN_DEADLINE = 1, DRAIN_SUPERSEDED = 2, DRAIN_INTERRUPTED = 3 };

/* Phases. event:       begin            end, count 0   end, count > 0
 *   GATE_OPEN          ARMED, next gen  -              -                 ("-": nothing changes)
 *   GATE_ARMED         ARMED, next gen  OPEN           CALLED_OFF
 *   GATE_CALLED_OFF    ARMED, next gen  -              - */
enum { GATE_OPEN = 0, GATE_ARMED = 1, GATE_CALLED_OFF = 2 };

typedef struct drain_gate {
    _Atomic int64_t outstanding;   /* of the drain that is armed */
    _Atomic uint32_t phase;        /* generation << 2 | GATE_... : one word, so that both are read as one */
    _Atomic uint32_t turn;         /* the futex: another value after everything that a sleeper must look at */
    _Atomic uint32_t sleepers;     /* inside a wait; none spares the writer its system call */
    _Atomic int64_t begun_at_ns;   /* CLOCK_MONOTONIC; 0: never */
    _Atomic int64_t drained_at_ns; /* when the count last came to 0; 0: not in this drain */
    _Atomic uint64_t waits, polls, wake_ups; /* over all waits that have ended */
} drain_gate;

/* One wait, kept by the caller across interruptions. timeout_ns >= 0; interval_ns > 0 polls, 0 sleeps until woken. */
typedef struct drain_wait {
    int64_t timeout_ns, interval_ns;
    int64_t started_ns, waited_ns;
    uint64_t polls, wake_ups;
    uint32_t generation; /* of the drain that is waited for */
} drain_wait;

int64_t drain_now_ns(void);

/* writer */
void drain_gate_begin(drain_gate *gate, int64_t outstanding);
bool drain_gate_end(drain_gate *gate); /* true: something was outstanding, so its waiters return DRAIN_SUPERSEDED */
bool drain_gate_set(drain_gate *gate, int64_t outstanding); /* true: this brought an armed gate's count to 0 */

/* any thread */
bool drain_gate_drained(const drain_gate *gate); /* open, or armed with nothing outstanding */
void drain_wait_start(const drain_gate *gate, drain_wait *wait); /* notes the drain and the time */
int drain_gate_wait(drain_gate *gate, drain_wait *wait);         /* blocks */

#endif
