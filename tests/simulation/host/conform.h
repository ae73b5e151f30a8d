/*
 * Conformance: random scripts of system calls by three processes, run on the real kernel
 * (conform-real) and on the simulated one
 * ("simulate-host --conform"). Both print what each call returned, and what poll(2) says of each
 * descriptor after it; scripts/simulate compares the two.
 */
#ifndef CONFORM_H
#define CONFORM_H

#include <stdbool.h>
#include <stdint.h>

#define ACTORS 3
#define SLOTS 9 /* descriptors of each actor */
#define MOST_MADE 3

enum op {
	OP_SOCKET,
	OP_BIND,
	OP_LISTEN,
	OP_CONNECT,
	OP_ACCEPT,
	OP_PASSCRED,
	OP_SEND,
	OP_SEND_FD,
	OP_RECEIVE,
	OP_RECEIVE_SMALL,
	OP_RECEIVE_BARE,
	OP_CLOSE,
	OP_PEERCRED,
	OP_PEERPIDFD,
	OP_ASK,
	OP_SOCKETPAIR,
	OP_EPOLL,
	OP_EPOLL_ADD,
	OP_EPOLL_DEL,
	OP_EPOLL_WAIT,
	OP_PIPE,
	OP_PIPE_WRITE,
	OP_PIPE_READ,
	OP_FLOOD,
	OP_DUP,
	OP_RECEIVE_LIMITED,
	OP_SHUTDOWN,
	OP_DIE,
	OP_REAP,
	OP_POLL_ALL
};

/* A call with the descriptors in the places FD, A and B. */
struct call {
	enum op op;
	int fd, a, b, n;
};

struct answer {
	int result, made[MOST_MADE]; /* descriptors, or -1 */
	char text[200];
};

/* What the actor that executes a call knows. */
struct actor_state {
	int fds[SLOTS], pids[ACTORS], script, self;
};

/* What differs between kernels, as conform-real finds it out: the first line of its output. */
struct features {
	int peerpidfd;
	bool pidfd_hangs_up, passcred_at_accept;
};

/* conform-calls.c: executes CALL, on whichever kernel this program is linked with. */
void conform_execute(const struct actor_state *state, const struct call *call,
		     struct answer *answer);

/* conform-real.c and conform-model.c */
void conform_begin(struct actor_state states[ACTORS]);
void conform_end(void);
void conform_ask(int actor, const struct actor_state *state, const struct call *call,
		 struct answer *answer);
void conform_receive_limited(void (*receive)(int fd, struct answer *answer), int fd,
			     struct answer *answer);

/* conform.c: scripts FIRST to LAST - 1, of STEPS calls each. SELF tells names of different programs
 * apart. */
void conform_run(int first, int last, int steps, int self);

/* As simulate-host: FIRST LAST STEPS PEERPIDFD HANGS_UP AT_ACCEPT. Returns the exit status. */
int conform_model(char **arguments);

#endif
