/* Test driver of csrc/, plain C so that it can run under ASan, UBSan and TSan: `make sanitize` builds and runs it.
 *
 *   test_pending_table [seed [rounds]]
 *
 * Each part says what it checks; a failure prints the line and ends the program with status 1. */
#define _GNU_SOURCE
#include "pending_table.h"

#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NS_PER_MS INT64_C(1000000)
#define LONG_NS (60000 * NS_PER_MS) /* a deadline that only a lost wake-up reaches */

#define CHECK(what)                                                                   \
    do {                                                                              \
        if (!(what)) {                                                                \
            fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #what);        \
            exit(1);                                                                  \
        }                                                                             \
    } while (0)

static uint64_t random_state;

static uint32_t below(uint32_t n) { /* xorshift64* */
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return (uint32_t)((random_state * UINT64_C(0x2545F4914F6CDD1D)) >> 33) % n;
}

static drain_wait wait_at(pending_table *table, int64_t interval_ns, int64_t timeout_ns, int *outcome) {
    drain_wait wait = {.timeout_ns = timeout_ns, .interval_ns = interval_ns};
    pending_table_wait_start(table, &wait);
    do { *outcome = pending_table_wait(table, &wait); } while (*outcome == DRAIN_INTERRUPTED);
    return wait;
}

/* Every refusal, and that it changes nothing. */
static void test_refusals(void) {
    int64_t away;
    pending_table *table = pending_table_new();
    CHECK(table);
    CHECK(pending_table_count(table, 0, 0, 1, 0) == PENDING_NO_CONTEXT);
    CHECK(pending_table_detach(table, 0, 0, &away) == PENDING_NO_CONTEXT && away == 0);
    CHECK(pending_table_set_connected(table, 0, 0, true) == PENDING_NO_CONTEXT);
    CHECK(!pending_table_has_pending_operations(table, UINT32_MAX, UINT32_MAX));
    CHECK(pending_table_replies(table, 7, 7) == 0 && pending_table_sub_replies(table, 7, 7) == 0);
    CHECK(!pending_table_any(table, 0) && pending_table_scan(table, 0) == 0 && pending_table_total(table, 0) == 0);
    CHECK(pending_table_attach(table, PENDING_MAX_NODES, 0) == PENDING_OUT_OF_RANGE);
    CHECK(pending_table_attach(table, 0, PENDING_MAX_INDICES) == PENDING_OUT_OF_RANGE);
    CHECK(pending_table_attach(table, 2, 3) == PENDING_OK);
    CHECK(pending_table_attach(table, 2, 3) == PENDING_ATTACHED);
    CHECK(pending_table_attach(table, PENDING_MAX_NODES - 1, PENDING_MAX_INDICES - 1) == PENDING_OUT_OF_RANGE);
    CHECK(pending_table_set_connected(table, 2, 3, true) == PENDING_OK);
    CHECK(pending_table_count(table, 2, 3, 4, 1) == PENDING_OK);
    CHECK(pending_table_count(table, 2, 3, -5, 0) == PENDING_BELOW_ZERO);
    CHECK(pending_table_count(table, 2, 3, -4, -2) == PENDING_BELOW_ZERO);
    CHECK(pending_table_count(table, 2, 3, INT64_MIN, 0) == PENDING_BELOW_ZERO);
    CHECK(pending_table_count(table, 2, 3, INT64_MAX, 0) == PENDING_TOO_MANY);
    CHECK(pending_table_count(table, 2, 3, 0, PENDING_MAX_COUNT) == PENDING_TOO_MANY);
    CHECK(pending_table_replies(table, 2, 3) == 4 && pending_table_sub_replies(table, 2, 3) == 1);
    CHECK(pending_table_consistent(table));
    CHECK(pending_table_detach(table, 2, 3, &away) == PENDING_OK && away == 5);
    CHECK(!pending_table_any(table, 0) && pending_table_consistent(table));
    pending_table_free(table);
    pending_table_free(NULL);
}

/* The four questions of has_pending_operations, one after the other. */
static void test_conditions(void) {
    int64_t away;
    pending_table *table = pending_table_new();
    CHECK(!pending_table_has_pending_operations(table, 0, 0));
    CHECK(pending_table_attach(table, 0, 0) == PENDING_OK);
    CHECK(pending_table_count(table, 0, 0, 3, 0) == PENDING_OK);
    CHECK(!pending_table_has_pending_operations(table, 0, 0)); /* not Connected */
    CHECK(pending_table_set_connected(table, 0, 0, true) == PENDING_OK);
    CHECK(pending_table_has_pending_operations(table, 0, 0));
    CHECK(pending_table_count(table, 0, 0, -3, 2) == PENDING_OK);
    CHECK(pending_table_has_pending_operations(table, 0, 0)); /* sub-replies alone */
    CHECK(pending_table_count(table, 0, 0, 0, -2) == PENDING_OK);
    CHECK(!pending_table_has_pending_operations(table, 0, 0));
    CHECK(pending_table_detach(table, 0, 0, &away) == PENDING_OK && away == 0);
    pending_table_free(table);
}

