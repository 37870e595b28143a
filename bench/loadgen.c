// loadgen: many loopback clients in one epoll thread, and what it cost the server to serve them.
//
// It opens N connections of one kind, waits until all are open, and then watches one window of time: messages, their
// latency, and the CPU time and memory of the server's processes as the kernel accounts them. It prints one JSON object.
//
// A message is any text that contains the marker "t": followed by CLOCK_MONOTONIC in nanoseconds, so the envelope does
// not matter. All messages of one tick carry the same stamp. Marker and unit can be chosen.
//
// The last --slow connections read at --share of the rate of the others, evenly, as through a narrow line; the --stuck
// connections before them do not read. Neither counts in "messages". With --alternate they connect in every other
// window, and one JSON object is printed for each window, the first without them.
//
// With --deflate it asks for permessage-deflate. All clients get the same compressed bytes, so these are inflated only
// once, which keeps the load generator fast.
//
//   cc -O2 -o loadgen loadgen.c -lz
//   loadgen --port 8000 --connections 1000 --kind ws --paths FILE --seconds 3 --pid 4711
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>

enum kind { KIND_WS, KIND_SSE, KIND_RAW, KIND_NATS };
enum state { HANDSHAKE, OPEN, DEAD };
enum mood { EAGER, STUCK, SLOW };

typedef struct {
    int fd;
    enum state state;
    enum mood mood;
    uint8_t *carry;  // the beginning of a message whose rest has not arrived
    int carried, carry_capacity;
    uint64_t messages, ticks, messages_of_tick;
    uint64_t last_stamp, last_latency;
    uint64_t bytes, eager_bytes_before;  // of a slow client: what it has read, and what the others had read when it connected
    double allowed;                      // how much it may have read by `allowed_at`
    uint64_t allowed_at;
} connection;

// --- options ---

static enum kind kind = KIND_WS;
static int port = 8000, connection_count = 1000, handshakes_at_once = 64, messages_per_tick = 1;
static double window_s = 3, warm_s = 1, give_up_s = 60;
static char **paths;     // the request path of each client in turn (WebSocket, SSE)
static int path_count;
static char **subjects;  // comma-separated subjects of each client in turn (NATS)
static int subject_count;
static int pids[16], pid_count;
static int slow_count, stuck_count, alternations, deflate_wanted;
static double share = 0.25;
static const char *marker = "\"t\":";
static size_t marker_bytes;
static uint64_t stamp_unit_ns = 1;

// --- counters of the window ---

static uint64_t total_messages, total_bytes, total_reads, other_messages, out_of_order, max_latency;
static uint64_t eager_bytes, slow_messages, max_age;
static int open_count, dead_count, dead_poor_count;

#define TOPIC_BITS (1 << 20)
static uint8_t slow_topics[TOPIC_BITS / 8];  // a bit for each topic that slow clients have read, by its hash
static int slow_topic_count;
static connection *connections;
static int poller;

#define RECEIVE_BYTES (1 << 20)
static uint8_t *receive_buffer;

#define STAMP_BYTES 21  // the marker is only read when a whole stamp and what ends it must be there

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000ull + t.tv_nsec;
}

// --- histogram: 64 steps for each power of two, so a quantile is off by at most 1.6 % ---

#define STEPS 64
#define BUCKETS (64 * STEPS)
static uint64_t latency_of_messages[BUCKETS];
static uint64_t latency_of_ticks[BUCKETS];  // until a client had the last message of a tick
static uint64_t latency_of_crowd[BUCKETS];  // until the last client had the last message of a tick
static uint64_t age_of_slow[BUCKETS];       // of what slow clients read, when they read it

static inline int bucket_of(uint64_t value) {
    if (value < STEPS) return (int)value;
    int exponent = 63 - __builtin_clzll(value);
    return (exponent - 5) * STEPS + (int)((value >> (exponent - 6)) & (STEPS - 1));
}

static uint64_t value_of(int bucket) {
    if (bucket < STEPS) return bucket;
    int exponent = bucket / STEPS + 5;
    return (uint64_t)(STEPS + bucket % STEPS) << (exponent - 6);
}

