/* pending_table: see pending_table.h. */
#include "pending_table.h"

#include <stdlib.h>
#include <string.h>

enum { HAS_CONTEXT = 1, IS_CONNECTED = 2, ELIGIBLE = HAS_CONTEXT | IS_CONNECTED };

struct pending_table {
    drain_gate gate;
    /* per slot; all four lie in one block, so that growing succeeds or fails as a whole */
    int32_t *replies;
    int32_t *sub_replies;
    uint8_t *state;   /* HAS_CONTEXT, IS_CONNECTED */
    uint8_t *pending; /* 1: eligible and something outstanding. Only 0 and 1, so that memchr and a sum can read it */
    uint32_t node_capacity, index_capacity, nodes, indices;
    /* per index */
    int64_t *outstanding; /* replies and sub-replies of eligible connections */
    uint32_t *busy;       /* eligible connections with something outstanding */
    uint64_t *busy_bits;  /* bit set: busy is not 0 */
    int64_t top;          /* highest index whose busy is not 0; -1: none */
    /* the drain that is armed */
    int64_t draining_from; /* -1: none */
    int64_t surplus;       /* outstanding at index >= draining_from */
    uint64_t attached, connected, batches, drains_begun, drains_completed;
};

pending_table *pending_table_new(void) {
    pending_table *table = calloc(1, sizeof *table);
    if (table) { table->top = table->draining_from = -1; }
    return table;
}

void pending_table_free(pending_table *table) {
    if (!table) { return; }
    free(table->replies);
    free(table->outstanding);
    free(table);
}

static size_t slot_of(const pending_table *table, uint32_t node, uint32_t index) {
    return (size_t)index * table->node_capacity + node;
}

/* The context of (node, index), if there is one. */
static bool find(const pending_table *table, uint32_t node, uint32_t index, size_t *slot) {
    if (node >= table->node_capacity || index >= table->index_capacity) { return false; }
    *slot = slot_of(table, node, index);
    return (table->state[*slot] & HAS_CONTEXT) != 0;
}

/* An eighth more each time: growing one by one costs a constant amount each, and the scan reads little in vain. */
static uint64_t grown(uint32_t capacity, uint32_t wanted, uint32_t limit) {
    uint64_t next = (uint64_t)capacity + capacity / 8 + 8;
    if (wanted < capacity) { return capacity; }
    if (next <= wanted) { next = (uint64_t)wanted + 1; }
    return next < limit ? next : limit;
}

static int grow(pending_table *table, uint32_t node, uint32_t index) {
    uint64_t nodes = grown(table->node_capacity, node, PENDING_MAX_NODES);
    uint64_t indices = grown(table->index_capacity, index, PENDING_MAX_INDICES);
    uint64_t slots = nodes * indices, words = (indices + 63) / 64;
    if (slots > PENDING_MAX_SLOTS) { return PENDING_OUT_OF_RANGE; }
    int32_t *block = calloc(slots, 2 * sizeof(int32_t) + 2);
    int64_t *sums = calloc(1, indices * (sizeof(int64_t) + sizeof(uint32_t)) + words * sizeof(uint64_t));
    if (!block || !sums) {
        free(block);
        free(sums);
        return PENDING_NO_MEMORY;
    }
    int32_t *sub_replies = block + slots;
    uint8_t *state = (uint8_t *)(sub_replies + slots), *pending = state + slots;
    uint64_t *bits = (uint64_t *)(sums + indices);
    uint32_t *busy = (uint32_t *)(bits + words);
    for (uint32_t row = 0; row < table->index_capacity; row++) {
        size_t from = slot_of(table, 0, row), to = (size_t)row * nodes, n = table->node_capacity;
        memcpy(block + to, table->replies + from, n * sizeof *block);
        memcpy(sub_replies + to, table->sub_replies + from, n * sizeof *sub_replies);
        memcpy(state + to, table->state + from, n);
        memcpy(pending + to, table->pending + from, n);
        sums[row] = table->outstanding[row];
        busy[row] = table->busy[row];
        if (busy[row]) { bits[row / 64] |= UINT64_C(1) << row % 64; }
    }
    free(table->replies);
    free(table->outstanding);
    table->replies = block;
    table->sub_replies = sub_replies;
    table->state = state;
    table->pending = pending;
    table->outstanding = sums;
    table->busy_bits = bits;
    table->busy = busy;
    table->node_capacity = (uint32_t)nodes;
    table->index_capacity = (uint32_t)indices;
    return PENDING_OK;
}

static bool is_pending(const pending_table *table, size_t slot) {
    if (!(table->state[slot] & HAS_CONTEXT)) { return false; }
    if (!(table->state[slot] & IS_CONNECTED)) { return false; }
    if (table->replies[slot] != 0) { return true; }
    if (table->sub_replies[slot] != 0) { return true; }
    return false;
}

