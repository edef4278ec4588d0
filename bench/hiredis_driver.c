/* hiredis_driver: what hiredis and libuv do in C with the benchmark's load, for `bench.commands` to compare with.
 *
 *     hiredis_driver HOST PORT CONNECTIONS KEY VALUE
 *
 * It connects, says {"ready": ...} and then, for each line "go SECONDS IN_FLIGHT PACK_EACH" on its standard input, keeps
 * IN_FLIGHT times GET KEY under way on every connection and answers with one line, {"replies": ..., "seconds": ...}.
 * One process serves all rounds of a benchmark, so that neither its start nor connecting is measured, and between two
 * rounds it only sleeps in its poll, so that it can take turns with others. It ends when its standard input does, also
 * in the middle of a round: whoever started it cannot leave it behind, however he ends.
 *
 * The work is the same as that of the Python client: a callback per reply, which looks at the reply and sends the next
 * command. PACK_EACH 0 sends bytes that were formatted once, as a fan-out does; 1 formats each command anew. Either
 * way hiredis keeps its queue of callbacks, and libuv its loop.
 *
 * Everything runs on one loop, the standard input too. hiredis' adapter for libuv may ignore a poll that ends with an
 * error, such as a refused connection or a reset one, and nobody is told; so connecting, and the last replies of a
 * round, are waited for no longer than PATIENCE_MS.
 *
 * Left out: reconnecting; a time limit per command (hiredis has none); any other command. Exit status: 0 the input ended, 1 a wrong reply, 2 wrong use, 3 no server, or no
 * connection any more; with one line on stderr. */
#include <errno.h>
#include <hiredis/async.h>
#include <hiredis/hiredis.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include <hiredis/adapters/libuv.h>

#define MAX_CONNECTIONS 4096
#define MAX_IN_FLIGHT 65536
#define MAX_SECONDS 3600.0
#define WARM_UP_MS 20 /* as the Python client has it: replies are counted when the pipelines are full */
#define PATIENCE_MS 5000
#define MAX_LINE 128
#define NS_PER_S 1e9

enum { WRONG_REPLY = 1, WRONG_USE = 2, NO_SERVER = 3 };

typedef enum { CONNECTING, IDLE, WARMING_UP, COUNTING, STOPPING } phase_t;

typedef struct {
    uv_loop_t loop;
    uv_poll_t input;
    uv_timer_t timer;
    redisAsyncContext **connections;
    int wanted, connected;
    phase_t phase;
    /* the round */
    double seconds;
    bool pack_each;
    uint64_t replies, counted, began_ns, ended_ns;
    long in_flight; /* of all connections, so that a round ends with nothing under way */
    /* the command and its reply */
    const char *words[2];
    size_t word_lengths[2];
    char *packed;
    size_t packed_length;
    const char *value;
    size_t value_length;
    /* what was read of a line that is not complete */
    char line[MAX_LINE];
    size_t line_length;
} driver;

