/* The actors of a script as processes of the simulated kernel, and the scripts' order as the only
 * schedule. */
#include <signal.h>
#include <stdlib.h>

#include "conform.h"
#include "schedule.h"

static struct proc *actors[ACTORS];
static struct task task;
static struct features features;

void conform_begin(struct actor_state states[ACTORS])
{
	k_reset();
	K.peerpidfd = features.peerpidfd;
	K.pidfd_hangs_up = features.pidfd_hangs_up;
	K.passcred_at_accept = features.passcred_at_accept;
	current = &task;
	for (int i = 0; i < ACTORS; i++) {
		actors[i] = k_proc_new(NULL, "A", "", true);
		actors[i]->files = k_files_new(1024);
		actors[i]->task = &task;
		actors[i]->ignored = UINT64_C(1) << (SIGPIPE - 1);
		for (int a = 0; a < ACTORS; a++)
			states[a].pids[i] = actors[i]->pid;
		for (int fd = 0; fd < 7; fd++) {
			actors[i]->files->file[fd] = k_file_new(FILE_NULL);
			actors[i]->files->end = fd + 1;
		}
	}
}

void conform_end(void)
{
}

void conform_ask(int actor, const struct actor_state *state, const struct call *call,
		 struct answer *answer)
{
	current->proc = actors[actor];
	if (call->op == OP_DIE) {
		k_close_range(0, ~0U);
		actors[actor]->state = PROC_ZOMBIE;
	} else if (call->op == OP_REAP) {
		actors[actor]->state = PROC_GONE;
	} else {
		conform_execute(state, call, answer);
	}
}

/* As if no descriptor was left. */
void conform_receive_limited(void (*receive)(int fd, struct answer *answer), int fd,
			     struct answer *answer)
{
	int limit = me()->files->limit;

	me()->files->limit = 0;
	receive(fd, answer);
	me()->files->limit = limit;
}

int conform_model(char **arguments)
{
	int n[6];

	for (int i = 0; i < 6; i++) {
		if (!arguments[i])
			return 2;
		n[i] = atoi(arguments[i]);
	}
	features = (struct features){ n[3], n[4], n[5] };
	conform_run(n[0], n[1], n[2], 1);
	return 0;
}
