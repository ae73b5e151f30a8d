/*
 * The command of a storm: enters its place of the witness (storm-memory.h), stays there, and leaves
 * it.
 *
 * usage: storm-job LOCK MICROSECONDS [child] [look ADDRESS]
 *
 * Whoever finds somebody else in there writes that down, and ends with STORM_OVERLAP. "child": a
 * child stays for as long again, with the lock that it has inherited. "look": the job tries whether
 * its lock, the abstract socket name ADDRESS, is taken.
 */
#include <errno.h>
#include <linux/futex.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "storm-memory.h"

static struct storm_memory *memory;
static unsigned lock, slot;
static struct storm_place *place;

static void record(enum storm_kind kind, uint32_t other)
{
	uint32_t n = __atomic_fetch_add(&memory->violations, 1, __ATOMIC_SEQ_CST);

	if (n < STORM_RECORDS)
		memory->records[n] =
		    (struct storm_record){ kind, lock, slot, (uint32_t)getpid(), other };
	_exit(STORM_OVERLAP);
}

static void enter(void)
{
	/* The kernel looks at what is pending when the process ends. */
	static struct robust_list_head robust;
	uint32_t own = (uint32_t)getpid(), before = __atomic_load_n(&place->word, __ATOMIC_SEQ_CST);

	robust.list.next = &robust.list;
	robust.list_op_pending = (struct robust_list *)&place->word;
	/* Not known yet: otherwise the run of the one before would count as harmed in place of ours. */
	__atomic_store_n(&place->parent, 0, __ATOMIC_SEQ_CST);
	if (syscall(SYS_set_robust_list, &robust, sizeof robust))
		_exit(STORM_ERROR);
	if (before && !(before & FUTEX_OWNER_DIED))
		record(STORM_BESIDE, before);
	if (!__atomic_compare_exchange_n(&place->word, &before, own, 0, __ATOMIC_SEQ_CST,
					 __ATOMIC_SEQ_CST))
		record(STORM_BESIDE, before);
	__atomic_store_n(&place->parent, (uint32_t)getppid(), __ATOMIC_SEQ_CST);
	place->entered++;
}

static void leave(void)
{
	uint32_t own = (uint32_t)getpid();

	if (!__atomic_compare_exchange_n(&place->word, &own, 0, 0, __ATOMIC_SEQ_CST,
					 __ATOMIC_SEQ_CST))
		record(STORM_BESIDE, own);
}

static void stay(long us)
{
	if (us > 0)
		nanosleep(&(struct timespec){ us / 1000000, us % 1000000 * 1000 }, NULL);
}

/* Binding tells: if nobody has the name, it is ours for an instant. */
static void look(const char *name)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	size_t length = strlen(name);
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return; /* the smallest limits */
	memcpy(address.sun_path + 1, name, length);
	if (bind(fd, (struct sockaddr *)&address,
		 (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + length)) == 0)
		record(STORM_NO_LOCK, 0);
	close(fd);
}

int main(int argc, char **argv)
{
	const char *number = getenv("ME_ONLY_SLOT");
	long us;
	int at = 3;

	memory = argc < 3
		     ? MAP_FAILED
		     : mmap(NULL, sizeof *memory, PROT_READ | PROT_WRITE, MAP_SHARED, STORM_FD, 0);
	if (memory == MAP_FAILED)
		return STORM_ERROR;
	lock = (unsigned)atoi(argv[1]);
	us = atol(argv[2]);
	slot = number ? (unsigned)atoi(number) : 0;
	if (slot >= memory->slots[lock])
		record(STORM_NO_SLOT, 0);
	place = &memory->places[lock][slot];
	enter();
	stay(us);
	if (argc > at + 1 && strcmp(argv[argc - 2], "look") == 0)
		look(argv[argc - 1]);
	leave();
	if (argc > at && strcmp(argv[at], "child") == 0 && fork() == 0) {
		enter();
		stay(us);
		leave();
	}
	return 0;
}
