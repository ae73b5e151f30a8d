#include "conform.h"

#include <stdio.h>
#include <string.h>

#include "random.h"

static const char *const names[] = {
	"socket",	"bind",
	"listen",	"connect",
	"accept",	"passcred",
	"send",		"send_fd",
	"receive",	"receive_small",
	"receive_bare", "close",
	"peercred",	"peerpidfd",
	"ask",		"socketpair",
	"epoll",	"epoll_add",
	"epoll_del",	"epoll_wait",
	"pipe",		"pipe_write",
	"pipe_read",	"flood",
	"dup",		"receive_limited",
	"shutdown",	"die",
	"reap",		"poll_all",
};

/* What a descriptor is known to be. */
enum what { NONE, PLAIN, BOUND, LISTENER, CLIENT, ACCEPTED, PAIR, EPOLL, PIPE_READS, PIPE_WRITES };
#define IS(what) (1 << (what))
#define CONNECTED (IS(CLIENT) | IS(ACCEPTED) | IS(PAIR))
#define SOCKETS (IS(PLAIN) | IS(BOUND) | IS(LISTENER) | CONNECTED)
#define ANY (~IS(NONE))

static struct actor_state states[ACTORS];
static enum what whats[ACTORS][SLOTS];
static bool dead[ACTORS], reaped[ACTORS];
static struct random random_numbers;

static int draw(int n)
{
	return (int)random_below(&random_numbers, (uint32_t)n);
}

/* A place of ACTOR with one of WHICH in it, or -1. */
static int find(int actor, int which)
{
	int start = draw(SLOTS);

	for (int i = 0; i < SLOTS; i++) {
		int s = (start + i) % SLOTS;

		if ((which >> whats[actor][s]) & 1)
			return s;
	}
	return -1;
}

/* --- what a call needs --- */

/* On which descriptors, mostly on those that make sense. 0: on none. */
static int which_fds(int actor, struct call *call)
{
	switch (call->op) {
	case OP_BIND: return IS(PLAIN) | (draw(5) ? 0 : SOCKETS);
	case OP_LISTEN:
		call->n = call->n == 2 ? 100 : call->n;
		return IS(BOUND) | IS(LISTENER) | (draw(5) ? 0 : SOCKETS);
	case OP_CONNECT: return IS(PLAIN) | (draw(5) ? 0 : SOCKETS);
	case OP_ACCEPT: return IS(LISTENER) | (draw(8) ? 0 : SOCKETS);
	case OP_PASSCRED: return draw(2) ? IS(PLAIN) : SOCKETS;
	case OP_SEND:
	case OP_RECEIVE:
	case OP_RECEIVE_SMALL:
	case OP_RECEIVE_BARE:
	case OP_RECEIVE_LIMITED: return draw(6) ? CONNECTED : SOCKETS;
	case OP_SHUTDOWN: return draw(3) ? 0 : CONNECTED;
	case OP_FLOOD: return draw(10) ? 0 : CONNECTED;
	case OP_SEND_FD: return IS(ACCEPTED) | IS(PAIR);
	case OP_CLOSE: return draw(3) ? 0 : ANY;
	case OP_DUP: return draw(3) ? 0 : SOCKETS;
	case OP_PEERCRED:
	case OP_PEERPIDFD:
	case OP_ASK: return SOCKETS;
	case OP_EPOLL_ADD:
	case OP_EPOLL_DEL:
	case OP_EPOLL_WAIT: return IS(EPOLL);
	case OP_PIPE_WRITE: return IS(PIPE_WRITES);
	case OP_PIPE_READ: return IS(PIPE_READS);
	case OP_EPOLL: return find(actor, IS(EPOLL)) < 0 ? ANY | IS(NONE) : 0;
	case OP_PIPE: return find(actor, IS(PIPE_READS) | IS(PIPE_WRITES)) < 0 ? ANY | IS(NONE) : 0;
	default: return ANY | IS(NONE);
	}
}

/* Fills CALL in. Returns false if ACTOR cannot make it. */
static bool prepare(int actor, struct call *call)
{
	if (call->op == OP_DIE && draw(4))
		return false;
	if (call->op == OP_REAP ? !dead[actor] || reaped[actor] : dead[actor])
		return false;
	call->fd = find(actor, which_fds(actor, call));
	if (call->op == OP_SEND_FD) {
		call->a = find(actor, IS(LISTENER));
		call->b = find(actor, IS(LISTENER) | IS(PIPE_READS));
	} else if (call->op == OP_EPOLL_ADD || call->op == OP_EPOLL_DEL) {
		call->a = find(actor, SOCKETS | IS(PIPE_READS));
	}
	return call->fd >= 0 && call->a >= 0 && call->b >= 0;
}

