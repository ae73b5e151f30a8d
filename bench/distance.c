/*
 * usage: distance PORT MICROSECONDS
 *
 * Puts a distance between clients and a server on loopback: listens on a free port, which it prints, and passes on what comes for 127.0.0.1:PORT, and
 * the answers, each so many microseconds later. What is passed on keeps its order; how much is under way does not matter, as on a line that is
 * wide enough. Runs until it is killed.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "common.h"

enum { LINES = 256, PIECE = 16384 };

/* Some bytes under way, or the end of them. */
struct piece {
    struct piece *next;
    int64_t due;
    size_t length; /* 0: the end */
    char bytes[];
};

/* One way of a connection. */
struct way {
    int from, to;
    bool ended; /* nothing more comes */
    struct piece *first, **last;
};

static struct way ways[2 * LINES];
static nfds_t n_ways;
static int64_t delay;

static int new_socket(void)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        die("socket");
    return fd;
}

static struct sockaddr_in address(int port)
{
    return (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static int listen_somewhere(void)
{
    struct sockaddr_in any = address(0);
    socklen_t size = sizeof any;
    int fd = new_socket();

    if (bind(fd, (struct sockaddr *)&any, sizeof any) || listen(fd, LINES) || getsockname(fd, (struct sockaddr *)&any, &size))
        die("a port to listen on");
    printf("%d\n", ntohs(any.sin_port));
    (void)fflush(stdout);
    return fd;
}

static void add_way(int from, int to)
{
    const int on = 1;
    struct way *way = &ways[n_ways++];

    setsockopt(from, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    *way = (struct way){.from = from, .to = to};
    way->last = &way->first;
}

static void take_line(int listener, int port)
{
    struct sockaddr_in to = address(port);
    int client = accept4(listener, NULL, NULL, SOCK_CLOEXEC), server;

    if (client < 0 || n_ways == 2 * LINES)
        die("a connection");
    server = new_socket();
    if (connect(server, (struct sockaddr *)&to, sizeof to))
        die("the server");
    add_way(client, server);
    add_way(server, client);
}

/* Takes in what has come. */
static void load(struct way *way)
{
    struct piece *piece = malloc(sizeof *piece + PIECE);
    ssize_t n;

    if (!piece)
        die("memory");
    n = read(way->from, piece->bytes, PIECE);
    piece->next = NULL;
    piece->length = n > 0 ? (size_t)n : 0;
    piece->due = now() + delay;
    way->ended = n <= 0;
    *way->last = piece;
    way->last = &piece->next;
}

/* Passes on what is due. */
static void unload(struct way *way)
{
    while (way->first && way->first->due <= now()) {
        struct piece *piece = way->first;

        if (piece->length == 0)
            shutdown(way->to, SHUT_WR);
        else if (send(way->to, piece->bytes, piece->length, MSG_NOSIGNAL) < 0)
            shutdown(way->from, SHUT_RD);
        way->first = piece->next;
        if (!way->first)
            way->last = &way->first;
        free(piece);
    }
}

/* Removes connections of which both ways have ended. They are neighbours. */
static void sweep(void)
{
    for (nfds_t i = 0; i < n_ways; i += 2) {
        struct way *up = &ways[i], *down = &ways[i + 1];

        if (!up->ended || !down->ended || up->first || down->first)
            continue;
        close(up->from);
        close(up->to);
        n_ways -= 2;
        for (nfds_t j = 0; j < 2 && i < n_ways; j++) {
            ways[i + j] = ways[n_ways + j];
            if (!ways[i + j].first)
                ways[i + j].last = &ways[i + j].first;
        }
        i -= 2;
    }
}

int main(int argc, char **argv)
{
    int listener, port;

    if (argc != 3)
        usage("distance PORT MICROSECONDS");
    port = number(argv[1], 1);
    delay = (int64_t)number(argv[2], 0) * 1000;
    listener = listen_somewhere();
    for (;;) {
        struct pollfd fds[2 * LINES + 1] = {{.fd = listener, .events = POLLIN}};
        const nfds_t n = n_ways;
        int64_t due = INT64_MAX, left;

        for (nfds_t i = 0; i < n; i++) {
            fds[i + 1] = (struct pollfd){.fd = ways[i].ended ? -1 : ways[i].from, .events = POLLIN};
            if (ways[i].first && ways[i].first->due < due)
                due = ways[i].first->due;
        }
        left = due == INT64_MAX ? 0 : due - now();
        left = left < 0 ? 0 : left;
        if (ppoll(fds, n + 1, due == INT64_MAX ? NULL : &(struct timespec){.tv_sec = left / 1000000000, .tv_nsec = left % 1000000000}, NULL) < 0 &&
            errno != EINTR)
            die("poll");
        for (nfds_t i = 0; i < n; i++) {
            if (fds[i + 1].revents)
                load(&ways[i]);
            unload(&ways[i]);
        }
        if (fds[0].revents)
            take_line(listener, port);
        sweep();
    }
}
