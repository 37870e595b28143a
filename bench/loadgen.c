// loadgen: many loopback clients in one epoll thread, and what it cost the server to serve them.
//
// It opens N connections of one kind, waits until all are open, and then watches one window of time: messages, their
// latency, and the CPU time and memory of the server's processes as the kernel accounts them. It prints one JSON object.
//
// A message is whatever holds the marker "t": followed by CLOCK_MONOTONIC in nanoseconds, anywhere in its text, so
// envelopes of any shape are treated alike. All messages of one tick carry the same stamp.
//
//   cc -O2 -o loadgen loadgen.c
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

enum kind { KIND_WS, KIND_SSE, KIND_RAW, KIND_NATS };
enum state { HANDSHAKE, OPEN, DEAD };

typedef struct {
    int fd;
    enum state state;
    uint8_t *carry;  // the beginning of a message whose rest has not arrived
    int carried, carry_capacity;
    uint64_t messages, ticks, messages_of_tick;
    uint64_t last_stamp, last_latency;
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

// --- counters of the window ---

static uint64_t total_messages, total_bytes, total_reads, other_messages, out_of_order, max_latency;
static int open_count, dead_count;
static connection *connections;
static int poller;

#define RECEIVE_BYTES (1 << 20)
static uint8_t *receive_buffer;

#define MARKER "\"t\":"
#define MARKER_BYTES 4
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

// --- connections ---

static void bury(connection *c) {
    if (c->state == DEAD) return;
    if (c->state == OPEN) open_count--;
    c->state = DEAD;
    dead_count++;
    close(c->fd);
}

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
}

static void count_message(connection *c, const uint8_t *digits, const uint8_t *end, uint64_t now) {
    uint64_t stamp = 0;
    if (digits < end && *digits == ' ') digits++;
    for (; digits < end && (unsigned)(*digits - '0') < 10; digits++) stamp = stamp * 10 + (*digits - '0');
    uint64_t latency = now > stamp ? now - stamp : 0;
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

static void count_frame(connection *c, const uint8_t *payload, size_t size, uint64_t now) {
    // Frames of one server look alike, so the marker is nearly always where it was last time.
    static size_t usual_offset;
    const uint8_t *end = payload + size, *found;
    if (size >= usual_offset + MARKER_BYTES && !memcmp(payload + usual_offset, MARKER, MARKER_BYTES)) {
        found = payload + usual_offset;
    } else {
        found = memmem(payload, size, MARKER, MARKER_BYTES);
        if (!found) {
            other_messages++;
            return;
        }
        usual_offset = found - payload;
    }
    count_message(c, found + MARKER_BYTES, end, now);
}

// Returns how many bytes were used up.
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
        if (opcode <= 2) count_frame(c, frame + head, length, now);
        used += head + length;
    }
    return used;
}

// SSE and NATS carry many messages in chunks of any size; the marker alone tells them apart.
static int scan_for_markers(connection *c, const uint8_t *bytes, int size, uint64_t now) {
    const uint8_t *at = bytes, *end = bytes + size;
    for (;;) {
        const uint8_t *found = memmem(at, end - at, MARKER, MARKER_BYTES);
        if (!found) {
            int kept = end - at < MARKER_BYTES - 1 ? (int)(end - at) : MARKER_BYTES - 1;
            return size - kept;
        }
        if (end - found < MARKER_BYTES + STAMP_BYTES) return found - bytes;
        count_message(c, found + MARKER_BYTES, end, now);
        at = found + MARKER_BYTES;
    }
}

// Returns how many bytes the answer took, 0 while it is not complete.
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

static void readable(connection *c) {
    if (c->carried) memcpy(receive_buffer, c->carry, c->carried);
    ssize_t got = recv(c->fd, receive_buffer + c->carried, RECEIVE_BYTES - c->carried, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got <= 0) {
        bury(c);
        return;
    }
    total_bytes += got;
    total_reads++;
    int size = c->carried + (int)got, used = 0;
    uint64_t now = now_ns();
    if (c->state == HANDSHAKE) used = read_handshake(c, receive_buffer, size);
    if (c->state == OPEN) {
        int framed = kind == KIND_WS || kind == KIND_RAW;
        used += (framed ? read_frames : scan_for_markers)(c, receive_buffer + used, size - used, now);
    }
    if (c->state != DEAD) keep_rest(c, receive_buffer + used, size - used);
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
    if (kind == KIND_RAW) {
        opened(c);
    } else {
        const char *path = path_count ? paths[number % path_count] : "/";
        static char request[16384];
        int size;
        if (kind == KIND_SSE)
            size = snprintf(request, sizeof request,
                            "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAccept: text/event-stream\r\n\r\n", path, port);
        else
            size = snprintf(request, sizeof request,
                            "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
                            path, port);
        if (send(c->fd, request, size, MSG_NOSIGNAL) != size) {
            perror("send");
            exit(1);
        }
    }
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &event);
}

