/* loop_calls: see loop_calls.h. */
#define _GNU_SOURCE
#include "loop_calls.h"

#include <errno.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

int loop_recv(int fd, char *into, int max) {
    ssize_t got = recv(fd, into, (size_t)max, MSG_DONTWAIT);
    return got < 0 ? -errno : (int)got;
}

int loop_send(int fd, const char *from, int size) {
    ssize_t sent = send(fd, from, (size_t)size, MSG_DONTWAIT | MSG_NOSIGNAL);
    return sent < 0 ? -errno : (int)sent;
}

int loop_watch(int epoll, int fd, uint32_t mask, int known) {
    struct epoll_event event = {.events = mask, .data.fd = fd};
    int change = !mask ? EPOLL_CTL_DEL : known ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
    return epoll_ctl(epoll, change, fd, &event) < 0 ? -errno : 0;
}

int loop_close(int fd, int reset) {
    struct linger none = {.l_onoff = 1, .l_linger = 0};
    if (reset) { setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof none); }
    return close(fd) < 0 ? -errno : 0;
}

int loop_look(int epoll, int max, int32_t *fds, uint32_t *masks) {
    struct epoll_event events[LOOP_MAX_EVENTS];
    int count = epoll_wait(epoll, events, max < LOOP_MAX_EVENTS ? max : LOOP_MAX_EVENTS, 0);
    if (count < 0) { return -errno; }
    for (int i = 0; i < count; i++) {
        fds[i] = events[i].data.fd;
        masks[i] = events[i].events;
    }
    return count;
}

int loop_sleep(int epoll, int64_t timeout_ns) {
    struct pollfd ready = {.fd = epoll, .events = POLLIN};
    struct timespec limit = {.tv_sec = (time_t)(timeout_ns / 1000000000), .tv_nsec = (long)(timeout_ns % 1000000000)};
    int count = ppoll(&ready, 1, timeout_ns < 0 ? NULL : &limit, NULL);
    return count < 0 ? -errno : count;
}
