/*
 * Situations that showed a bug once. Each is drawn anew for each seed, in such a way that many seeds
 * would show it again.
 */
#include "world.h"

/* START, a little later. */
static int64_t about(int64_t start, int64_t most)
{
	return start + (int64_t)rnd((uint32_t)(most / US)) * US;
}

/*
 * The front of a line is stopped (Ctrl-Z), the second takes the lock past it, and the first resumes
 * while that command runs: then two fronts appointed successors.
 */
void scene_stopfront(void)
{
	struct run *front;

	world_call(world_add(0, about(500 * MS, 100 * MS)), 1024);
	front = world_add(about(50 * MS, 10 * MS), 50 * MS);
	world_call(front, 1024);
	world_call(world_add(about(100 * MS, 10 * MS), 1500 * MS), 1024);
	for (int i = 3; i < 7; i++)
		world_call(world_add(about(i * 50 * MS, 10 * MS), 50 * MS), 1024);
	fault_at(about(400 * MS, 50 * MS), front, true, about(1500 * MS, 800 * MS));
}

/* Waiters come while a front executes its command: whoever joined a queue that only the new process
 * still had lost its place. */
void scene_joinexec(void)
{
	for (int i = 0; i < 5; i++)
		world_call(world_add(about(0, 60 * US), about(0, 300 * US)), 1024);
}

/* The lock is bound for an instant, without listening: the pause of the front began with 8 ms
 * instead of 1 ms. */
void scene_firstpause(void)
{
	world_call(world_add(0, about(300 * US, 200 * US)), 1024);
	world_call(world_add(100 * US, 0), 1024);
	blinker_start(about(2500 * US, 1500 * US)); /* longer than the name of a command that has
						       ended is tried in a row */
}

/* One of two holders greets nobody (-F), and is asked who it is at the moment at which the other
 * one ends. */
void scene_deaf(void)
{
	struct run *silent = world_add(0, 5 * S),
		   *other = world_add(10 * MS, about(1000 * MS, 400 * MS)),
		   *waiter = world_add(20 * MS, 0);

	silent->becomes = true;
	waiter->quiet = false;
	silent->slots = other->slots = waiter->slots = 2;
	world_call(silent, 1024);
	world_call(other, 1024);
	world_call(waiter, 1024);
}

/*
 * Waiters that have given up fill the queue while the front and its successors live: those who came
 * next went alone, and overtook.
 */
void scene_fullqueue(void)
{
	K.somaxconn = 3 + (int)rnd(3);
	K.no_diag = false; /* without the table of sockets nobody knows whose queue it is, and who
			      comes waits alone */
	world_call(world_add(0, about(2500 * MS, 2000 * MS)), 1024);
	for (int i = 1; i < 4; i++)
		world_call(world_add(i * 10 * MS, 30 * MS), 1024);
	for (int i = 4; i < 10; i++) {
		struct run *impatient = world_add(about(i * 10 * MS, 5 * MS), 0);

		impatient->limit = (20 + rnd(100)) * MS;
		world_call(impatient, 1024);
	}
	for (int i = 10; i < 14; i++)
		world_call(world_add(about(i * 50 * MS, 20 * MS), 30 * MS), 1024);
}

/* --replace comes as the holder ends: on Linux 6.5 to 6.15, where a process that was reaped has no
 * pidfd any more, it was refused. */
void scene_replaceend(void)
{
	K.peerpidfd = 1;
	K.no_diag = false;
	world_call(world_add(0, about(100 * US, 100 * US)), 1024);
	for (int i = 0; i < 2; i++) {
		struct run *run = world_add(about(100 * US, 150 * US), 0);

		run->replaces = true;
		world_call(run, 1024);
	}
}

/*
 * What a command has left running is asked to exit by two that replace it, and the second of them
 * finds no proof in a process that is about to exit. It slept before it looked again, heard nobody,
 * and had no successor yet when it was killed.
 */
void scene_deafproof(void)
{
	struct run *holder = world_add(0, 20 * US), *front = world_add(about(100 * US, 20 * US), 0),
		   *second = world_add(about(140 * US, 20 * US), 0);

	holder->behaviour = LEAVES;
	front->replaces = second->replaces = true;
	world_call(holder, 1024);
	world_call(front, 1024);
	world_call(second, 1024);
	world_call(world_add(about(700 * US, 100 * US), 0), 1024);
	fault_at(about(1 * MS, 5 * MS), front, false, 0);
}

/*
 * Of the three at the front of a line all are stopped, the last of them some seconds after the others:
 * by then it has passed them over, and made others its successors.
 */
