"""The recipe of the compiled module `coordemu._native`: what cffi is to wrap, and how it calls it.

Role: setup.py names `ffibuilder`, and setuptools has it write and compile the C of the module each time that the
package is built; nothing generated is kept in the source tree. Paths are relative to the project's root, which is
where a build runs. The module is built against the limited API, so one binary serves CPython 3.11 and later.

What is compiled: the pending table with the gate of its drains (`coordemu.native`), and for the runtime the gate of a
sleeping thread (`runtime.thread_gate`) and a loop's system calls (`runtime.quick_socket`).

The interpreter lock. cffi lets go of it around every call, which costs more than a counter does, and far more while
another Python thread is busy. cffi has no switch for that, but its wrappers use the two Py_*_ALLOW_THREADS macros, and
these are emptied here, ahead of the wrappers. So every call keeps the lock, and those that may block (the waits of a
drain, of a thread, of a loop) let go of it by themselves, as does the waking of a thread that is to have it. cffi
promises none of this: pyproject.toml bounds its version, and tests/test_native.py reads the generated C and watches
another thread run, or not run, during calls.

A consequence is relied upon: since calls keep the lock, each of them is one step to every Python thread. On a
free-threaded interpreter that would not hold, so the build refuses one.

Thread: none; it runs at build time. Upstream: none. Left out: any platform but Linux (the wait is a futex).
"""

from __future__ import annotations

import sysconfig

from cffi import FFI

C_SOURCES = ["csrc/pending_table.c", "csrc/drain_gate.c", "csrc/thread_gate.c", "csrc/loop_calls.c"]
C_HEADERS = ["csrc/pending_table.h", "csrc/drain_gate.h", "csrc/thread_gate.h", "csrc/loop_calls.h"]

DECLARATIONS = """
    typedef struct pending_table pending_table;
    typedef struct drain_wait {
        int64_t timeout_ns, interval_ns;
        int64_t started_ns, waited_ns;
        uint64_t polls, wake_ups;
        uint32_t generation;
    } drain_wait;
    typedef struct pending_statistics {
        uint64_t nodes, indices;
        uint64_t attached, connected, batches;
        int64_t replies, sub_replies;
        uint64_t drains_begun, drains_completed, waiting, waits, polls, wake_ups;
        int64_t begun_at_ns, drained_at_ns;
    } pending_statistics;

    pending_table *pending_table_new(void);
    void pending_table_free(pending_table *table);
    int pending_table_attach(pending_table *table, uint32_t node, uint32_t index);
    int pending_table_detach(pending_table *table, uint32_t node, uint32_t index, int64_t *thrown_away);
    int pending_table_set_connected(pending_table *table, uint32_t node, uint32_t index, bool connected);
    int pending_table_count(pending_table *table, uint32_t node, uint32_t index, int64_t replies, int64_t sub_replies);
    int64_t pending_table_replies(const pending_table *table, uint32_t node, uint32_t index);
    int64_t pending_table_sub_replies(const pending_table *table, uint32_t node, uint32_t index);
    bool pending_table_has_pending_operations(const pending_table *table, uint32_t node, uint32_t index);
    bool pending_table_any(const pending_table *table, uint32_t num);
    uint64_t pending_table_scan(const pending_table *table, uint32_t num);
    int64_t pending_table_total(const pending_table *table, uint32_t num);
    int64_t pending_table_begin_drain(pending_table *table, uint32_t num);
    bool pending_table_end_drain(pending_table *table);
    int64_t pending_table_draining_from(const pending_table *table);
    bool pending_table_drained(const pending_table *table);
    void pending_table_wait_start(const pending_table *table, drain_wait *wait);
    void pending_table_statistics(const pending_table *table, pending_statistics *out);
    bool pending_table_consistent(const pending_table *table);

    typedef struct thread_gate { ...; } thread_gate;
    int native_gate_wait(thread_gate *gate, int64_t deadline_ns);
    void native_gate_open(thread_gate *gate, bool hand_over);

    bool native_is_busy(void);
    void native_set_busy(int64_t until_ns);

    int native_poll(int epoll, int max, int64_t timeout_ns, int64_t spin_ns, int32_t *fds, uint32_t *masks);
    int loop_recv(int fd, char *into, int max);
    int loop_send(int fd, const char *from, int size);
    int loop_watch(int epoll, int fd, uint32_t mask, int known);
    int loop_close(int fd, int reset);

    int native_wait(pending_table *table, drain_wait *wait);
    bool native_nothing(const pending_table *table, uint32_t num);
"""