/* What each event does to the gate (the table in drain_gate.h). */
static void test_gate(void) {
    int outcome;
    int64_t away;
    pending_table *table = pending_table_new();
    CHECK(pending_table_drained(table) && pending_table_draining_from(table) == -1);
    wait_at(table, 0, LONG_NS, &outcome);
    CHECK(outcome == DRAIN_DRAINED); /* no drain: open */
    CHECK(!pending_table_end_drain(table));
    for (uint32_t index = 0; index < 4; index++) {
        CHECK(pending_table_attach(table, 0, index) == PENDING_OK);
        CHECK(pending_table_set_connected(table, 0, index, true) == PENDING_OK);
        CHECK(pending_table_count(table, 0, index, 2, 0) == PENDING_OK);
    }
    CHECK(pending_table_begin_drain(table, 1) == 6 && pending_table_draining_from(table) == 1);
    CHECK(!pending_table_drained(table));
    drain_wait wait = wait_at(table, 0, 2 * NS_PER_MS, &outcome);
    CHECK(outcome == DRAIN_DEADLINE && wait.polls == 0 && wait.waited_ns >= 2 * NS_PER_MS);
    wait = wait_at(table, NS_PER_MS, 5 * NS_PER_MS, &outcome);
    CHECK(outcome == DRAIN_DEADLINE && wait.wake_ups == 0 && wait.polls >= 2 && wait.polls <= 6);
    wait = wait_at(table, LONG_NS, 0, &outcome);
    CHECK(outcome == DRAIN_DEADLINE && wait.polls == 1);
    CHECK(pending_table_count(table, 0, 0, -2, 0) == PENDING_OK); /* below num: not the drain's */
    CHECK(pending_table_count(table, 0, 1, -2, 0) == PENDING_OK);
    CHECK(pending_table_set_connected(table, 0, 2, false) == PENDING_OK);
    CHECK(pending_table_detach(table, 0, 3, &away) == PENDING_DRAINED && away == 2);
    CHECK(pending_table_drained(table) && pending_table_consistent(table));
    CHECK(pending_table_set_connected(table, 0, 2, true) == PENDING_OK); /* a level: closed again */
    CHECK(!pending_table_drained(table) && pending_table_consistent(table));
    CHECK(pending_table_set_connected(table, 0, 2, false) == PENDING_DRAINED);
    CHECK(!pending_table_end_drain(table) && pending_table_drained(table));
    CHECK(pending_table_draining_from(table) == -1);
    CHECK(pending_table_set_connected(table, 0, 2, true) == PENDING_OK); /* over: open, whatever is outstanding */
    CHECK(pending_table_drained(table));
    CHECK(pending_table_begin_drain(table, 0) == 2);
    CHECK(pending_table_end_drain(table)); /* called off */
    CHECK(!pending_table_drained(table));
    wait_at(table, 0, LONG_NS, &outcome);
    CHECK(outcome == DRAIN_SUPERSEDED);
    CHECK(pending_table_begin_drain(table, 3) == 0 && pending_table_drained(table));
    pending_statistics numbers;
    pending_table_statistics(table, &numbers);
    CHECK(numbers.drains_begun == 3 && numbers.drains_completed == 3 && numbers.waits == 5);
    CHECK(numbers.attached == 3 && numbers.connected == 3 && numbers.replies == 2 && numbers.batches == 6);
    CHECK(numbers.begun_at_ns > 0 && numbers.drained_at_ns == numbers.begun_at_ns);
    pending_table_free(table);
}

/* The table against the plainest model, with every derived answer checked after every change. */
enum { MODEL_NODES = 40, MODEL_INDICES = 150 };
typedef struct model { bool attached, connected; int64_t replies, sub_replies; } model;

static int64_t owed(const model *m) { return m->attached && m->connected ? m->replies + m->sub_replies : 0; }