static double quantile_us(const uint64_t *histogram, double quantile) {
    uint64_t count = 0, below = 0;
    for (int i = 0; i < BUCKETS; i++) count += histogram[i];
    if (!count) return 0;
    uint64_t rank = (uint64_t)(quantile * (count - 1));
    for (int i = 0; i < BUCKETS; i++) {
        below += histogram[i];
        if (below > rank) return value_of(i) / 1e3;
    }
    return 0;
}

// --- when the last client had a tick ---

#define RECENT 64
static struct { uint64_t stamp, complete; } recent[RECENT];
static int newest_recent;

static void count_completion(int i) {
    if (recent[i].stamp) latency_of_crowd[bucket_of(recent[i].complete - recent[i].stamp)]++;
    recent[i].stamp = 0;
}

static void note_arrival(uint64_t stamp, uint64_t now) {
    for (int back = 0; back < RECENT; back++) {
        int i = (newest_recent + RECENT - back) % RECENT;
        if (recent[i].stamp == stamp) {
            recent[i].complete = now;
            return;
        }
        if (recent[i].stamp < stamp) break;
    }
    if (stamp < recent[newest_recent].stamp) return;  // too old to be remembered
    newest_recent = (newest_recent + 1) % RECENT;
    count_completion(newest_recent);
    recent[newest_recent].stamp = stamp;
    recent[newest_recent].complete = now;
}

// --- connections ---

static void bury(connection *c) {
    if (c->state == DEAD) return;
    if (c->state == OPEN) open_count--;
    c->state = DEAD;
    dead_count++;
    if (c->mood != EAGER) dead_poor_count++;
    close(c->fd);
}

static int eager_count(void) { return connection_count - slow_count - stuck_count; }

static uint64_t eager_bytes_each(void) { return eager_count() ? eager_bytes / eager_count() : 0; }

// A client's frame must be masked; the mask may be zero.
static void send_frame(connection *c, int opcode, const void *payload, size_t size) {
    uint8_t *frame = malloc(size + 8);
    int head = 0;
    frame[head++] = 0x80 | opcode;
    if (size < 126) {
        frame[head++] = 0x80 | size;
    } else {
        frame[head++] = 0x80 | 126;
        frame[head++] = size >> 8;
        frame[head++] = size;
    }
    memset(frame + head, 0, 4);
    head += 4;
    memcpy(frame + head, payload, size);
    if (send(c->fd, frame, head + size, MSG_NOSIGNAL) < 0) bury(c);
    free(frame);
}

static void subscribe_to_nats(connection *c) {
    const char *list = subjects[(c - connections) % subject_count];
    char *commands = malloc(strlen(list) * 4 + 4096), *copy = strdup(list);
    int size = sprintf(commands, "CONNECT {\"verbose\":false,\"pedantic\":false,\"lang\":\"c\",\"version\":\"1\",\"protocol\":0}\r\n");
    int number = 1;
    for (char *subject = strtok(copy, ","); subject; subject = strtok(NULL, ","))
        size += sprintf(commands + size, "SUB %s %d\r\n", subject, number++);
    send_frame(c, 2, commands, size);
    free(copy);
    free(commands);
}

static void opened(connection *c) {
    c->state = OPEN;
    open_count++;
    if (kind == KIND_NATS && subject_count) subscribe_to_nats(c);
    if (c->mood == EAGER) return;
    epoll_ctl(poller, EPOLL_CTL_DEL, c->fd, NULL);
    c->eager_bytes_before = eager_bytes_each();
    c->allowed = 0;
    c->allowed_at = now_ns();
}

