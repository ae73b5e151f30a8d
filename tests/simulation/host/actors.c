/* Those who act in a world: calls of me-only, the commands that they run, and strangers. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "calls.h"
#include "hooks.h"
#include "host/address.h"
#include "world.h"

/* What a command leaves running ends after that time. */
#define LEFT_FOR (2 * S)

struct proc *actor_new(const char *name, uid_t uid, int limit, void (*body)(void *), void *argument)
{
	struct proc *p = k_proc_new(NULL, name, "", true);

	p->uid = uid;
	p->files = k_files_new(limit);
	for (int fd = 0; fd < 3; fd++) {
		p->files->file[fd] = k_file_new(FILE_NULL);
		p->files->end = fd + 1;
	}
	p->task = task_new(p, body, argument);
	return p;
}

/* --- me-only --- */

static int count_inherited(void)
{
	int n = 0;

	for (int fd = 3; fd < me()->files->end; fd++)
		n += k_file(fd) != NULL;
	return n;
}

static void call_main(void *argument)
{
	struct run *run = argument;

	sleep_until(run->start);
	run->inherited = count_inherited();
	run->started_at = K.now;
	run->start_step = schedule.steps;
	TRACE("me-only starts");
	k_exit((me_only_main(run->argc, run->argv) & 255) << 8);
}

static void become_me_only(struct run *run, struct proc *p)
{
	run->proc = p;
	p->run = run;
	p->role = ROLE_ME_ONLY;
	p->program = PROGRAM_ME_ONLY;
	strcpy(p->comm, "me-only");
}

void call_start(struct run *run, int limit)
{
	char name[12];

	snprintf(name, sizeof name, "W%d", run->index);
	become_me_only(run, actor_new(name, run->uid, limit, call_main, run));
}

/* A command calls me-only, and waits for it. */
void inner_call(struct run *run)
{
	struct proc *p;
	char name[12];

	snprintf(name, sizeof name, "W%d", run->index);
	p = k_proc_new(me(), name, "", false);
	become_me_only(run, p);
	p->task = task_new(p, call_main, run);
	TRACE("calls %s", p->name);
	__wrap_waitpid(p->pid, NULL, 0);
}

/* --- its command --- */

/* The name under which P runs, as its environment tells. */
void command_is_executed(struct proc *p, char *const environment[])
{
	static const char lock[] = "ME_ONLY_LOCK=", slot[] = "ME_ONLY_SLOT=",
			  prefix[] = "\0me-only:";
	const char *name = "", *number = "0";
	char *out = p->lock.path;

	for (; *environment; environment++) {
		if (!strncmp(*environment, lock, sizeof lock - 1))
			name = *environment + sizeof lock - 1;
		if (!strncmp(*environment, slot, sizeof slot - 1))
			number = *environment + sizeof slot - 1;
	}
	snprintf(p->variables, sizeof p->variables, "%s%s", lock, name);
	out = (char *)mempcpy(out, prefix, sizeof prefix - 1);
	out = (char *)mempcpy(out, name, strlen(name));
	if (strcmp(number, "0") != 0) {
		out = (char *)mempcpy(out, "\0slot", 6);
		out = (char *)mempcpy(out, number, strlen(number));
	}
	p->lock.length = (int)(out - p->lock.path);
	p->role = ROLE_COMMAND;
	p->program = PROGRAM_OTHER;
	strcpy(p->comm, "cmd");
}

static void left_main(void *argument)
{
	(void)argument;
	sleep_until(K.now + LEFT_FOR);
	k_exit(0);
}

static void leave_a_process(struct proc *p)
{
	struct proc *child = k_proc_new(p, p->name, "b", false);

	child->role = ROLE_CHILD;
	child->task = task_new(child, left_main, NULL);
}

static void close_all(void)
{
	for (int fd = 3; fd < me()->files->end; fd++)
		if (k_file(fd)) {
			point(false);
			k_close(fd);
		}
}

/* The program that was executed. */
void command_main(struct proc *p)
{
	const struct run *run = p->run;

	point(false);
	if (run->behaviour == CLOSES)
		close_all();
	if (run->behaviour == LEAVES)
		leave_a_process(p);
	if (run->behaviour == IGNORES)
		p->ignored |= UINT64_C(1) << (SIGTERM - 1);
	if (run->inner)
		inner_call(run->inner);
	sleep_until(K.now + run->duration);
	TRACE("the command ends");
	k_exit(0);
}

/* --- strangers --- */

/* What they do: bind the queue, a place, or the lock itself; or come into the queue of others. */
enum stranger { BINDS_QUEUE, BINDS_PLACE, BINDS_LOCK, JOINS_QUEUE, STRANGERS };

