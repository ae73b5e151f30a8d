/*
 * Packets between me-only and a helper (PROTOCOL.md): a word, and below it lines "KEY VALUE".
 *
 * Reading and sending is here; helper/say.h composes them for me-only.
 */
#ifndef HELPER_PACKETS_H
#define HELPER_PACKETS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PROTOCOL_VERSION "1"

/* The descriptors that a helper finds: the socket, the lock pipe, the timer. */
#define CONTROL_FD 0
#define PIPE_FD 3
#define TIMER_FD 4

/* How far ahead the timer is set if there was no room for "released", at least: years (ns). */
#define TIMER_RELEASED (INT64_C(100000000) * 1000000000)

/* Room for the longest packet, with a NUL. */
#define PACKET_SIZE 4096

bool packet_is(const char *packet, const char *word);

/*
 * The value of KEY, of *LENGTH bytes, or NULL. A key can occur several times: the search starts at
 * *AT (NULL: the beginning), which is moved behind the value, unless AT is NULL.
 */
const char *packet_field(const char *packet, const char *key, size_t *length, const char **at);

int64_t packet_number(const char *packet, const char *key, int64_t otherwise);

/* The value of KEY in ns, where the packet counts in units of UNIT ns; -1: none that is valid. */
int64_t packet_time(const char *packet, const char *key, int64_t unit);

/* Copies the value of KEY into TEXT; "" if there is none. Returns TEXT, or NULL for none. */
char *packet_text(const char *packet, const char *key, char *text, size_t size);

/* The same for a sentence. It is escaped: the service may have chosen parts of it. */
char *packet_sentence(const char *packet, const char *key, char *text, size_t size);

/*
 * Receives the next packet. Returns 1; 0: the socket is closed; -EAGAIN: there is none now. The
 * second takes packets of less than SIZE bytes, and the descriptor that comes with one (-1: none).
 */
int packet_receive(int socket, char packet[PACKET_SIZE]);
int packet_receive_with(int socket, char *packet, size_t size, int *fd);

/* Sends TEXT, with the descriptor FD if it is not negative. Without room, it is dropped. */
void packet_send(int socket, const char *text, int fd);

#endif