static void count_message(connection *c, const uint8_t *digits, const uint8_t *end, uint64_t now) {
    uint64_t stamp = 0;
    if (digits < end && *digits == ' ') digits++;
    for (; digits < end && (unsigned)(*digits - '0') < 10; digits++) stamp = stamp * 10 + (*digits - '0');
    stamp *= stamp_unit_ns;
    uint64_t latency = now > stamp ? now - stamp : 0;
    if (c->mood != EAGER) {
        slow_messages++;
        age_of_slow[bucket_of(latency)]++;
        if (latency > max_age) max_age = latency;
        return;
    }
    note_arrival(stamp, now);
    c->messages++;
    total_messages++;
    latency_of_messages[bucket_of(latency)]++;
    if (latency > max_latency) max_latency = latency;
    if (stamp != c->last_stamp) {
        if (stamp < c->last_stamp) out_of_order++;
        if (c->ticks) latency_of_ticks[bucket_of(c->last_latency)]++;
        c->last_stamp = stamp;
        c->messages_of_tick = 0;
        c->ticks++;
    }
    c->messages_of_tick++;
    c->last_latency = latency;
}

static void note_topic(const uint8_t *payload, size_t size) {
    static const char name[] = "\"topic\":\"";
    const uint8_t *end = payload + size, *at = memmem(payload, size, name, sizeof name - 1);
    if (!at) return;
    uint32_t hash = 2166136261u;
    for (at += sizeof name - 1; at < end && *at != '"'; at++) hash = (hash ^ *at) * 16777619u;
    hash %= TOPIC_BITS;
    if (slow_topics[hash / 8] & 1 << hash % 8) return;
    slow_topics[hash / 8] |= 1 << hash % 8;
    slow_topic_count++;
}

static void count_frame(connection *c, const uint8_t *payload, size_t size, uint64_t now) {
    // Frames of one server look alike, so the marker is nearly always where it was last time.
    static size_t usual_offset;
    const uint8_t *end = payload + size, *found;
    if (size && *payload == '[') {  // a batch: many messages in one frame
        for (const uint8_t *at = payload; (found = memmem(at, end - at, marker, marker_bytes)); at = found + marker_bytes)
            count_message(c, found + marker_bytes, end, now);
        return;
    }
    if (size >= usual_offset + marker_bytes && !memcmp(payload + usual_offset, marker, marker_bytes)) {
        found = payload + usual_offset;
    } else {
        found = memmem(payload, size, marker, marker_bytes);
        if (!found) {
            other_messages++;
            return;
        }
        usual_offset = found - payload;
    }
    if (c->mood != EAGER) note_topic(payload, size);
    count_message(c, found + marker_bytes, end, now);
}

// Inflate a message that was compressed with a fresh context (RFC 7692).
static void count_deflated(connection *c, const uint8_t *payload, size_t size, uint64_t now) {
    static uint8_t packed[RECEIVE_BYTES], text[16 * RECEIVE_BYTES];
    static size_t packed_bytes, text_bytes;
    if (size != packed_bytes || memcmp(payload, packed, size)) {
        memcpy(packed, payload, packed_bytes = size);
        z_stream inflater = {.next_in = packed, .avail_in = size, .next_out = text, .avail_out = sizeof text};
        inflateInit2(&inflater, -15);
        inflate(&inflater, Z_SYNC_FLUSH);
        text_bytes = inflater.total_out;
        inflateEnd(&inflater);
    }
    count_frame(c, text, text_bytes, now);
}

// Return the number of bytes used.
static int read_frames(connection *c, const uint8_t *bytes, int size, uint64_t now) {
    int used = 0;
    while (size - used >= 2) {
        const uint8_t *frame = bytes + used;
        uint64_t length = frame[1] & 127;
        int head = 2;
        if (length == 126) {
            if (size - used < 4) break;
            length = frame[2] << 8 | frame[3];
            head = 4;
        } else if (length == 127) {
            if (size - used < 10) break;
            length = 0;
            for (int i = 0; i < 8; i++) length = length << 8 | frame[2 + i];
            head = 10;
        }
        if ((uint64_t)(size - used) < head + length) break;
        int opcode = frame[0] & 15;
        if (opcode == 8) {
            bury(c);
            return size;
        }
        if (opcode == 9) send_frame(c, 10, frame + head, length);
        if (opcode <= 2) (frame[0] & 0x40 ? count_deflated : count_frame)(c, frame + head, length, now);
        used += head + length;
    }
    return used;
}