/* --- what a call has made --- */

static void ask(int actor, const struct call *call, struct answer *answer)
{
	memset(answer, 0, sizeof *answer);
	conform_ask(actor, &states[actor], call, answer);
}

/* Keeps the descriptor FD, or closes it if there is no room. */
static void keep(int actor, int fd, enum what what)
{
	int s = find(actor, IS(NONE));
	struct answer answer;

	if (fd < 0)
		return;
	if (s >= 0) {
		states[actor].fds[s] = fd;
		whats[actor][s] = what;
		printf("   %c%d\n", 'A' + actor, s);
		return;
	}
	s = states[actor].fds[0];
	states[actor].fds[0] = fd;
	ask(actor, &(struct call){ .op = OP_CLOSE }, &answer);
	states[actor].fds[0] = s;
}

static void forget(int actor, int slot)
{
	states[actor].fds[slot] = -1;
	whats[actor][slot] = NONE;
}

static void learn(int actor, const struct call *call, const struct answer *answer)
{
	enum what *what = &whats[actor][call->fd];
	bool worked = answer->result >= 0;

	switch (call->op) {
	case OP_SOCKET: keep(actor, answer->made[0], PLAIN); break;
	case OP_ACCEPT: keep(actor, answer->made[0], ACCEPTED); break;
	case OP_EPOLL: keep(actor, answer->made[0], EPOLL); break;
	case OP_DUP: keep(actor, answer->made[0], *what); break;
	case OP_SOCKETPAIR:
		keep(actor, answer->made[0], PAIR), keep(actor, answer->made[1], PAIR);
		break;
	case OP_PIPE:
		keep(actor, answer->made[0], PIPE_READS), keep(actor, answer->made[1], PIPE_WRITES);
		break;
	case OP_BIND: *what = worked ? BOUND : *what; break;
	case OP_LISTEN: *what = worked ? LISTENER : *what; break;
	case OP_CONNECT: *what = worked ? CLIENT : *what; break;
	case OP_CLOSE: forget(actor, call->fd); break;
	case OP_REAP: reaped[actor] = true; break;
	case OP_DIE:
		dead[actor] = true;
		for (int s = 0; s < SLOTS; s++)
			forget(actor, s);
		break;
	case OP_RECEIVE:
	case OP_RECEIVE_SMALL:
	case OP_RECEIVE_BARE:
	case OP_RECEIVE_LIMITED:
		for (int i = 0; worked && i < MOST_MADE; i++)
			keep(actor, answer->made[i], LISTENER);
		break;
	default: break;
	}
}

/* --- scripts --- */

static void step(void)
{
	int actor = draw(ACTORS);
	struct call call = { .op = (enum op)draw(OP_POLL_ALL), .n = draw(3) };
	struct answer answer;

	if (!prepare(actor, &call))
		return;
	ask(actor, &call, &answer);
	printf("%c: %s %d n=%d = %d %s\n", 'A' + actor, names[call.op], call.fd, call.n,
	       answer.result, answer.text);
	learn(actor, &call, &answer);
	for (int i = 0; i < ACTORS; i++) {
		if (dead[i])
			continue;
		ask(i, &(struct call){ .op = OP_POLL_ALL }, &answer);
		printf("   %c%s\n", 'A' + i, answer.text);
	}
}

void conform_run(int first, int last, int steps, int self)
{
	static char buffer[1 << 20];

	setvbuf(stdout, buffer, _IOFBF, sizeof buffer);
	for (int script = first; script < last; script++) {
		random_seed(&random_numbers, (uint64_t)script);
		memset(whats, 0, sizeof whats);
		memset(dead, 0, sizeof dead);
		memset(reaped, 0, sizeof reaped);
		memset(states, 0xff, sizeof states);
		for (int i = 0; i < ACTORS; i++) {
			states[i].script = script;
			states[i].self = self;
		}
		fflush(stdout);
		conform_begin(states);
		printf("--- script %d\n", script);
		for (int i = 0; i < steps; i++)
			step();
		conform_end();
	}
	fflush(stdout);
}