__attribute__((noreturn, format(printf, 2, 3))) static void die(int status, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("hiredis_driver: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(status);
}

/* To a reader who is gone there is nothing to say, and nothing more to do. */
static void flush_answer(void) {
    if (fflush(stdout) != 0) { die(NO_SERVER, "stdout: %s", strerror(errno)); }
}

static void on_reply(redisAsyncContext *connection, void *reply, void *data);

static void send_command(driver *self, redisAsyncContext *connection) {
    int status = self->pack_each
                     ? redisAsyncCommandArgv(connection, on_reply, self, 2, self->words, self->word_lengths)
                     : redisAsyncFormattedCommand(connection, on_reply, self, self->packed, self->packed_length);
    if (status != REDIS_OK) { die(NO_SERVER, "a command could not be sent: %s", connection->errstr); }
}

static void end_round(driver *self) {
    self->phase = IDLE;
    uv_timer_stop(&self->timer);
    printf("{\"replies\": %llu, \"seconds\": %.9f}\n", (unsigned long long)self->counted,
           (double)(self->ended_ns - self->began_ns) / NS_PER_S);
    flush_answer();
}

static void on_reply(redisAsyncContext *connection, void *data, void *context) {
    driver *self = context;
    const redisReply *reply = data;
    if (reply == NULL) { die(NO_SERVER, "a connection was lost: %s", connection->errstr); }
    if (reply->type != REDIS_REPLY_STRING || (size_t)reply->len != self->value_length ||
        memcmp(reply->str, self->value, self->value_length) != 0) {
        die(WRONG_REPLY, "wrong reply: type %d, \"%.80s\"", reply->type, reply->str != NULL ? reply->str : "");
    }
    self->replies++;
    if (self->phase == STOPPING) {
        if (--self->in_flight == 0) { end_round(self); }
    } else {
        send_command(self, connection);
    }
}

static void on_timer(uv_timer_t *timer) {
    driver *self = timer->data;
    switch (self->phase) {
    case WARMING_UP:
        self->phase = COUNTING;
        self->replies = 0;
        self->began_ns = uv_hrtime();
        uv_timer_start(timer, on_timer, (uint64_t)(self->seconds * 1e3), 0);
        break;
    case COUNTING:
        self->phase = STOPPING;
        self->counted = self->replies;
        self->ended_ns = uv_hrtime();
        uv_timer_start(timer, on_timer, PATIENCE_MS, 0);
        break;
    case STOPPING:
        die(NO_SERVER, "%ld replies are missing", self->in_flight);
    default:
        die(NO_SERVER, "%d of %d connections after %d ms", self->connected, self->wanted, PATIENCE_MS);
    }
}

static void begin_round(driver *self, int depth) {
    self->phase = WARMING_UP;
    self->in_flight = (long)depth * self->wanted;
    for (int i = 0; i < self->wanted; i++) {
        for (int sent = 0; sent < depth; sent++) { send_command(self, self->connections[i]); }
    }
    uv_update_time(&self->loop); /* a loop that slept since the last round would take its timer for due */
    uv_timer_start(&self->timer, on_timer, WARM_UP_MS, 0);
}

static void obey(driver *self) {
    int depth, pack_each, end = 0;
    double seconds;
    if (sscanf(self->line, "go %lf %d %d%n", &seconds, &depth, &pack_each, &end) != 3 || self->line[end] != '\0' ||
        !(seconds > 0 && seconds <= MAX_SECONDS) || depth < 1 || depth > MAX_IN_FLIGHT || (pack_each & ~1) != 0) {
        die(WRONG_USE, "\"%s\" is not \"go SECONDS IN_FLIGHT 0|1\"", self->line);
    }
    if (self->phase != IDLE) { die(WRONG_USE, "\"%s\" before it is ready for it", self->line); }
    self->seconds = seconds;
    self->pack_each = pack_each;
    begin_round(self, depth);
}

static void on_input(uv_poll_t *input, int status, int events) {
    driver *self = input->data;
    (void)events;
    if (status != 0) { exit(0); }
    ssize_t got = read(STDIN_FILENO, self->line + self->line_length, sizeof self->line - self->line_length - 1);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) { return; }
    if (got <= 0) { exit(0); }
    self->line_length += (size_t)got;
    self->line[self->line_length] = '\0';
    char *end;
    while ((end = strchr(self->line, '\n')) != NULL) {
        *end = '\0';
        obey(self);
        self->line_length -= (size_t)(end + 1 - self->line);
        memmove(self->line, end + 1, self->line_length + 1);
    }
    if (self->line_length == sizeof self->line - 1) { die(WRONG_USE, "a line of more than %d bytes", MAX_LINE - 2); }
}

