/*
 * In place of the project's sources that read files: /proc (base/process.c), control groups (helper/cgroup.c),
 * executing programs (run/exec.c, helper/start.c), the configuration and the identity of the host.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>

#include "helper/cgroup.h"
#include "descriptors.h"
#include "etcd/config.h"
#include "helper/identity.h"
#include "base/process.h"
#include "holder.h"
#include "run/custody.h"
#include "run/replacement.h"
#include "world.h"

/* --- /proc ------------------------------------------------------------------------------------ */

/* A process of the current one's host, or NULL. */
static struct task *find_here(pid_t pid)
{
	struct task *task = task_find(pid);

	return task && task->host == current->host ? task : NULL;
}

/* starttime is in steps of 1/100 s: proc_pid_stat(5). */
int process_read(pid_t pid, struct process *process)
{
	struct task *task = find_here(pid);
	const struct clock *clock;
	ns start;

	task_enter_call();
	if (!task || (!task->alive && !task->zombie))
		return -ESRCH;
	clock = &clocks[task->host];
	start = clock->base + (ns)((double)(task->born - clock->from) * clock->rate);
	start = start / (10 * MS) * (10 * MS);
	*process = (struct process){ .state = task_state(task),
				      .parent = task->parent,
				      .start = start,
				      .age = clock_boottime(task->host) - start };
	return 0;
}

bool process_is_stopped(pid_t pid)
{
	struct process process;

	return process_read(pid, &process) == 0 && process.state == 'T';
}

/* Nobody uses --replace on a fleet lock. */
bool replacement_is_by(pid_t pid)
{
	(void)pid;
	return false;
}

void holder_describe(const struct holder *holder, enum holder_form form, struct line *line)
{
	(void)holder, (void)form, (void)line;
	abort();
}

bool process_has_pipe(pid_t pid, uint64_t inode)
{
	struct task *task = find_here(pid);

	task_enter_call();
	for (int fd = 0; task && fd < DESCRIPTORS; fd++)
		if (task->descriptors[fd] && task->descriptors[fd]->pipe &&
		    task->descriptors[fd]->pipe->inode == inode)
			return true;
	return false;
}

bool process_has_variable(pid_t pid, const char *text, bool whole)
{
	struct task *task = find_here(pid);

	(void)whole;
	task_enter_call();
	return task && task->alive && *task->mark && !strcmp(task->mark, text);
}

void process_walk(bool (*visit)(pid_t pid, void *argument), void *argument)
{
	const int host = current->host, self = current->pid;

	task_enter_call();
	for (int i = 0; i < n_tasks; i++)
		if (tasks[i]->host == host && tasks[i]->pid != self &&
		    (tasks[i]->alive || tasks[i]->zombie))
			if (!visit(tasks[i]->pid, argument))
				return;
}

/* Only asked for where close_range(2) fails, which it does not here. */
bool process_own_descriptors(void (*visit)(int fd, void *argument), void *argument)
{
	(void)visit, (void)argument;
	abort();
}

bool process_descends(pid_t pid, pid_t ancestor)
{
	struct task *task = find_here(pid);

	while (task && task->pid != ancestor)
		task = find_here(task->parent);
	return task != NULL;
}

int process_pidfd(pid_t pid)
{
	struct file *file;

	task_enter_call();
	if (!find_here(pid))
		return -ESRCH;
	file = file_new(FILE_PID);
	file->task = find_here(pid);
	return descriptor_install(current, file, 0, true);
}

uint64_t process_pidfd_number(pid_t pid)
{
	return find_here(pid) ? (uint64_t)pid : 0;
}

size_t process_command(pid_t pid, bool whole, char *text, size_t size)
{
	(void)pid, (void)whole, (void)size;
	*text = 0;
	return 0;
}

/* --- programs --------------------------------------------------------------------------------- */

int helper_main(int argc, char **argv);

static void helper_task(struct task *task)
{
	int argc = 0;

	while (task->arguments[argc])
		argc++;
	helper_main(argc, task->arguments);
}

int sim_helper_become(const char *name, const char *program, char **argv, char *path)
{
	(void)name, (void)program, (void)path;
	task_enter_call();
	for (int i = 0; argv[i] && i < 19; i++)
		current->arguments[i] = arena_text(argv[i]);
	world.jobs[current->job].helper = current->pid;
	task_exec(TASK_HELPER, helper_task, random_between(200 * US, 2 * MS));
}

int sim_exec_command(char *const command[], char *const environment[])
{
	(void)command;
	task_enter_call();
	world_exec(current, environment);
	task_exec(TASK_COMMAND, world_command, random_between(200 * US, 2 * MS));
}

void sim_exec_explain(char *const command[], int error)
{
	(void)command, (void)error;
}

/* --- hosts ------------------------------------------------------------------------------------ */

char *sim_config_read(struct config *config, const char *file)
{
	(void)file;
	*config = (struct config){ .n = world.one_endpoint ? 1 : MEMBERS,
				    .room = MEMBERS,
				    .dial_timeout = 2 * S,
				    .command_timeout = 5 * S };
	config->endpoints = sim_malloc(MEMBERS * sizeof *config->endpoints);
	for (size_t i = 0; i < config->n; i++) {
		char url[32];

		/* Each host names them in an order of its own. */
		snprintf(url, sizeof url, "http://m%zu:2379",
			 (i + (size_t)current->host) % MEMBERS);
		config->endpoints[i] = sim_strdup(url);
	}
	if (world.has_user) {
		config->user = sim_strdup("fleet");
		config->password = sim_strdup("secret");
	}
	return NULL;
}

void sim_identity_read(struct identity *identity, pid_t pid)
{
	memset(identity, 0, sizeof *identity);
	snprintf(identity->host, sizeof identity->host, "h%d", current->host);
	snprintf(identity->boot, sizeof identity->boot, "boot-%d", current->host);
	snprintf(identity->user, sizeof identity->user, "u");
	identity->pid = (uint64_t)pid;
	identity->start = 1;
	identity->pid_namespace = 1;
}

/* No control groups are delegated, no memory is given back, and no job has a keeper. */
void cgroup_find(struct cgroup *c)
{
	*c->path = 0;
}
void cgroup_make(struct cgroup *c)
{
	(void)c;
}
void cgroup_enter(const struct cgroup *c)
{
	(void)c;
}
void cgroup_kill(const struct cgroup *c)
{
	(void)c;
}
void cgroup_remove(struct cgroup *c)
{
	(void)c;
}
void pages_give_back(void);
void pages_give_back(void)
{
}
bool trust_is_self(uid_t uid);
bool trust_is_self(uid_t uid)
{
	return uid == 1000;
}
bool trust_file(int fd);
bool trust_file(int fd)
{
	return fd >= 0;
}
/* Fleet locks have a guard instead. */
const struct custody_form keeper_custody;