PREAMBLE = """
#include "loop_calls.h"
#include "pending_table.h"
#include "thread_gate.h"

/* Keep the interpreter lock in the wrappers below; see src/coordemu/_build_native.py. */
#undef Py_BEGIN_ALLOW_THREADS
#undef Py_END_ALLOW_THREADS
#define Py_BEGIN_ALLOW_THREADS {
#define Py_END_ALLOW_THREADS }

/* Whoever waits long for the interpreter lock knows that another thread computes, and for a while it is not given away
 * where that can be helped. Written with the interpreter lock held. */
#define LATE_NS 1000000
#define BUSY_FOR_NS 100000000
static int64_t busy_until_ns;

static bool native_is_busy(void) { return busy_until_ns != 0 && drain_now_ns() < busy_until_ns; }

static void native_set_busy(int64_t until_ns) { busy_until_ns = until_ns; }

static void take_lock_back(PyThreadState *state) {
    int64_t asked_ns = drain_now_ns();
    PyEval_RestoreThread(state);
    int64_t had_ns = drain_now_ns();
    if (had_ns - asked_ns > LATE_NS) { busy_until_ns = had_ns + BUSY_FOR_NS; }
}

static int native_wait(pending_table *table, drain_wait *wait) {
    PyThreadState *state = PyEval_SaveThread();
    int outcome = pending_table_wait(table, wait);
    take_lock_back(state);
    return outcome;
}

static int native_gate_wait(thread_gate *gate, int64_t deadline_ns) {
    PyThreadState *state = PyEval_SaveThread();
    int outcome = thread_gate_wait(gate, deadline_ns);
    take_lock_back(state);
    return outcome;
}

/* To hand over is to wake without the interpreter lock, which the woken thread then finds free; beside a thread that
 * computes it would be that one who takes it, so there it is kept. */
static void native_gate_open(thread_gate *gate, bool hand_over) {
    if (!thread_gate_open(gate)) { return; }
    PyThreadState *state = hand_over && !native_is_busy() ? PyEval_SaveThread() : NULL;
    thread_gate_wake(gate);
    if (state) { take_lock_back(state); }
}

/* Look; beside a thread that computes, look on for spin_ns; then wait, for that alone without the interpreter lock.
 * timeout_ns -1: no limit. */
static int native_poll(int epoll, int max, int64_t timeout_ns, int64_t spin_ns, int32_t *fds, uint32_t *masks) {
    int64_t until_ns = spin_ns && native_is_busy() ? drain_now_ns() + spin_ns : 0;
    int count;
    do { count = loop_look(epoll, max, fds, masks); } while (!count && until_ns && drain_now_ns() < until_ns);
    if (count != 0 || timeout_ns == 0) { return count; }
    PyThreadState *state = PyEval_SaveThread();
    count = loop_sleep(epoll, timeout_ns);
    take_lock_back(state);
    return count > 0 ? loop_look(epoll, max, fds, masks) : count;
}

/* What a call with these arguments costs: the yardstick of the benchmarks. */
static bool native_nothing(const pending_table *table, uint32_t num) { return table != NULL && num == 0; }
"""

if sysconfig.get_config_var("Py_GIL_DISABLED"):
    raise RuntimeError("coordemu needs an interpreter with the interpreter lock; this one is free-threaded")

ffibuilder = FFI()
ffibuilder.cdef(DECLARATIONS)
ffibuilder.set_source(
    "coordemu._native",
    PREAMBLE,
    sources=C_SOURCES,
    depends=C_HEADERS,
    include_dirs=["csrc"],
    extra_compile_args=["-std=gnu11", "-O2"],
)