// SSE and NATS carry many messages in chunks of any size; only the marker separates them.
static int scan_for_markers(connection *c, const uint8_t *bytes, int size, uint64_t now) {
    const uint8_t *at = bytes, *end = bytes + size;
    for (;;) {
        const uint8_t *found = memmem(at, end - at, marker, marker_bytes);
        if (!found) {
            int most = (int)marker_bytes - 1, kept = end - at < most ? (int)(end - at) : most;
            return size - kept;
        }
        if ((size_t)(end - found) < marker_bytes + STAMP_BYTES) return found - bytes;
        if (c->mood != EAGER) note_topic(at, found - at);
        count_message(c, found + marker_bytes, end, now);
        at = found + marker_bytes;
    }
}

// Return the length of the answer, 0 while it is not complete.
static int read_handshake(connection *c, const uint8_t *bytes, int size) {
    const uint8_t *end = memmem(bytes, size, "\r\n\r\n", 4);
    if (!end) return 0;
    if (memcmp(bytes + 9, "101", 3) && memcmp(bytes + 9, "200", 3)) {
        fprintf(stderr, "handshake failed: %.*s\n", size > 200 ? 200 : size, bytes);
        bury(c);
        return size;
    }
    opened(c);
    return end + 4 - bytes;
}

static void keep_rest(connection *c, const uint8_t *rest, int size) {
    if (size > c->carry_capacity) {
        c->carry_capacity = size * 2 + 64;
        c->carry = realloc(c->carry, c->carry_capacity);
    }
    memcpy(c->carry, rest, size);
    c->carried = size;
}

static void read_some(connection *c, size_t most) {
    if (c->carried) memcpy(receive_buffer, c->carry, c->carried);
    if (most > (size_t)(RECEIVE_BYTES - c->carried)) most = RECEIVE_BYTES - c->carried;
    ssize_t got = recv(c->fd, receive_buffer + c->carried, most, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got <= 0) {
        bury(c);
        return;
    }
    c->bytes += got;
    if (c->mood == EAGER) {
        eager_bytes += got;
        total_bytes += got;
        total_reads++;
    }
    int size = c->carried + (int)got, used = 0;
    uint64_t now = now_ns();
    if (c->state == HANDSHAKE) used = read_handshake(c, receive_buffer, size);
    if (c->state == OPEN) {
        int framed = kind == KIND_WS || kind == KIND_RAW;
        used += (framed ? read_frames : scan_for_markers)(c, receive_buffer + used, size - used, now);
    }
    if (c->state != DEAD) keep_rest(c, receive_buffer + used, size - used);
}

// Return the number of bytes that a slow client may read: its share of what the others have read since it connected.
// Theirs arrive in bursts, so one second's bytes are spread over a second.
static void read_slowly(connection *c) {
    double owed = share * (eager_bytes_each() - c->eager_bytes_before) - c->allowed;
    uint64_t now = now_ns();
    double passed_s = (now - c->allowed_at) / 1e9;
    c->allowed += owed * (passed_s < 1 ? passed_s : 1);
    c->allowed_at = now;
    if (c->allowed >= c->bytes + 512) read_some(c, (size_t)(c->allowed - c->bytes));
}

static enum mood mood_of(int number) {
    if (number >= connection_count - slow_count) return SLOW;
    return number >= eager_count() ? STUCK : EAGER;
}

static void connect_one(int number) {
    connection *c = &connections[number];
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int on = 1;
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (c->fd < 0) {
        perror("socket");
        exit(1);
    }
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    for (int tries = 0; connect(c->fd, (void *)&address, sizeof address) < 0; tries++) {
        if (tries > 50) {
            perror("connect");
            exit(1);
        }
        usleep(20000);
    }
    c->state = HANDSHAKE;
    c->mood = mood_of(number);
    c->carried = c->bytes = 0;
    if (kind != KIND_RAW) {
        const char *path = path_count ? paths[number % path_count] : "/";
        static char request[16384];
        int size;
        if (kind == KIND_SSE)
            size = snprintf(request, sizeof request,
                            "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAccept: text/event-stream\r\n\r\n", path, port);
        else
            size = snprintf(request, sizeof request,
                            "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n%s\r\n",
                            path, port, deflate_wanted ? "Sec-WebSocket-Extensions: permessage-deflate\r\n" : "");
        if (send(c->fd, request, size, MSG_NOSIGNAL) != size) {
            perror("send");
            exit(1);
        }
    }
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &event);
    if (kind == KIND_RAW) opened(c);
}

