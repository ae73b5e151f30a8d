#include "helper/control.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/deadline.h"
#include "base/process.h"
#include "helper/packets.h"
#include "helper/say.h"
#include "helper/schedule.h"

static int64_t now(void)
{
	return clock_now(CLOCK_BOOTTIME);
}

void control_open(struct control *control, pid_t me_only, uint64_t pipe)
{
	*control = (struct control){
		.job = -1,
		.ask_due = DEADLINE_NEVER,
		.force_due = DEADLINE_NEVER,
		.descendants = { .ancestor = me_only, .helper = getpid(), .pipe = pipe },
	};
}

/* --- what me-only reports --------------------------------------------------------------------- */

/* The command was started; PIDFD may be -1. */
static void take_job(struct control *control, const char *packet, int pidfd)
{
	struct process process;
	int null;

	control->started = true;
	control->job = pidfd;
	control->alone = pidfd >= 0 && packet_number(packet, "alone", 0) == 1;
	/* A process older than the command is not its descendant. */
	if (process_read((pid_t)packet_number(packet, "pid", 0), &process) == 0)
		control->descendants.since = process.start;
	packet_text(packet, "cgroup", control->cgroup.path, sizeof control->cgroup.path);
	/* What starts now may outlive the terminal that is our standard error. */
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null >= 0)
		dup2(null, STDERR_FILENO);
	if (null > STDERR_FILENO)
		close(null);
}

void control_hear(struct control *control)
{
	char packet[PATH_MAX + 64];
	int fd, r;

	while (!control->orphaned) {
		r = packet_receive_with(CONTROL_FD, packet, sizeof packet, &fd);
		if (r == -EAGAIN)
			return;
		if (r == 0) {
			control->orphaned = control->news = true;
			control->descendants.ancestor = 0;
		} else if (packet_is(packet, "job") && !control->started) {
			take_job(control, packet, fd);
			continue;
		} else if (packet_is(packet, "ending")) {
			control->ending = true;
		} else if (packet_is(packet, "done")) {
			control->done = control->job_ended = control->news = true;
			control->unused = packet_number(packet, "unused", 0) == 1;
		}
		if (fd >= 0)
			close(fd);
	}
}

/* --- the command ------------------------------------------------------------------------------ */

static void look_at_job(struct control *control)
{
	struct pollfd fds[] = {
		{ .fd = control->pipe_closed ? -1 : PIPE_FD, .events = 0 },
		{ .fd = control->job_ended ? -1 : control->job, .events = POLLIN },
	};

	if (poll(fds, 2, 0) <= 0)
		return;
	if (fds[0].revents & (POLLHUP | POLLERR | POLLNVAL))
		control->pipe_closed = control->news = true;
	if (fds[1].revents) {
		control->job_ended = control->news = true;
		/* That me-only was killed, or asked the command to end, came first. */
		control_hear(control);
	}
}

/* Ends the command if that is due: me-only may be stopped, or gone. */
static void end_if_due(struct control *control)
{
	if (now() >= control->force_due) {
		control->ending = true;
		/* The command first: finding the others takes milliseconds. */
		if (control->job >= 0)
			syscall(SYS_pidfd_send_signal, control->job, SIGKILL, NULL, 0);
		cgroup_kill(&control->cgroup);
		descendants_signal(&control->descendants, SIGKILL);
		control->force_pause = schedule_pause(control->force_pause);
		control->force_due = now() + control->force_pause;
	} else if (now() >= control->ask_due) {
		/*
		 * While me-only lives, it does that. What was frozen until the deadline gets no
		 * more time.
		 */
		if (control->orphaned)
			descendants_signal(&control->descendants, SIGTERM);
		control->ask_due = DEADLINE_NEVER;
	}
}

void control_tend(struct control *control)
{
	look_at_job(control);
	end_if_due(control);
}

void control_keep_until(struct control *control, int64_t deadline, int64_t kill_after)
{
	if (control->ending)
		return;
	control->ask_due = deadline - kill_after;
	control->force_due = deadline;
}

void control_lose(struct control *control, int64_t end, int64_t kill_after)
{
	control->ending = true;
	control->ask_due = now();
	control->force_due = schedule_grace_end(end, kill_after);
}

void control_end_orphans(struct control *control, int64_t deadline, int64_t kill_after)
{
	if (!control->orphaned || control->done)
		return;
	cgroup_remove(&control->cgroup);
	if (!control->ending) {
		control->ending = true;
		descendants_signal(&control->descendants, SIGTERM);
		control->force_due = schedule_grace_end(deadline, kill_after);
	}
	/* A process left in the group has closed the pipe, and shows no other mark of the lock. */
	control->orphans_ended =
		!*control->cgroup.path && descendants_signal(&control->descendants, 0) == 0;
}

bool control_is_over(const struct control *control)
{
	/* What has to end may leave descendants without the pipe: somebody sees to them first. */
	const bool in_good_order = control->alone && !control->ending && !control->orphaned;

	/*
	 * With -o the command does not have the pipe. Where sudo is the command, it may outlive
	 * me-only.
	 */
	return control->pipe_closed && (control->job_ended || control->job < 0) &&
	       (control->done || control->orphans_ended || in_good_order);
}