// Returns how many connections had something.
static int serve_once(int wait_ms) {
    static struct epoll_event events[1024];
    int count = epoll_wait(poller, events, 1024, wait_ms);
    for (int i = 0; i < count; i++) {
        connection *c = events[i].data.ptr;
        if (c->state != DEAD) readable(c);
    }
    return count;
}

// --- what the kernel knows of the server ---

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

// Whether every client has the whole of the newest tick, and none of a later one.
static int between_ticks(void) {
    uint64_t newest = 0;
    for (int i = 0; i < connection_count; i++) {
        const connection *c = &connections[i];
        if (c->state != OPEN) continue;
        if (!newest) newest = c->last_stamp;
        if (c->last_stamp != newest || c->messages_of_tick != (uint64_t)messages_per_tick) return 0;
    }
    return newest != 0;
}

// Goes on until all have the same: a window from tick to tick holds whole ticks only, with all they cost. Where messages
// are lost that moment never comes; returns 0 then.
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
            case 'P': if (pid_count < 16) pids[pid_count++] = atoi(optarg); break;
            default: exit(2);
        }
}

int main(int argument_count, char **arguments) {
    read_options(argument_count, arguments);
    receive_buffer = malloc(RECEIVE_BYTES);
    connections = calloc(connection_count, sizeof *connections);
    poller = epoll_create1(0);

    // The first tenth pays for what a server sets up once; memory for each connection is counted from there.
    uint64_t began = now_ns(), cpu_before = server_cpu_ns();
    int first_tenth = connection_count / 10, started = 0;
    long rss_first_tenth = 0;
    while (open_count + dead_count < connection_count) {
        int goal = rss_first_tenth ? connection_count : first_tenth;
        while (started < goal && started - open_count - dead_count < handshakes_at_once) connect_one(started++);
        serve_once(50);
        if (!rss_first_tenth && open_count + dead_count >= first_tenth) rss_first_tenth = server_rss_kb();
        if (now_ns() - began > seconds(give_up_s)) {
            fprintf(stderr, "timeout: %d open and %d dead of %d\n", open_count, dead_count, connection_count);
            return 1;
        }
    }
    double connect_s = (now_ns() - began) / 1e9, connect_cpu_s = (server_cpu_ns() - cpu_before) / 1e9;

    serve_for(warm_s);
    int whole_ticks = messages_per_tick && serve_until_between_ticks(5);
    reset_counters();
    double own_before = own_cpu_s();
    uint64_t window_began = now_ns();
    cpu_before = server_cpu_ns();
    serve_for(window_s);
    whole_ticks = whole_ticks && serve_until_between_ticks(5);
    double elapsed_s = (now_ns() - window_began) / 1e9;
    double cpu_s = (server_cpu_ns() - cpu_before) / 1e9, own_s = own_cpu_s() - own_before;

    uint64_t fewest = ~0ull, most = 0, most_ticks = 0;
    for (int i = 0; i < connection_count; i++) {
        connection *c = &connections[i];
        if (c->messages < fewest) fewest = c->messages;
        if (c->messages > most) most = c->messages;
        if (c->ticks > most_ticks) most_ticks = c->ticks;
        if (c->ticks) latency_of_ticks[bucket_of(c->last_latency)]++;
    }
    printf("{\"open\":%d,\"dead\":%d,\"seconds\":%.3f,\"whole_ticks\":%s,", open_count, dead_count, elapsed_s,
           whole_ticks ? "true" : "false");
    printf("\"messages\":%lu,\"other_messages\":%lu,\"ticks\":%lu,\"fewest\":%lu,\"most\":%lu,\"out_of_order\":%lu,",
           total_messages, other_messages, most_ticks, fewest, most, out_of_order);
    printf("\"bytes\":%lu,\"reads\":%lu,", total_bytes, total_reads);
    printf("\"p50_us\":%.1f,\"p99_us\":%.1f,\"p999_us\":%.1f,\"max_us\":%.1f,", quantile_us(latency_of_messages, .5),
           quantile_us(latency_of_messages, .99), quantile_us(latency_of_messages, .999), max_latency / 1e3);
    printf("\"tick_p50_us\":%.1f,\"tick_p99_us\":%.1f,", quantile_us(latency_of_ticks, .5), quantile_us(latency_of_ticks, .99));
    printf("\"server_cpu_s\":%.6f,\"own_cpu_s\":%.6f,\"connect_s\":%.3f,\"connect_cpu_s\":%.3f,", cpu_s, own_s, connect_s,
           connect_cpu_s);
    printf("\"rss_first_tenth_kb\":%ld,\"rss_kb\":%ld}\n", rss_first_tenth, server_rss_kb());
    return 0;
}