/* What the slot contributes to the sums. */
static int64_t weight(const pending_table *table, size_t slot) {
    return table->state[slot] == ELIGIBLE ? (int64_t)table->replies[slot] + table->sub_replies[slot] : 0;
}

/* The top after this index became idle: look down the bits. One word holds 64 indices. */
static int64_t highest_busy(const pending_table *table, uint32_t from) {
    for (int64_t word = from / 64; word >= 0; word--) {
        if (table->busy_bits[word]) { return word * 64 + 63 - __builtin_clzll(table->busy_bits[word]); }
    }
    return -1;
}

static void set_busy(pending_table *table, uint32_t index, bool more) {
    uint64_t bit = UINT64_C(1) << index % 64;
    if (more) {
        if (table->busy[index]++ == 0) { table->busy_bits[index / 64] |= bit; }
        if (index > table->top) { table->top = index; }
    } else if (--table->busy[index] == 0) {
        table->busy_bits[index / 64] &= ~bit;
        if (index == table->top) { table->top = highest_busy(table, index); }
    }
}

/* Carry a change of the slot's weight into everything derived from it. `before`: the weight before the change. */
static int settle(pending_table *table, uint32_t index, size_t slot, int64_t before) {
    int64_t after = weight(table, slot), change = after - before;
    if (change == 0) { return PENDING_OK; }
    table->outstanding[index] += change;
    if ((before == 0) != (after == 0)) {
        table->pending[slot] = after != 0;
        set_busy(table, index, after != 0);
    }
    if (table->draining_from < 0 || index < table->draining_from) { return PENDING_OK; }
    table->surplus += change;
    if (!drain_gate_set(&table->gate, table->surplus)) { return PENDING_OK; }
    table->drains_completed++;
    return PENDING_DRAINED;
}

int pending_table_attach(pending_table *table, uint32_t node, uint32_t index) {
    size_t slot;
    if (node >= PENDING_MAX_NODES || index >= PENDING_MAX_INDICES) { return PENDING_OUT_OF_RANGE; }
    if (find(table, node, index, &slot)) { return PENDING_ATTACHED; }
    if (node >= table->node_capacity || index >= table->index_capacity) {
        int error = grow(table, node, index);
        if (error) { return error; }
    }
    table->state[slot_of(table, node, index)] = HAS_CONTEXT;
    table->attached++;
    if (node >= table->nodes) { table->nodes = node + 1; }
    if (index >= table->indices) { table->indices = index + 1; }
    return PENDING_OK;
}

int pending_table_detach(pending_table *table, uint32_t node, uint32_t index, int64_t *thrown_away) {
    size_t slot;
    *thrown_away = 0;
    if (!find(table, node, index, &slot)) { return PENDING_NO_CONTEXT; }
    int64_t before = weight(table, slot);
    *thrown_away = (int64_t)table->replies[slot] + table->sub_replies[slot];
    table->attached--;
    if (table->state[slot] & IS_CONNECTED) { table->connected--; }
    table->state[slot] = 0;
    table->replies[slot] = table->sub_replies[slot] = 0;
    return settle(table, index, slot, before);
}

int pending_table_set_connected(pending_table *table, uint32_t node, uint32_t index, bool connected) {
    size_t slot;
    if (!find(table, node, index, &slot)) { return PENDING_NO_CONTEXT; }
    bool was_connected = (table->state[slot] & IS_CONNECTED) != 0;
    if (connected == was_connected) { return PENDING_OK; }
    int64_t before = weight(table, slot);
    table->state[slot] ^= IS_CONNECTED;
    if (connected) { table->connected++; }
    else { table->connected--; }
    return settle(table, index, slot, before);
}

int pending_table_count(pending_table *table, uint32_t node, uint32_t index, int64_t replies, int64_t sub_replies) {
    size_t slot;
    if (!find(table, node, index, &slot)) { return PENDING_NO_CONTEXT; }
    if (replies > PENDING_MAX_COUNT || sub_replies > PENDING_MAX_COUNT) { return PENDING_TOO_MANY; }
    if (replies < -PENDING_MAX_COUNT || sub_replies < -PENDING_MAX_COUNT) { return PENDING_BELOW_ZERO; }
    replies += table->replies[slot];
    sub_replies += table->sub_replies[slot];
    if (replies < 0 || sub_replies < 0) { return PENDING_BELOW_ZERO; }
    if (replies > PENDING_MAX_COUNT || sub_replies > PENDING_MAX_COUNT) { return PENDING_TOO_MANY; }
    int64_t before = weight(table, slot);
    table->replies[slot] = (int32_t)replies;
    table->sub_replies[slot] = (int32_t)sub_replies;
    table->batches++;
    return settle(table, index, slot, before);
}

int64_t pending_table_replies(const pending_table *table, uint32_t node, uint32_t index) {
    size_t slot;
    return find(table, node, index, &slot) ? table->replies[slot] : 0;
}