static void test_random(uint32_t rounds) {
    static model models[MODEL_NODES][MODEL_INDICES];
    memset(models, 0, sizeof models);
    pending_table *table = pending_table_new();
    uint32_t nodes = 1 + below(MODEL_NODES), indices = 1 + below(MODEL_INDICES), keys = 1 + below(12);
    uint32_t node_of[12], index_of[12];
    for (uint32_t key = 0; key < keys; key++) { node_of[key] = below(nodes), index_of[key] = below(indices); }
    int64_t drain = -1;
    for (uint32_t round = 0; round < rounds; round++) {
        /* few connections, so that much happens to each; now and then another one, so that the table grows */
        uint32_t key = below(keys), node = node_of[key], index = index_of[key], num = below(indices + 2);
        if (below(20) == 0) { node = below(nodes), index = below(indices); }
        model *m = &models[node][index];
        int64_t before = 0, after = 0, total = 0, away, replies = (int64_t)below(9) - 4, subs = (int64_t)below(5) - 2;
        uint64_t busy = 0;
        for (uint32_t i = 0; i < indices; i++) {
            for (uint32_t n = 0; n < nodes; n++) {
                if (drain >= 0 && i >= drain) { before += owed(&models[n][i]); }
            }
        }
        int code = PENDING_OK, wanted = PENDING_OK;
        switch (below(8)) {
        case 0:
            code = pending_table_attach(table, node, index);
            if (m->attached) { wanted = PENDING_ATTACHED; }
            m->attached = true;
            break;
        case 1:
            if (below(3)) { break; }
            code = pending_table_detach(table, node, index, &away);
            if (!m->attached) { wanted = PENDING_NO_CONTEXT; }
            CHECK(away == m->replies + m->sub_replies);
            *m = (model){0};
            break;
        case 2:
            if (below(3) && m->connected) { break; }
            code = pending_table_set_connected(table, node, index, !m->connected);
            if (!m->attached) { wanted = PENDING_NO_CONTEXT; }
            else { m->connected = !m->connected; }
            break;
        case 3:
            switch (below(4)) {
            case 0:
                pending_table_begin_drain(table, num);
                drain = num;
                break;
            case 1:
                pending_table_end_drain(table);
                drain = -1;
                break;
            }
            break;
        default:
            code = pending_table_count(table, node, index, replies, subs);
            if (!m->attached) { wanted = PENDING_NO_CONTEXT; }
            else if (m->replies + replies < 0 || m->sub_replies + subs < 0) { wanted = PENDING_BELOW_ZERO; }
            else { m->replies += replies, m->sub_replies += subs; }
        }
        for (uint32_t i = 0; i < indices; i++) {
            for (uint32_t n = 0; n < nodes; n++) {
                int64_t w = owed(&models[n][i]);
                if (i >= num) { total += w, busy += w != 0; }
                if (drain >= 0 && i >= drain) { after += w; }
            }
        }
        if (wanted == PENDING_OK && code == PENDING_DRAINED) { CHECK(drain >= 0 && before > 0 && after == 0); }
        else { CHECK(code == wanted); }
        if (drain >= 0) { CHECK(pending_table_drained(table) == (after == 0)); }
        CHECK(pending_table_draining_from(table) == drain);
        CHECK(pending_table_total(table, num) == total);
        CHECK(pending_table_scan(table, num) == busy);
        CHECK(pending_table_any(table, num) == (busy != 0));
        CHECK(pending_table_has_pending_operations(table, node, index) == (owed(m) != 0));
        CHECK(pending_table_replies(table, node, index) == m->replies);
        CHECK(pending_table_sub_replies(table, node, index) == m->sub_replies);
        CHECK(pending_table_consistent(table));
    }
    pending_table_free(table);
}

/* A dense table: the scan's words and lanes past 255, from every start. */
static void test_scan_dense(void) {
    enum { NODES = 5000, INDICES = 3 };
    pending_table *table = pending_table_new();
    for (uint32_t node = 0; node < NODES; node++) {
        for (uint32_t index = 0; index < INDICES; index++) {
            CHECK(pending_table_attach(table, node, index) == PENDING_OK);
            CHECK(pending_table_set_connected(table, node, index, true) == PENDING_OK);
            CHECK(pending_table_count(table, node, index, 1, 0) == PENDING_OK);
        }
    }
    for (uint32_t num = 0; num <= INDICES; num++) {
        CHECK(pending_table_scan(table, num) == (uint64_t)NODES * (INDICES - num));
        CHECK(pending_table_total(table, num) == (int64_t)NODES * (INDICES - num));
    }
    pending_table_free(table);
}

/* Waiters on other threads, while this one counts down, calls off and begins again, and moves the arrays by growing. */
enum { WAITERS = 4 };
typedef struct waiter {
    pthread_t thread;
    pending_table *table;
    int64_t interval_ns, timeout_ns;
    int outcome;
    drain_wait wait;
} waiter;

