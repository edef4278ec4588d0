/* Test driver of csrc/thread_gate.c and csrc/loop_calls.c, plain C so that it can run under ASan, UBSan and TSan.
 *
 *   test_thread_gate [seed [rounds]]
 *
 * Each part says what it checks; a failure prints the line and ends the program with status 1. */
#define _GNU_SOURCE
#include "loop_calls.h"
#include "thread_gate.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
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

static int64_t now_ns(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000 * NS_PER_MS + ts.tv_nsec;
}

static void open_gate(thread_gate *gate) {
    if (thread_gate_open(gate)) { thread_gate_wake(gate); }
}

/* As Parking.park: until what is waited for has come. */
static bool wait_until(thread_gate *gate, _Atomic int *value, int wanted, int64_t limit_ns) {
    int64_t deadline_ns = now_ns() + limit_ns;
    while (atomic_load(value) != wanted) {
        if (thread_gate_wait(gate, deadline_ns) == WAIT_DEADLINE) { return atomic_load(value) == wanted; }
    }
    return true;
}

static void test_alone(void) {
    thread_gate gate = {0};
    CHECK(!thread_gate_open(&gate) && !thread_gate_open(&gate)); /* nobody there */
    CHECK(thread_gate_wait(&gate, 0) == WAIT_OPENED);            /* open: also after the deadline */
    CHECK(thread_gate_wait(&gate, 0) == WAIT_DEADLINE);
    int64_t until_ns = now_ns() + 3 * NS_PER_MS;
    int outcome;
    do { outcome = thread_gate_wait(&gate, until_ns); } while (outcome == WAIT_DISTURBED);
    CHECK(outcome == WAIT_DEADLINE && now_ns() >= until_ns);
    thread_gate_wake(&gate); /* in vain */
    open_gate(&gate);
    CHECK(thread_gate_wait(&gate, INT64_MAX) == WAIT_OPENED);
}

typedef struct pair {
    thread_gate here, there;
    _Atomic int turn;
    int rounds;
} pair;

static void *answer(void *arg) {
    pair *both = arg;
    for (int round = 0; round < both->rounds; round++) {
        CHECK(wait_until(&both->there, &both->turn, 2 * round + 1, LONG_NS));
        atomic_store(&both->turn, 2 * round + 2);
        open_gate(&both->here);
        if (below(4) == 0) { open_gate(&both->here); } /* once too often */
    }
    return NULL;
}

/* Two threads take turns; what one has written plainly, the other reads plainly. */
static void test_turns(int rounds) {
    pair both = {.rounds = rounds};
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, answer, &both) == 0);
    for (int round = 0; round < rounds; round++) {
        atomic_store(&both.turn, 2 * round + 1);
        open_gate(&both.there);
        CHECK(wait_until(&both.here, &both.turn, 2 * round + 2, LONG_NS));
    }
    CHECK(pthread_join(thread, NULL) == 0);
}

typedef struct crowd {
    thread_gate gate;
    _Atomic int given, over;
    int taken, late, rounds;
} crowd;

static void *give(void *arg) {
    crowd *all = arg;
    for (int round = 0; round < all->rounds; round++) {
        atomic_fetch_add(&all->given, 1);
        open_gate(&all->gate);
    }
    atomic_fetch_add(&all->over, 1);
    open_gate(&all->gate);
    return NULL;
}

static void on_signal(int number) { (void)number; }

static void *disturb(void *arg) {
    crowd *all = arg;
    while (atomic_load(&all->over) < 4) {
        kill(getpid(), SIGUSR1);
        usleep(50);
    }
    return NULL;
}

/* Four open it, signals disturb, and the deadlines are so near that they meet the openings: nothing given is missed. */
static void test_crowd(int rounds) {
    crowd all = {.rounds = rounds};
    pthread_t givers[4], disturber;
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGUSR1);
    signal(SIGUSR1, on_signal);
    CHECK(pthread_sigmask(SIG_BLOCK, &signals, NULL) == 0); /* for the others: this thread is the one disturbed */
    for (int i = 0; i < 4; i++) { CHECK(pthread_create(&givers[i], NULL, give, &all) == 0); }
    CHECK(pthread_create(&disturber, NULL, disturb, &all) == 0);
    CHECK(pthread_sigmask(SIG_UNBLOCK, &signals, NULL) == 0);
    int64_t patience_ns = now_ns() + LONG_NS;
    while (atomic_load(&all.over) < 4 || atomic_load(&all.given) > 0) {
        int got = atomic_exchange(&all.given, 0);
        all.taken += got;
        if (got == 0 && atomic_load(&all.over) < 4) {
            int64_t limit_ns = below(3) ? (int64_t)below(30000) : LONG_NS;
            all.late += thread_gate_wait(&all.gate, now_ns() + limit_ns) == WAIT_DEADLINE;
        }
        CHECK(now_ns() < patience_ns);
    }
    for (int i = 0; i < 4; i++) { CHECK(pthread_join(givers[i], NULL) == 0); }
    CHECK(pthread_join(disturber, NULL) == 0);
    CHECK(all.taken == 4 * rounds);
    signal(SIGUSR1, SIG_DFL);
}