// Return the number of connections with data.
static int serve_once(int wait_ms) {
    static struct epoll_event events[1024];
    int count = epoll_wait(poller, events, 1024, wait_ms);
    for (int i = 0; i < count; i++) {
        connection *c = events[i].data.ptr;
        if (c->state != DEAD) read_some(c, RECEIVE_BYTES);
    }
    for (int i = connection_count - slow_count; i < connection_count; i++)
        if (connections[i].state == OPEN && connections[i].fd) read_slowly(&connections[i]);
    return count;
}

// --- the server's CPU time and memory, from the kernel ---

static uint64_t cpu_ns_of(int pid) {
    char folder[64], file[400];
    snprintf(folder, sizeof folder, "/proc/%d/task", pid);
    DIR *tasks = opendir(folder);
    if (!tasks) return 0;
    uint64_t sum = 0;
    for (struct dirent *task; (task = readdir(tasks));) {
        if (task->d_name[0] == '.') continue;
        snprintf(file, sizeof file, "%s/%s/schedstat", folder, task->d_name);
        FILE *f = fopen(file, "r");
        unsigned long long ran_ns = 0;
        if (f) {
            if (fscanf(f, "%llu", &ran_ns) == 1) sum += ran_ns;
            fclose(f);
        }
    }
    closedir(tasks);
    return sum;
}

static uint64_t server_cpu_ns(void) {
    uint64_t sum = 0;
    for (int i = 0; i < pid_count; i++) sum += cpu_ns_of(pids[i]);
    return sum;
}

static long server_rss_kb(void) {
    long sum = 0;
    for (int i = 0; i < pid_count; i++) {
        char file[64], line[256];
        snprintf(file, sizeof file, "/proc/%d/status", pids[i]);
        FILE *f = fopen(file, "r");
        if (!f) continue;
        while (fgets(line, sizeof line, f))
            if (!strncmp(line, "VmRSS:", 6)) sum += atol(line + 6);
        fclose(f);
    }
    return sum;
}