static void *wait_once(void *arg) {
    waiter *w = arg;
    w->wait = wait_at(w->table, w->interval_ns, w->timeout_ns, &w->outcome);
    return NULL;
}

static void start(waiter *waiters, pending_table *table) {
    for (int i = 0; i < WAITERS; i++) {
        waiters[i] = (waiter){.table = table, .timeout_ns = LONG_NS, .interval_ns = i % 2 ? NS_PER_MS / 4 : 0};
        CHECK(pthread_create(&waiters[i].thread, NULL, wait_once, &waiters[i]) == 0);
    }
}

static void join(waiter *waiters) {
    for (int i = 0; i < WAITERS; i++) { CHECK(pthread_join(waiters[i].thread, NULL) == 0); }
}

static void test_threads(uint32_t rounds) {
    waiter waiters[WAITERS];
    pending_table *table = pending_table_new();
    for (uint32_t round = 0; round < rounds; round++) {
        uint32_t index = 1 + below(12), replies = 1 + below(50);
        int64_t away;
        CHECK(pending_table_attach(table, round, index) == PENDING_OK); /* a new node each round: the table grows */
        CHECK(pending_table_set_connected(table, round, index, true) == PENDING_OK);
        CHECK(pending_table_count(table, round, index, replies, 0) == PENDING_OK);
        CHECK(pending_table_begin_drain(table, 1) == replies);
        start(waiters, table);
        if (below(2)) { usleep(below(600)); }
        bool call_off = below(4) == 0;
        for (uint32_t left = replies; left > (call_off ? 1u : 0u); left--) {
            int code = pending_table_attach(table, 5000 + below(2000), 20 + round);
            CHECK(code == PENDING_OK || code == PENDING_ATTACHED);
            CHECK(pending_table_count(table, round, index, -1, 0) == (left == 1 ? PENDING_DRAINED : PENDING_OK));
        }
        if (!call_off) { join(waiters); } /* woken by the last reply, since the drain goes on */
        else if (below(2)) { pending_table_begin_drain(table, 0); }
        CHECK(pending_table_end_drain(table) == call_off);
        if (call_off) { join(waiters); }
        for (int i = 0; i < WAITERS; i++) {
            CHECK(waiters[i].outcome == (call_off ? DRAIN_SUPERSEDED : DRAIN_DRAINED));
        }
        CHECK(pending_table_detach(table, round, index, &away) == PENDING_OK && away == call_off);
    }
    pending_statistics numbers;
    pending_table_statistics(table, &numbers);
    CHECK(numbers.waits == (uint64_t)rounds * WAITERS && pending_table_consistent(table));
    pending_table_free(table);
}

/* Many drains in a row while waiters come and go: each wait ends, none by its deadline. */
static _Atomic bool over;

static void *wait_often(void *arg) {
    waiter *w = arg;
    while (!atomic_load(&over)) {
        wait_once(w);
        if (w->outcome == DRAIN_DEADLINE) { break; }
    }
    return NULL;
}

static void test_churn(uint32_t rounds) {
    waiter waiters[WAITERS];
    pending_table *table = pending_table_new();
    CHECK(pending_table_attach(table, 0, 1) == PENDING_OK);
    CHECK(pending_table_set_connected(table, 0, 1, true) == PENDING_OK);
    atomic_store(&over, false);
    for (int i = 0; i < WAITERS; i++) {
        waiters[i] = (waiter){.table = table, .timeout_ns = LONG_NS, .interval_ns = i == 3 ? 1000 : 0};
        CHECK(pthread_create(&waiters[i].thread, NULL, wait_often, &waiters[i]) == 0);
    }
    for (uint32_t round = 0; round < rounds; round++) {
        CHECK(pending_table_count(table, 0, 1, 3, 0) == PENDING_OK);
        CHECK(pending_table_begin_drain(table, 1) == 3);
        if (below(8) == 0) { usleep(below(100)); }
        if (below(3) == 0) { CHECK(pending_table_end_drain(table)); }
        int code = pending_table_count(table, 0, 1, -3, 0);
        CHECK(code == (pending_table_draining_from(table) < 0 ? PENDING_OK : PENDING_DRAINED));
        if (below(2)) { pending_table_end_drain(table); }
    }
    pending_table_end_drain(table);
    atomic_store(&over, true);
    join(waiters);
    for (int i = 0; i < WAITERS; i++) { CHECK(waiters[i].outcome != DRAIN_DEADLINE); }
    pending_table_free(table);
}