static void on_connect(const redisAsyncContext *connection, int status) {
    driver *self = connection->data;
    if (status != REDIS_OK) { die(NO_SERVER, "no connection: %s", connection->errstr); }
    if (++self->connected == self->wanted) {
        self->phase = IDLE;
        uv_timer_stop(&self->timer);
        printf("{\"ready\": %d, \"hiredis\": \"%d.%d.%d\", \"libuv\": \"%s\"}\n", self->wanted, HIREDIS_MAJOR,
               HIREDIS_MINOR, HIREDIS_PATCH, uv_version_string());
        flush_answer();
    }
}

static void on_disconnect(const redisAsyncContext *connection, int status) {
    (void)status;
    die(NO_SERVER, "a connection was lost: %s", connection->errstr);
}

/* Older versions of the adapter (hiredis 0.14) start the poll again for each command that is queued, and libuv then asks
 * epoll again: a system call per command. Newer ones look first whether it is started, and so do these, whatever the
 * version, so that what is compared with is hiredis at its best. */
static void add_read_once(void *adapter) {
    if (!(((redisLibuvEvents *)adapter)->events & UV_READABLE)) { redisLibuvAddRead(adapter); }
}

static void add_write_once(void *adapter) {
    if (!(((redisLibuvEvents *)adapter)->events & UV_WRITABLE)) { redisLibuvAddWrite(adapter); }
}

static void connect_all(driver *self, const char *host, int port) {
    self->connections = calloc((size_t)self->wanted, sizeof *self->connections);
    if (self->connections == NULL) { die(NO_SERVER, "no memory"); }
    for (int i = 0; i < self->wanted; i++) {
        redisAsyncContext *connection = redisAsyncConnect(host, port);
        if (connection == NULL) { die(NO_SERVER, "no memory"); }
        if (connection->err != 0) { die(NO_SERVER, "no connection: %s", connection->errstr); }
        connection->data = self;
        if (redisLibuvAttach(connection, &self->loop) != REDIS_OK) { die(NO_SERVER, "libuv refuses a socket"); }
        connection->ev.addRead = add_read_once;
        connection->ev.addWrite = add_write_once;
        redisAsyncSetConnectCallback(connection, on_connect);
        redisAsyncSetDisconnectCallback(connection, on_disconnect);
        self->connections[i] = connection;
    }
    uv_timer_start(&self->timer, on_timer, PATIENCE_MS, 0);
}

static int number(const char *word, int most) {
    char *end;
    long value = strtol(word, &end, 10);
    if (*word == '\0' || *end != '\0' || value < 1 || value > most) { die(WRONG_USE, "\"%s\" is not 1 to %d", word, most); }
    return (int)value;
}

int main(int argc, char **argv) {
    if (argc != 6) { die(WRONG_USE, "usage: hiredis_driver HOST PORT CONNECTIONS KEY VALUE"); }
    driver self = {.phase = CONNECTING, .wanted = number(argv[3], MAX_CONNECTIONS)};
    self.words[0] = "GET";
    self.words[1] = argv[4];
    for (int i = 0; i < 2; i++) { self.word_lengths[i] = strlen(self.words[i]); }
    self.value = argv[5];
    self.value_length = strlen(argv[5]);
    int length = redisFormatCommandArgv(&self.packed, 2, self.words, self.word_lengths);
    if (length < 0) { die(NO_SERVER, "no memory"); }
    self.packed_length = (size_t)length;
    signal(SIGPIPE, SIG_IGN); /* a server that goes is an error to be told, not a silent death */
    if (uv_loop_init(&self.loop) != 0 || uv_timer_init(&self.loop, &self.timer) != 0) { die(NO_SERVER, "no loop"); }
    if (uv_poll_init(&self.loop, &self.input, STDIN_FILENO) != 0) { die(WRONG_USE, "stdin must be a pipe"); }
    self.timer.data = self.input.data = &self;
    uv_poll_start(&self.input, UV_READABLE, on_input);
    connect_all(&self, argv[1], number(argv[2], UINT16_MAX));
    return uv_run(&self.loop, UV_RUN_DEFAULT); /* until somebody says exit */
}