int64_t pending_table_sub_replies(const pending_table *table, uint32_t node, uint32_t index) {
    size_t slot;
    return find(table, node, index, &slot) ? table->sub_replies[slot] : 0;
}

/* In the write-up's order: no context, not Connected, the head of the replies, the head of the sub-replies. */
bool pending_table_has_pending_operations(const pending_table *table, uint32_t node, uint32_t index) {
    size_t slot;
    return find(table, node, index, &slot) && is_pending(table, slot);
}

bool pending_table_any(const pending_table *table, uint32_t num) { return num <= table->top; }

/* memchr finds the first, at the speed of memory; from there on the flags are added up, eight to a word. */
uint64_t pending_table_scan(const pending_table *table, uint32_t num) {
    if (num >= table->indices) { return 0; }
    const uint8_t *end = table->pending + slot_of(table, 0, table->indices);
    const uint8_t *at = table->pending + slot_of(table, 0, num);
    uint64_t found = 0;
    at = memchr(at, 1, (size_t)(end - at));
    if (!at) { return 0; }
    while (end - at >= 8) {
        uint64_t lanes = 0, word;
        for (int n = 0; n < 255 && end - at >= 8; n++, at += 8) { /* a lane holds at most 255 */
            memcpy(&word, at, sizeof word);
            lanes += word;
        }
        for (; lanes; lanes >>= 8) { found += lanes & 0xff; }
    }
    for (; at < end; at++) { found += *at; }
    return found;
}

int64_t pending_table_total(const pending_table *table, uint32_t num) {
    int64_t total = 0;
    for (int64_t index = num; index <= table->top; index++) { total += table->outstanding[index]; }
    return total;
}

int64_t pending_table_begin_drain(pending_table *table, uint32_t num) {
    table->draining_from = num;
    table->surplus = pending_table_total(table, num);
    table->drains_begun++;
    if (table->surplus == 0) { table->drains_completed++; }
    drain_gate_begin(&table->gate, table->surplus);
    return table->surplus;
}

bool pending_table_end_drain(pending_table *table) {
    table->draining_from = -1;
    return drain_gate_end(&table->gate);
}

int64_t pending_table_draining_from(const pending_table *table) { return table->draining_from; }

bool pending_table_drained(const pending_table *table) { return drain_gate_drained(&table->gate); }

void pending_table_wait_start(const pending_table *table, drain_wait *wait) { drain_wait_start(&table->gate, wait); }

int pending_table_wait(pending_table *table, drain_wait *wait) { return drain_gate_wait(&table->gate, wait); }

void pending_table_statistics(const pending_table *table, pending_statistics *out) {
    const drain_gate *gate = &table->gate;
    *out = (pending_statistics){
        .nodes = table->nodes, .indices = table->indices,
        .attached = table->attached, .connected = table->connected, .batches = table->batches,
        .drains_begun = table->drains_begun, .drains_completed = table->drains_completed,
        .waiting = atomic_load(&gate->sleepers), .waits = atomic_load(&gate->waits),
        .polls = atomic_load(&gate->polls), .wake_ups = atomic_load(&gate->wake_ups),
        .begun_at_ns = atomic_load(&gate->begun_at_ns), .drained_at_ns = atomic_load(&gate->drained_at_ns),
    };
    for (size_t slot = 0, end = slot_of(table, 0, table->indices); slot < end; slot++) {
        out->replies += table->replies[slot];
        out->sub_replies += table->sub_replies[slot];
    }
}

bool pending_table_consistent(const pending_table *table) {
    int64_t top = -1, surplus = 0;
    uint64_t attached = 0, connected = 0;
    for (uint32_t index = 0; index < table->index_capacity; index++) {
        int64_t outstanding = 0;
        uint32_t busy = 0;
        for (uint32_t node = 0; node < table->node_capacity; node++) {
            size_t slot = slot_of(table, node, index);
            if (table->replies[slot] < 0 || table->sub_replies[slot] < 0) { return false; }
            if (table->pending[slot] != is_pending(table, slot)) { return false; }
            attached += (table->state[slot] & HAS_CONTEXT) != 0;
            connected += (table->state[slot] & IS_CONNECTED) != 0;
            busy += table->pending[slot];
            outstanding += weight(table, slot);
        }
        if (busy != table->busy[index] || outstanding != table->outstanding[index]) { return false; }
        if ((busy != 0) != ((table->busy_bits[index / 64] >> index % 64 & 1) != 0)) { return false; }
        if (busy) { top = index; }
        if (table->draining_from >= 0 && index >= table->draining_from) { surplus += outstanding; }
    }
    if (table->draining_from >= 0) {
        if (surplus != table->surplus || surplus != atomic_load(&table->gate.outstanding)) { return false; }
        if (drain_gate_drained(&table->gate) != (surplus == 0)) { return false; }
    }
    return top == table->top && attached == table->attached && connected == table->connected;
}