static double own_cpu_s(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_utime.tv_sec + usage.ru_stime.tv_sec + (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

// --- the run ---

static uint64_t seconds(double s) { return (uint64_t)(s * 1e9); }

static void serve_for(double s) {
    uint64_t end = now_ns() + seconds(s);
    while (now_ns() < end) serve_once(10);
}

// Return whether every client has all of the newest tick, and none of a later one.
static int between_ticks(void) {
    uint64_t newest = 0;
    for (int i = 0; i < connection_count; i++) {
        const connection *c = &connections[i];
        if (c->state != OPEN || c->mood != EAGER) continue;
        if (!newest) newest = c->last_stamp;
        if (c->last_stamp != newest || c->messages_of_tick != (uint64_t)messages_per_tick) return 0;
    }
    return newest != 0;
}

// Read until all clients have the same ticks, so that a window contains whole ticks only, with all their cost. Return 0
// if that never happens because messages were lost.
static int serve_until_between_ticks(double at_most_s) {
    uint64_t end = now_ns() + seconds(at_most_s);
    while (!between_ticks()) {
        if (now_ns() > end) return 0;
        serve_once(10);
    }
    return 1;
}

static void reset_counters(void) {
    memset(latency_of_messages, 0, sizeof latency_of_messages);
    memset(latency_of_ticks, 0, sizeof latency_of_ticks);
    memset(latency_of_crowd, 0, sizeof latency_of_crowd);
    memset(age_of_slow, 0, sizeof age_of_slow);
    memset(recent, 0, sizeof recent);
    slow_messages = max_age = slow_topic_count = 0;
    memset(slow_topics, 0, sizeof slow_topics);
    total_messages = total_bytes = total_reads = other_messages = out_of_order = max_latency = 0;
    for (int i = 0; i < connection_count; i++) connections[i].messages = connections[i].ticks = 0;
}

static char **read_lines(const char *file, int *count) {
    FILE *f = fopen(file, "r");
    if (!f) {
        perror(file);
        exit(1);
    }
    char **lines = NULL, *line = NULL;
    size_t capacity = 0;
    for (ssize_t size; (size = getline(&line, &capacity, f)) > 0;) {
        if (line[size - 1] == '\n') line[size - 1] = 0;
        lines = realloc(lines, sizeof *lines * (*count + 1));
        lines[(*count)++] = strdup(line);
    }
    fclose(f);
    return lines;
}

static enum kind kind_named(const char *name) {
    const char *names[] = {"ws", "sse", "raw", "nats"};
    for (int i = 0; i < 4; i++)
        if (!strcmp(name, names[i])) return (enum kind)i;
    fprintf(stderr, "unknown kind %s\n", name);
    exit(2);
}

static void read_options(int count, char **arguments) {
    static struct option names[] = {
        {"port", 1, 0, 'p'},  {"connections", 1, 0, 'n'}, {"seconds", 1, 0, 's'}, {"warm", 1, 0, 'w'}, {"kind", 1, 0, 'k'},
        {"paths", 1, 0, 'u'}, {"subjects", 1, 0, 'x'},    {"pid", 1, 0, 'P'},     {"per-tick", 1, 0, 't'},
        {"slow", 1, 0, 'l'},  {"stuck", 1, 0, 'c'},       {"share", 1, 0, 'f'},   {"alternate", 1, 0, 'a'},
        {"marker", 1, 0, 'm'}, {"unit-ns", 1, 0, 'N'},    {"deflate", 0, 0, 'd'},
        {0}};
    for (int name; (name = getopt_long(count, arguments, "", names, NULL)) != -1;) switch (name) {
            case 'p': port = atoi(optarg); break;
            case 'n': connection_count = atoi(optarg); break;
            case 's': window_s = atof(optarg); break;
            case 'w': warm_s = atof(optarg); break;
            case 'k': kind = kind_named(optarg); break;
            case 't': messages_per_tick = atoi(optarg); break;  // 0: nothing is published
            case 'u': paths = read_lines(optarg, &path_count); break;
            case 'x': subjects = read_lines(optarg, &subject_count); break;
            case 'l': slow_count = atoi(optarg); break;
            case 'c': stuck_count = atoi(optarg); break;
            case 'f': share = atof(optarg); break;
            case 'a': alternations = atoi(optarg); break;
            case 'm': marker = optarg; break;
            case 'N': stamp_unit_ns = strtoull(optarg, NULL, 10); break;
            case 'd': deflate_wanted = 1; break;
            case 'P': if (pid_count < 16) pids[pid_count++] = atoi(optarg); break;
            default: exit(2);
        }
}

// Connect these clients and wait until each is open or dead. Return the server's memory when the first tenth is open.
static long connect_all(int from, int until) {
    // The first tenth pays for what a server allocates once; memory per connection is counted after it.
    uint64_t began = now_ns();
    int settled_before = open_count + dead_count, first_tenth = from + (until - from) / 10, started = from;
    long rss_first_tenth = 0;
    for (int settled; (settled = open_count + dead_count - settled_before) < until - from;) {
        int goal = rss_first_tenth ? until : first_tenth;
        while (started < goal && started - from - settled < handshakes_at_once) connect_one(started++);
        serve_once(50);
        if (!rss_first_tenth && open_count + dead_count - settled_before >= first_tenth - from) rss_first_tenth = server_rss_kb();
        if (now_ns() - began > seconds(give_up_s)) {
            fprintf(stderr, "timeout: %d open and %d dead of %d\n", open_count, dead_count, connection_count);
            exit(1);
        }
    }
    return rss_first_tenth;
}

static void print_quantiles(const char *name, const uint64_t *histogram) {
    printf("\"%sp50_us\":%.1f,\"%sp99_us\":%.1f,", name, quantile_us(histogram, .5), name, quantile_us(histogram, .99));
}

static void watch(double connect_s, double connect_cpu_s, long rss_first_tenth) {
    serve_for(warm_s);
    int whole_ticks = messages_per_tick && serve_until_between_ticks(5);
    reset_counters();
    double own_before = own_cpu_s();
    uint64_t window_began = now_ns(), cpu_before = server_cpu_ns();
    long rss_before = server_rss_kb();
    serve_for(window_s);
    whole_ticks = whole_ticks && serve_until_between_ticks(5);
    uint64_t window_ended = now_ns();
    double elapsed_s = (window_ended - window_began) / 1e9;
    double cpu_s = (server_cpu_ns() - cpu_before) / 1e9, own_s = own_cpu_s() - own_before;

    uint64_t fewest = ~0ull, most = 0, most_ticks = 0;
    for (int i = 0; i < eager_count(); i++) {
        connection *c = &connections[i];
        if (c->messages < fewest) fewest = c->messages;
        if (c->messages > most) most = c->messages;
        if (c->ticks > most_ticks) most_ticks = c->ticks;
        if (c->ticks) latency_of_ticks[bucket_of(c->last_latency)]++;
    }
    for (int i = 0; i < RECENT; i++) count_completion(i);
    printf("{\"open\":%d,\"dead\":%d,\"dead_poor\":%d,\"seconds\":%.3f,\"whole_ticks\":%s,", open_count, dead_count,
           dead_poor_count, elapsed_s, whole_ticks ? "true" : "false");
    printf("\"messages\":%lu,\"other_messages\":%lu,\"ticks\":%lu,\"fewest\":%lu,\"most\":%lu,\"out_of_order\":%lu,",
           total_messages, other_messages, most_ticks, fewest, most, out_of_order);
    printf("\"bytes\":%lu,\"reads\":%lu,", total_bytes, total_reads);
    print_quantiles("", latency_of_messages);
    printf("\"p999_us\":%.1f,\"max_us\":%.1f,", quantile_us(latency_of_messages, .999), max_latency / 1e3);
    print_quantiles("tick_", latency_of_ticks);
    print_quantiles("crowd_", latency_of_crowd);
    print_quantiles("age_", age_of_slow);
    printf("\"age_max_us\":%.1f,\"slow_messages\":%lu,\"slow_topics\":%d,", max_age / 1e3, slow_messages,
           slow_topic_count);
    printf("\"server_cpu_s\":%.6f,\"own_cpu_s\":%.6f,\"connect_s\":%.3f,\"connect_cpu_s\":%.3f,", cpu_s, own_s, connect_s,
           connect_cpu_s);
    printf("\"began_ns\":%lu,\"ended_ns\":%lu,", window_began, window_ended);
    printf("\"rss_first_tenth_kb\":%ld,\"rss_before_kb\":%ld,\"rss_kb\":%ld}\n", rss_first_tenth, rss_before,
           server_rss_kb());
    fflush(stdout);
}

int main(int argument_count, char **arguments) {
    read_options(argument_count, arguments);
    marker_bytes = strlen(marker);
    receive_buffer = malloc(RECEIVE_BYTES);
    connections = calloc(connection_count, sizeof *connections);
    poller = epoll_create1(0);

    uint64_t began = now_ns(), cpu_before = server_cpu_ns();
    long rss_first_tenth = connect_all(0, alternations ? eager_count() : connection_count);
    double connect_s = (now_ns() - began) / 1e9, connect_cpu_s = (server_cpu_ns() - cpu_before) / 1e9;
    if (!alternations) watch(connect_s, connect_cpu_s, rss_first_tenth);
    for (int turn = 0; turn < alternations; turn++) {
        if (turn % 2) {
            connect_all(eager_count(), connection_count);
        } else {
            for (int i = eager_count(); i < connection_count; i++)
                if (connections[i].fd) bury(&connections[i]);
            dead_count -= dead_poor_count;
            dead_poor_count = 0;
        }
        watch(connect_s, connect_cpu_s, rss_first_tenth);
    }
    return 0;
}
