/* What kernel-messages.c needs of kernel-sockets.c. */
#ifndef SOCKETS_H
#define SOCKETS_H

#include "kernel.h"

/* The socket of the descriptor FD. Returns 0 or a negative errno. */
int sock_of(int fd, struct sock **sock);

void sock_autobind(struct sock *sock);

/* What has happened is told once: returns that as a negative errno, or 0. */
int sock_take_error(struct sock *sock);

struct message *sock_message(void);
void sock_message_free(struct message *message);
void sock_enqueue(struct sock *sock, struct message *message);
struct message *sock_dequeue(struct sock *sock);

#endif