static void test_signal(void) {
    thread_gate gate = {0};
    struct sigaction act = {.sa_handler = on_signal};
    sigaction(SIGALRM, &act, NULL);
    alarm(1);
    CHECK(thread_gate_wait(&gate, now_ns() + LONG_NS) == WAIT_DISTURBED);
    open_gate(&gate);
    CHECK(thread_gate_wait(&gate, now_ns() + LONG_NS) == WAIT_OPENED);
}

static void *close_late(void *arg) {
    usleep(5000);
    CHECK(loop_send(*(int *)arg, "x", 1) == 1);
    return NULL;
}

/* The answers and the errors of each call; a look reports as many as there is room for. */
static void test_loop_calls(void) {
    int ends[2], fds[LOOP_MAX_EVENTS], epoll = epoll_create1(0);
    uint32_t masks[LOOP_MAX_EVENTS];
    char chunk[4096] = {0};
    pthread_t thread;
    CHECK(epoll >= 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    for (int i = 0; i < 2; i++) {
        CHECK(loop_watch(epoll, ends[i], EPOLLIN | EPOLLOUT, 0) == 0);
        CHECK(loop_watch(epoll, ends[i], EPOLLIN, 0) == -EEXIST);
    }
    CHECK(loop_look(epoll, LOOP_MAX_EVENTS, fds, masks) == 2 && masks[0] == EPOLLOUT);
    for (int i = 0; i < 2; i++) { CHECK(loop_watch(epoll, ends[i], EPOLLIN, 1) == 0); }
    CHECK(loop_look(epoll, LOOP_MAX_EVENTS, fds, masks) == 0);
    CHECK(loop_sleep(epoll, 0) == 0 && loop_sleep(epoll, NS_PER_MS) == 0);
    CHECK(loop_recv(ends[0], chunk, sizeof chunk) == -EAGAIN); /* a blocking socket, and yet */
    CHECK(pthread_create(&thread, NULL, close_late, &ends[0]) == 0);
    int ready;
    do { ready = loop_sleep(epoll, -1); } while (ready == -EINTR);
    CHECK(ready == 1 && pthread_join(thread, NULL) == 0);
    CHECK(loop_look(epoll, LOOP_MAX_EVENTS, fds, masks) == 1 && fds[0] == ends[1] && masks[0] == EPOLLIN);
    CHECK(loop_send(ends[1], "abc", 3) == 3);
    CHECK(loop_look(epoll, 1, fds, masks) == 1 && loop_look(epoll, 2 * LOOP_MAX_EVENTS, fds, masks) == 2);
    CHECK(loop_recv(ends[0], chunk, 2) == 2 && memcmp(chunk, "ab", 2) == 0);
    CHECK(loop_recv(ends[0], chunk, sizeof chunk) == 1 && chunk[0] == 'c');
    int sent;
    do { sent = loop_send(ends[0], chunk, sizeof chunk); } while (sent > 0);
    CHECK(sent == -EAGAIN);
    CHECK(loop_watch(epoll, ends[1], 0, 1) == 0 && loop_watch(epoll, ends[1], 0, 1) == -ENOENT);
    CHECK(loop_close(ends[1], 0) == 0);
    CHECK(loop_send(ends[0], chunk, 1) == -EPIPE); /* and no signal */
    int got = loop_recv(ends[0], chunk, 1); /* the peer threw away what it had not read */
    CHECK(got == 0 || got == -ECONNRESET);
    CHECK(loop_close(ends[0], 1) == 0 && loop_close(ends[0], 0) == -EBADF && loop_close(ends[0], 1) == -EBADF && close(epoll) == 0);
    CHECK(loop_look(epoll, 1, fds, masks) == -EBADF && loop_recv(ends[0], chunk, 1) == -EBADF);
}

int main(int argc, char **argv) {
    random_state = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
    random_state = random_state * 2 + 1;
    int rounds = argc > 2 ? atoi(argv[2]) : 3000;
    test_alone();
    test_turns(rounds);
    test_crowd(rounds);
    test_signal();
    test_loop_calls();
    printf("thread_gate, loop_calls: good, %d rounds\n", rounds);
    return 0;
}
