/* pending_table: how many replies each connection of one I/O runtime still owes.
 *
 * Role: exact counts, per connection (a node and an index in that node's pool), and three questions about them that a
 * shrink asks: does this connection have pending operations, does any at index >= num, and how many replies are
 * outstanding there. The callbacks themselves stay in Python's deques, which are faster there than behind any border;
 * here are only their numbers, added once per batch.
 *
 * Layout: index-major. The slot of (node, index) is index * node_capacity + node, so "index >= num on every node" is
 * one run of memory to its end. A connection is *eligible* when it has a context and is Connected; only eligible ones
 * enter the per-index sums, and `top`, the highest index with something pending, answers "any at index >= num" by one
 * comparison.
 *
 * Thread: every function but pending_table_wait belongs to one thread at a time (the I/O thread writes; others read
 * under a lock that they share with it: Python's interpreter lock). pending_table_wait touches the gate alone and may
 * run on any thread at any time between new and free.
 *
 * Upstream: the heads of ac->replies and ac->sub.replies in hiredis, reached from MRConn (src/coord/rmr/conn.c).
 * Left out: who waits for which reply; a count has no order. */
#ifndef COORDEMU_PENDING_TABLE_H
#define COORDEMU_PENDING_TABLE_H

#include "drain_gate.h"

#define PENDING_MAX_NODES (UINT32_C(1) << 20)
#define PENDING_MAX_INDICES (UINT32_C(1) << 16)
#define PENDING_MAX_SLOTS (UINT64_C(1) << 24) /* 10 bytes each */
#define PENDING_MAX_COUNT INT32_MAX           /* outstanding replies of one connection */

/* What a change answers: 0 or PENDING_DRAINED, or what is wrong, and then nothing has changed. */
enum {
    PENDING_OK = 0,
    PENDING_DRAINED = 1, /* this change brought an armed drain to its end */
    PENDING_NO_MEMORY = -1,
    PENDING_OUT_OF_RANGE = -2,
    PENDING_ATTACHED = -3,
    PENDING_NO_CONTEXT = -4,
    PENDING_BELOW_ZERO = -5,
    PENDING_TOO_MANY = -6
};

typedef struct pending_table pending_table;

typedef struct pending_statistics {
    uint64_t nodes, indices; /* that were ever used */
    uint64_t attached, connected, batches;
    int64_t replies, sub_replies; /* outstanding, eligible or not */
    uint64_t drains_begun, drains_completed, waiting, waits, polls, wake_ups; /* waiting: now */
    int64_t begun_at_ns, drained_at_ns; /* of the newest drain; CLOCK_MONOTONIC, 0: not yet */
} pending_statistics;

pending_table *pending_table_new(void); /* NULL: no memory */
void pending_table_free(pending_table *table);

int pending_table_attach(pending_table *table, uint32_t node, uint32_t index);
int pending_table_detach(pending_table *table, uint32_t node, uint32_t index, int64_t *thrown_away);
int pending_table_set_connected(pending_table *table, uint32_t node, uint32_t index, bool connected);
int pending_table_count(pending_table *table, uint32_t node, uint32_t index, int64_t replies, int64_t sub_replies);

int64_t pending_table_replies(const pending_table *table, uint32_t node, uint32_t index);     /* 0: no context */
int64_t pending_table_sub_replies(const pending_table *table, uint32_t node, uint32_t index); /* 0: no context */
bool pending_table_has_pending_operations(const pending_table *table, uint32_t node, uint32_t index);
bool pending_table_any(const pending_table *table, uint32_t num);      /* one comparison */
uint64_t pending_table_scan(const pending_table *table, uint32_t num); /* connections; reads every flag there */
int64_t pending_table_total(const pending_table *table, uint32_t num); /* replies; one addition per index */

int64_t pending_table_begin_drain(pending_table *table, uint32_t num); /* outstanding at index >= num now */
bool pending_table_end_drain(pending_table *table); /* true: called off, with something still outstanding */
int64_t pending_table_draining_from(const pending_table *table); /* -1: no drain is armed */
bool pending_table_drained(const pending_table *table);

void pending_table_wait_start(const pending_table *table, drain_wait *wait);
int pending_table_wait(pending_table *table, drain_wait *wait); /* blocks; touches nothing but the gate */

void pending_table_statistics(const pending_table *table, pending_statistics *out);
bool pending_table_consistent(const pending_table *table); /* recomputes everything derived; slow, for tests */

#endif