void scene_stopthree(void)
{
	struct run *line[8];
	const int last = 1 + (int)rnd(2);

	world_call(world_add(0, about(8 * S, 100 * MS)), 1024);
	for (int i = 0; i < 6; i++) {
		line[i] = world_add(about((i + 1) * 20 * MS, 5 * MS), 20 * MS);
		world_call(line[i], 1024);
	}
	for (int i = 0; i < 3; i++) {
		const int64_t when = about((i == last ? 5 : 1) * S, 50 * MS);

		fault_at(when, line[i], true, 100 * S - when); /* all resume at once */
	}
}

/*
 * The front is stopped, so that all newcomers stay in its queue, and killed in the instant in which
 * its only successor gives up: the successor saw that nobody was ahead, but did not lead the queue
 * yet. So it handed the queue to nobody, and all joined again, in any order.
 */
void scene_lastsuccessor(void)
{
	struct run *front, *successor;

	world_call(world_add(0, about(1000 * MS, 100 * MS)), 1024);
	front = world_add(20 * MS, 0);
	world_call(front, 1024);
	successor = world_add(40 * MS, 0);
	successor->limit = 300 * MS;
	world_call(successor, 1024);
	for (int i = 0; i < 6; i++)
		world_call(world_add(about(150 * MS + i * 20 * MS, 10 * MS), 10 * MS), 1024);
	fault_at(100 * MS, front, true, 2000 * MS);
	fault_at(about(340 * MS, 80 * US), front, false, 0);
}

/*
 * A command asks for its own lock, and is refused before it has left the line: while it closes its
 * connection it is given the queue, as the only successor. Those who came before it had closed the
 * queue as well joined again, in any order.
 */
void scene_closing(void)
{
	struct run *outer = world_add(0, about(300 * US, 200 * US));

	world_nest(outer, 'L', false);
	world_call(outer, 1024);
	for (int i = 0; i < 5; i++)
		world_call(world_add(about(30 * US, 200 * US), 20 * US), 1024);
}

/*
 * A successor is stopped as it becomes the front, between its look whether it was passed over and
 * the call by which it leads the queue. When it resumes it leads, and the one that has passed it
 * over meanwhile joined again, as the last.
 */
void scene_stoplisten(void)
{
	struct run *successor;

	world_call(world_add(0, 300 * US), 1024);
	world_call(world_add(20 * US, 2500 * MS), 1024);
	successor = world_add(60 * US, 20 * US);
	world_call(successor, 1024);
	world_call(world_add(120 * US, 20 * US), 1024);
	for (int i = 0; i < 2; i++)
		world_call(world_add(about((400 + i * 1100) * MS, 100 * MS), 20 * US), 1024);
	fault_at(about(320 * US, 160 * US), successor, true, about(1100 * MS, 600 * MS));
}

/*
 * The same, but the lock is free: the one behind the stopped waiter takes it past that one, and the
 * stopped one resumes and listens on the queue before the other has left the line. Then nobody gave
 * the queue to those who joined just then, and they joined again, in any order.
 */
void scene_stoptaker(void)
{
	const int64_t stopped = about(110 * US, 60 * US), taken = 1200140 * US;
	struct run *successor;

	world_call(world_add(0, 30 * MS), 1024);
	successor = world_add(about(10 * US, 10 * US), 20 * US);
	world_call(successor, 1024);
	world_call(world_add(about(20 * US, 20 * US), 20 * US), 1024);
	for (int i = 0; i < 3; i++)
		world_call(world_add(taken + about(0, 50 * US), 20 * US), 1024);
	fault_at(stopped, successor, true, taken + about(10 * US, 60 * US) - stopped);
}

/*
 * The second in line is stopped for long: the front dismisses it while it waits, so that the third
 * follows the front at once.
 */
void scene_stopsecond(void)
{
	struct run *second;

	world_call(world_add(0, about(2500 * MS, 200 * MS)), 1024);
	world_call(world_add(about(20 * MS, 10 * MS), 20 * MS), 1024);
	second = world_add(about(60 * MS, 10 * MS), 20 * MS);
	world_call(second, 1024);
	for (int i = 0; i < 3; i++)
		world_call(world_add(about((100 + i * 40) * MS, 10 * MS), 20 * MS), 1024);
	fault_at(about(300 * MS, 100 * MS), second, true, 60 * S);
}

/*
 * Somebody asks who holds the lock, before Linux 6.5, where only the table of sockets proves it. That
 * comes in pieces, and when sockets are closed between two of them others are left out: the lock was
 * said to be free, or its me-only was named instead of the command.
 */
void scene_leftout(void)
{
	K.peerpidfd = 0;
	K.no_diag = false;
	for (int i = 0; i < 2; i++)
		closer_start(about(100 * US, 600 * US));
	world_call(world_add(20 * US, 500 * MS), 1024);
	askers_start();
}