/* The gate alone: drains of an odd generation are called off, with and without an end, and those of an even one drain,
 * so whoever is told "drained" must have waited for an even one. */
static void *wait_strictly(void *arg) {
    drain_gate *gate = arg;
    for (uint32_t seen = 0; !atomic_load(&over); seen++) {
        drain_wait wait = {.timeout_ns = LONG_NS, .interval_ns = seen % 8 == 0 ? 1000 : 0};
        drain_wait_start(gate, &wait);
        int outcome = drain_gate_wait(gate, &wait);
        CHECK(outcome == DRAIN_SUPERSEDED || (outcome == DRAIN_DRAINED && wait.generation % 2 == 0));
    }
    return NULL;
}

static void test_generations(uint32_t rounds) {
    static drain_gate gate;
    pthread_t threads[WAITERS];
    gate = (drain_gate){0};
    atomic_store(&over, false);
    for (int i = 0; i < WAITERS; i++) { CHECK(pthread_create(&threads[i], NULL, wait_strictly, &gate) == 0); }
    for (uint32_t round = 0; round < rounds; round++) {
        drain_gate_begin(&gate, 3);
        CHECK(!drain_gate_set(&gate, 2));
        if (below(2)) { CHECK(drain_gate_end(&gate) && !drain_gate_drained(&gate)); }
        if (below(2)) {
            drain_gate_begin(&gate, 0);
        } else {
            drain_gate_begin(&gate, 1);
            CHECK(drain_gate_set(&gate, 0) && !drain_gate_set(&gate, 0));
        }
        CHECK(drain_gate_drained(&gate) && !drain_gate_end(&gate) && drain_gate_drained(&gate));
    }
    atomic_store(&over, true);
    for (int i = 0; i < WAITERS; i++) { CHECK(pthread_join(threads[i], NULL) == 0); }
}

/* A signal ends the C wait early, and the wait goes on with the same deadline and numbers when called again. */
static void on_signal(int number) { (void)number; }

static void *wait_interrupted(void *arg) {
    waiter *w = arg;
    pending_table_wait_start(w->table, &w->wait);
    w->outcome = pending_table_wait(w->table, &w->wait);
    return NULL;
}

static void test_interrupted(void) {
    struct sigaction action = {.sa_handler = on_signal}, old;
    CHECK(sigaction(SIGUSR1, &action, &old) == 0);
    pending_table *table = pending_table_new();
    CHECK(pending_table_attach(table, 0, 0) == PENDING_OK);
    CHECK(pending_table_set_connected(table, 0, 0, true) == PENDING_OK);
    CHECK(pending_table_count(table, 0, 0, 1, 0) == PENDING_OK);
    CHECK(pending_table_begin_drain(table, 0) == 1);
    for (int polling = 0; polling < 2; polling++) {
        waiter w = {.table = table,
                    .wait = {.timeout_ns = LONG_NS, .interval_ns = polling ? LONG_NS : 0}};
        struct timespec now;
        CHECK(pthread_create(&w.thread, NULL, wait_interrupted, &w) == 0);
        for (int joined = 1; joined != 0;) { /* until it had been inside the wait when the signal came */
            (void)pthread_kill(w.thread, SIGUSR1); /* it may have ended */
            CHECK(clock_gettime(CLOCK_REALTIME, &now) == 0);
            now.tv_nsec += NS_PER_MS;
            if (now.tv_nsec >= 1000 * NS_PER_MS) { now.tv_sec++, now.tv_nsec -= 1000 * NS_PER_MS; }
            joined = pthread_timedjoin_np(w.thread, NULL, &now);
        }
        CHECK(w.outcome == DRAIN_INTERRUPTED && w.wait.waited_ns < LONG_NS);
        int64_t started_ns = w.wait.started_ns;
        w.wait.timeout_ns = 0;
        CHECK(pending_table_wait(table, &w.wait) == DRAIN_DEADLINE && w.wait.started_ns == started_ns);
    }
    CHECK(sigaction(SIGUSR1, &old, NULL) == 0);
    pending_table_free(table);
}

int main(int argc, char **argv) {
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
    uint32_t rounds = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : 200;
    random_state = seed * UINT64_C(0x9E3779B97F4A7C15) + 1;
    test_refusals();
    test_conditions();
    test_gate();
    test_scan_dense();
    for (int table = 0; table < 12; table++) { test_random(rounds); }
    test_threads(rounds / 2);
    test_churn(rounds * 20);
    test_generations(rounds * 1000);
    test_interrupted();
    printf("pending_table: all passed (seed %" PRIu64 ", %" PRIu32 " rounds)\n", seed, rounds);
    return 0;
}
