/* Hosts that are frozen or suspended. */
#include "task.h"

void host_freeze(int host, bool suspend, bool unseen)
{
	struct clock *clock = &clocks[host];

	if (clock->frozen)
		return;
	trace("host %d is %s%s", host, suspend ? "suspended" : "frozen",
	      unseen ? ", unseen by its clocks" : "");
	*clock = (struct clock){ .rate = clock->rate,
				  .base = clock->base,
				  .from = clock->from,
				  .asleep = clock->asleep,
				  .frozen = true,
				  .suspended = suspend,
				  .unseen = unseen,
				  .since = now };
}

void host_thaw(int host)
{
	struct clock *clock = &clocks[host];

	if (!clock->frozen)
		return;
	trace("host %d goes on", host);
	if (clock->suspended)
		clock->asleep += (ns)((double)(now - clock->since) * clock->rate);
	if (clock->unseen) {
		clock->base = clock_boottime(host);
		clock->from = now;
	}
	clock->frozen = clock->suspended = clock->unseen = false;
	for (int i = 0; i < n_tasks; i++)
		if (tasks[i]->alive && tasks[i]->host == host)
			task_go_on(tasks[i]);
}
