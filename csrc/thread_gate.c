/* thread_gate: see thread_gate.h.
 *
 * Why no opening is lost: the sleeper's store of SLEEPER succeeds only over SHUT, the kernel lets it sleep only on
 * SLEEPER, and what it finds when it takes the word back to SHUT is OPEN if anybody has opened since. An opening that
 * comes later than that stays in the word, for the next wait. */
#include "thread_gate.h"

#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { SHUT = 0, OPEN = 1, SLEEPER = -1 };

int thread_gate_wait(thread_gate *gate, int64_t deadline_ns) {
    struct timespec until = {.tv_sec = (time_t)(deadline_ns / 1000000000), .tv_nsec = (long)(deadline_ns % 1000000000)};
    int32_t was = SHUT;
    int error = 0;
    if (atomic_compare_exchange_strong(&gate->word, &was, SLEEPER)) {
        long slept = syscall(SYS_futex, &gate->word, FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG, SLEEPER, &until, NULL,
                             FUTEX_BITSET_MATCH_ANY);
        error = slept < 0 ? errno : 0;
    }
    if (atomic_exchange(&gate->word, SHUT) == OPEN) { return WAIT_OPENED; }
    return error == ETIMEDOUT ? WAIT_DEADLINE : WAIT_DISTURBED;
}

bool thread_gate_open(thread_gate *gate) { return atomic_exchange(&gate->word, OPEN) == SLEEPER; }

void thread_gate_wake(thread_gate *gate) {
    syscall(SYS_futex, &gate->word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1, NULL, NULL, 0);
}
