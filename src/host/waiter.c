#include "host/waiter.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/trust.h"

void waiter_close(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

bool waiter_is_in_line(const struct waiter *w)
{
	return w->ahead[0].fd >= 0 || w->ahead[1].fd >= 0;
}

bool waiter_is_front(const struct waiter *w)
{
	return w->queue >= 0 && !waiter_is_in_line(w);
}

void waiter_rest(int64_t *pause, int64_t *look)
{
	*pause = *pause ? *pause * 2 : SHORTEST_PAUSE;
	if (*pause > LONGEST_PAUSE)
		*pause = LONGEST_PAUSE;
	*look = deadline_now() + *pause;
}

bool waiter_is_own_peer(int fd, pid_t *pid)
{
	struct ucred peer;
	socklen_t size = sizeof peer;

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size))
		return false;
	if (pid)
		*pid = peer.pid;
	return trust_is_self(peer.uid);
}

bool waiter_has_hung_up(int fd)
{
	struct pollfd p = { .fd = fd };

	return poll(&p, 1, 0) > 0;
}

enum waiter_state waiter_state(const struct waiter *w)
{
	if (w->alone)
		return WAITER_ALONE;
	if (waiter_is_in_line(w))
		return w->queue >= 0 ? WAITER_SUCCESSOR : WAITER_IN_LINE;
	if (w->queue >= 0)
		return WAITER_FRONT;
	return w->outside ? WAITER_OUTSIDE : WAITER_NOWHERE;
}