static enum stranger stranger;

static void stranger_name(struct address *name)
{
	struct host_address lock, address;

	host_address(&lock, "L");
	if (stranger == BINDS_QUEUE || stranger == JOINS_QUEUE)
		host_queue_address(&address, &lock, 1000, 1);
	else if (stranger == BINDS_PLACE)
		host_address_suffixed(&address, &lock, "place", rnd(2));
	else
		address = lock;
	k_address(name, &address.un, (int)address.length);
}

static void act_once(const struct address *name)
{
	int fd, r;

	point(false);
	fd = k_socket(true);
	point(false);
	if (stranger == JOINS_QUEUE) {
		r = k_connect(fd, name);
		TRACE("stranger connects to %s: %s", k_show(name), show_result(r));
	} else {
		r = k_bind(fd, name);
		TRACE("stranger binds %s: %s", k_show(name), show_result(r));
		point(false);
		if (r == 0 && rnd(4) > 0)
			k_listen(fd, rnd(3) ? 100 : 0);
	}
	sleep_until(K.now + rnd(200000000));
	if (rnd(2)) {
		point(false);
		k_close(fd);
	}
}

static void stranger_main(void *argument)
{
	struct address name;

	sleep_until(EPOCH + rnd(2000000));
	stranger_name(&name);
	for (int n = *(int *)argument; n > 0; n--)
		act_once(&name);
	sleep_until(K.now + (int64_t)rnd(3) * S);
	k_exit(0);
}

void strangers_start(void)
{
	static int times[2];

	stranger = (enum stranger)rnd(STRANGERS);
	/* Whoever only comes into the queue is passed over, and costs nobody anything. */
	W.strangers = stranger != JOINS_QUEUE;
	for (int i = (int)rnd(2); i >= 0; i--) {
		times[i] = stranger == JOINS_QUEUE ? 1 + (int)rnd(5) : 1;
		actor_new("X", 2000, 1024, stranger_main, &times[i]);
	}
}

/* --- for a scene --- */

/* Starts processes that end at once, so that numbers are used again. */
static void short_main(void *argument)
{
	(void)argument;
	point(false);
	k_exit(0);
}

static void churner_main(void *argument)
{
	(void)argument;
	for (int i = 0; i < 40; i++) {
		struct proc *p;

		sleep_until(K.now + (rnd(3) ? rnd(100000) : rnd(300000000)));
		p = k_proc_new(NULL, "Y", "", true);
		p->uid = 1000;
		p->files = k_files_new(16);
		p->task = task_new(p, short_main, NULL);
		if (rnd(2))
			sleep_until(K.now + rnd(50000));
	}
	k_exit(0);
}

void churner_start(void)
{
	actor_new("churner", 1000, 16, churner_main, NULL);
}

static void unlinker_main(void *argument)
{
	(void)argument;
	for (int i = 0; i < 12; i++) {
		sleep_until(K.now + (rnd(3) ? rnd(60000) : rnd(300000000)));
		TRACE("removes the file");
		k_inode_unlink();
	}
	k_exit(0);
}

void unlinker_start(void)
{
	actor_new("rm", 1000, 16, unlinker_main, NULL);
}

static int64_t blink;

/* Binds the lock as soon as it is free, does not listen, and lets it go. */
static void blinker_main(void *argument)
{
	struct host_address lock;
	struct address name;
	int fd, r;

	(void)argument;
	host_address(&lock, "L");
	k_address(&name, &lock.un, (int)lock.length);
	sleep_until(EPOCH + 150 * US);
	fd = k_socket(true);
	do {
		sleep_until(K.now + 3 * US);
		r = k_bind(fd, &name);
	} while (r == -EADDRINUSE && K.now < EPOCH + S);
	TRACE("binds the lock: %s", show_result(r));
	sleep_until(K.now + blink);
	k_exit(0);
}

void blinker_start(int64_t duration)
{
	blink = duration;
	actor_new("X", 1000, 1024, blinker_main, NULL);
}

/* Has a name that has nothing to do with any lock, until it ends. */
static void closer_main(void *argument)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX, .sun_path = "\0other" };
	struct address name;

	un.sun_path[6] = (char)('0' + me()->index);
	k_address(&name, &un, (int)offsetof(struct sockaddr_un, sun_path) + 7);
	k_bind(k_socket(true), &name);
	sleep_until(EPOCH + *(int64_t *)argument);
	k_exit(0);
}

void closer_start(int64_t duration)
{
	static int64_t durations[MOST_RUNS];
	static int next;

	next = (next + 1) % MOST_RUNS;
	durations[next] = duration;
	actor_new("X", 1000, 1024, closer_main, &durations[next]);
}
