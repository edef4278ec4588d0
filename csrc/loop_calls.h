/* loop_calls: the system calls of an event loop's turn.
 *
 * Role: the same calls that Python's socket and select modules make, as functions that the caller can make with the
 * interpreter lock kept (those that never block) or without (loop_sleep). All answer a count, or a negated errno.
 *
 * Thread: the loop's. Upstream: libuv's poll phase and read and write callbacks. Left out: accepting and connecting,
 * which are rare. */
#ifndef COORDEMU_LOOP_CALLS_H
#define COORDEMU_LOOP_CALLS_H

#include <stdint.h>

#define LOOP_MAX_EVENTS 512

int loop_recv(int fd, char *into, int max);        /* 0: the peer sends no more */
int loop_send(int fd, const char *from, int size); /* no SIGPIPE */
int loop_watch(int epoll, int fd, uint32_t mask, int known); /* known: reported already; mask 0: no more */
int loop_close(int fd, int reset); /* reset: what is queued is lost, and a TCP peer hears of it */
int loop_look(int epoll, int max, int32_t *fds, uint32_t *masks); /* reports there are now, LOOP_MAX_EVENTS at most */
int loop_sleep(int epoll, int64_t timeout_ns); /* blocks until there is one: 1, or 0 at the time-out; below 0: none */

#endif
