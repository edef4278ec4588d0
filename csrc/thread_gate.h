/* thread_gate: where one thread sleeps until another lets it go on.
 *
 * Role: under every lock, condition and event of the threads runtime. A word and a futex. An open gate ends one wait,
 * now or later, and is shut again by it; opened twice it is open. A wait may also end for nothing, so what a thread
 * waits for is to be looked at after each (src/coordemu/runtime/thread_task.py does).
 *
 * Opening has two parts, so that a caller may do something of its own ahead of the system call, such as to let go of
 * a lock that the woken thread will want at once: thread_gate_open says whether thread_gate_wake is needed.
 *
 * Thread: the wait belongs to one thread; the others may be called by any.
 * Upstream: the inside of pthread_cond_t. Left out: owners, queues, counting; any kernel but Linux. */
#ifndef COORDEMU_THREAD_GATE_H
#define COORDEMU_THREAD_GATE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum { WAIT_OPENED = 1, WAIT_DEADLINE = 0, WAIT_DISTURBED = -1 }; /* the last: a signal, or nothing at all */

typedef struct thread_gate { _Atomic int32_t word; } thread_gate; /* all zero: shut */

int thread_gate_wait(thread_gate *gate, int64_t deadline_ns); /* blocks; CLOCK_MONOTONIC, 0 or more */
bool thread_gate_open(thread_gate *gate);                     /* true: it sleeps there, and must be woken */
void thread_gate_wake(thread_gate *gate);

#endif
