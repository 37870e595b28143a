// fanlimit: the physical limit. It accepts N sockets and does nothing but send() a buffer of ready frames to each.
//
//   cc -O2 -o fanlimit fanlimit.c
//   fanlimit PORT CLIENTS FRAMES_PER_WRITE PERIOD_S LOAD
//
// With PERIOD_S 0 it paces itself as the other servers of this benchmark do (pacing.py): as often as keeps its core
// busy for LOAD of the time.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PAYLOAD_BYTES 171
#define FRAME_BYTES (PAYLOAD_BYTES + 4)
#define SHORTEST_PERIOD_S 0.005

static uint64_t clock_ns(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000ull + t.tv_nsec;
}

static void sleep_s(double s) {
    if (s <= 0) return;
    struct timespec t = {(time_t)s, (long)((s - (time_t)s) * 1e9)};
    nanosleep(&t, NULL);
}

static int listen_on(int port) {
    int on = 1, server = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(server, (void *)&address, sizeof address) || listen(server, 4096)) {
        perror("listen");
        exit(1);
    }
    return server;
}

static int accept_one(int server) {
    int on = 1, client = accept(server, NULL, NULL);
    if (client < 0) {
        perror("accept");
        exit(1);
    }
    setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    fcntl(client, F_SETFL, O_NONBLOCK);
    return client;
}

static void write_frames(char *buffer, int frames) {
    char payload[PAYLOAD_BYTES + 1];
    memset(payload, 'x', PAYLOAD_BYTES);
    int head = sprintf(payload, "{\"t\":%lu,\"x\":\"", clock_ns(CLOCK_MONOTONIC));
    payload[head] = 'x';  // over sprintf's final zero
    memcpy(payload + PAYLOAD_BYTES - 2, "\"}", 2);
    for (int i = 0; i < frames; i++) {
        char *frame = buffer + i * FRAME_BYTES;
        memcpy(frame, (char[]){(char)0x81, 126, PAYLOAD_BYTES >> 8, (char)PAYLOAD_BYTES}, 4);
        memcpy(frame + 4, payload, PAYLOAD_BYTES);
    }
}

// Return 0 if the client has gone.
static int send_all(int client, const char *buffer, int size) {
    for (int sent = 0; sent < size;) {
        ssize_t count = send(client, buffer + sent, size - sent, MSG_NOSIGNAL);
        if (count >= 0) {
            sent += count;
        } else if (errno == EAGAIN) {
            struct pollfd room = {client, POLLOUT, 0};
            poll(&room, 1, 1000);
        } else {
            return 0;
        }
    }
    return 1;
}

int main(int argument_count, char **arguments) {
    if (argument_count != 6) {
        fprintf(stderr, "usage: fanlimit PORT CLIENTS FRAMES_PER_WRITE PERIOD_S LOAD\n");
        return 2;
    }
    int server = listen_on(atoi(arguments[1])), count = atoi(arguments[2]), frames = atoi(arguments[3]);
    double period_s = atof(arguments[4]), load = atof(arguments[5]);
    int *clients = malloc(sizeof *clients * count);
    char *buffer = malloc((size_t)frames * FRAME_BYTES);
    for (int i = 0; i < count; i++) clients[i] = accept_one(server);
    while (count) {
        uint64_t began = clock_ns(CLOCK_MONOTONIC), cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
        write_frames(buffer, frames);
        for (int i = 0; i < count;) {
            if (send_all(clients[i], buffer, frames * FRAME_BYTES)) i++;
            else clients[i] = clients[--count];
        }
        double spent_s = (clock_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu) / 1e9;
        double wait_s = period_s > 0 ? period_s : spent_s / load;
        if (period_s <= 0 && wait_s < SHORTEST_PERIOD_S) wait_s = SHORTEST_PERIOD_S;
        sleep_s(wait_s - (clock_ns(CLOCK_MONOTONIC) - began) / 1e9);
    }
    pause();  // until killed, as all servers here are
    return 0;
}
