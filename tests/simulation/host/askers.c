/* Those who ask who holds the lock, by the program's own functions, as --who does; and whether what
 * they are told is true. */
#include <string.h>
#include <sys/file.h>

#include "hooks.h"
#include "lock.h"
#include "world.h"

#define MOST_QUESTIONS 8

/* The command that runs under the lock alone; NULL: none, or several do. */
static const struct proc *running_command(void)
{
	const struct proc *found = NULL;
	int n = 0;

	for_each_proc(p)
		if (p->in_critical && p->state == PROC_ALIVE && p->flock != LOCK_SH) {
			found = p;
			n++;
		}
	return n == 1 ? found : NULL;
}

/* Whether PID is, or was, a process of a call that has had the lock, or of a stranger who may have.
 */
static bool may_be_holder(int pid)
{
	for_each_proc(p) {
		const struct run *run = p->run;

		if (p->pid != pid)
			continue;
		if (run ? run->got || (run->outer && run->outer->got)
			: W.strangers || W.kind->scene)
			return true;
	}
	return false;
}

static void check_answer(const struct holder *holder, const struct proc *before)
{
	const struct proc *after = running_command();

	if (holder->pid && !may_be_holder(holder->pid))
		fail("WHO: pid %d is said to hold the lock, and never did", holder->pid);
	/* It was there all the time. If its me-only was killed meanwhile, that one may be named. */
	else if (before && before == after && holder->pid && holder->pid != before->pid &&
		 !before->run->faulted)
		fail("WHO: pid %d is said to hold the lock, while %s, pid %d, ran under it",
		     holder->pid, before->name, before->pid);
	else if (before && before == after && !holder->pid && !K.no_diag)
		fail("WHO: the holder is said to be hidden (%s) while %s ran", holder->hidden,
		     before->name);
}

static void ask(void)
{
	static char names[] = "L", file[] = "file:/l";
	const struct proc *before = running_command();
	struct usage_error error;
	struct holder holder;
	struct lock lock;

	if (lock_open(&lock, W.kind->file ? file : names, &error))
		return;
	lock.engine->find_holder(&lock, &holder, true);
	TRACE("who: pid %d%s%s", holder.pid, holder.hidden && !holder.pid ? ", hidden: " : "",
	      holder.hidden && !holder.pid ? holder.hidden : "");
	check_answer(&holder, before);
}

static void asker_main(void *argument)
{
	(void)argument;
	for (int i = 0; i < MOST_QUESTIONS; i++) {
		sleep_until(K.now + (rnd(3) ? rnd(300000) : rnd(400000000)));
		ask();
	}
	k_exit(0);
}

void askers_start(void)
{
	actor_new("who", 1000, 1024, asker_main, NULL);
}

/* What a call of me-only says to its user. */
void on_said(const struct proc *p, const char *text, size_t length)
{
	static const char *const words[] = { "held by pid ", "waiting for pid " };
	char line[256] = "";

	if (!p->run)
		return;
	memcpy(line, text, length < sizeof line ? length : sizeof line - 1);
	for (int i = 0; i < 2; i++) {
		const char *at = strstr(line, words[i]);
		int pid = 0;

		for (at = at ? at + strlen(words[i]) : ""; *at >= '0' && *at <= '9'; at++)
			pid = pid * 10 + (*at - '0');
		if (pid && !may_be_holder(pid))
			fail("WHO: %s says that pid %d holds the lock, which never did", p->name,
			     pid);
	}
}
