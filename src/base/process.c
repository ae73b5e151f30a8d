#include "base/process.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/deadline.h"
#include "base/lines.h"
#include "base/number.h"
#include "base/statx.h"

/* At most this many ancestors of a process are looked at. */
#define DEEPEST 10000

#define PF_EXITING 0x4 /* the kernel's, in /proc/PID/stat: it has begun to give up what it has */

int file_status(int directory, const char *path, struct statx *status)
{
	/*
	 * The raw call: libc's stat() has to translate the result. AT_EMPTY_PATH changes nothing
	 * for other paths.
	 */
	return syscall(SYS_statx, directory, path, AT_EMPTY_PATH, STATX_BASIC_STATS, status)
		       ? -errno
		       : 0;
}

bool file_is(const struct statx *status, const struct file_id *file)
{
	return status->stx_ino == file->inode && status->stx_dev_major == file->major &&
	       status->stx_dev_minor == file->minor;
}

const char *process_path(char path[PROCESS_PATH_SIZE], pid_t pid, const char *file)
{
	ssize_t n = readlink("/proc/self", path, PROCESS_PATH_SIZE - 1);
	char *out;

	path[n < 0 ? 0 : n] = 0;
	if (number_at(path, 10, NULL) != (uint64_t)getpid())
		return "/proc/-";
	out = number_format((uint64_t)pid, stpcpy(path, "/proc/"));
	*out++ = '/';
	strcpy(out, file);
	return path;
}

/* Reads at most SIZE bytes of /proc/PID/FILE. Returns how many, or a negative errno. */
static ssize_t read_file(pid_t pid, const char *file, char *bytes, size_t size)
{
	char path[PROCESS_PATH_SIZE];
	int fd = open(process_path(path, pid, file), O_RDONLY | O_CLOEXEC);
	ssize_t n, r;

	if (fd < 0)
		return -errno;
	for (n = 0; (size_t)n < size; n += r) {
		r = read(fd, bytes + n, size - (size_t)n);
		if (r <= 0)
			break;
	}
	r = errno;
	close(fd);
	return n > 0 ? n : -r;
}

/* Field N of /proc/PID/stat (3 is the state, which stands first in TEXT); "" if there is none. */
static const char *stat_field(const char *text, int n)
{
	for (; n > 3 && *text; n--) {
		text += strcspn(text, " ");
		text += strspn(text, " ");
	}
	return text;
}

int process_read(pid_t pid, struct process *process)
{
	char text[1024];
	const char *fields;
	ssize_t n = read_file(pid, "stat", text, sizeof text - 1);

	if (n < 0)
		return (int)n;
	text[n] = 0;
	/* The name before the fields may contain anything, even parentheses. */
	fields = strrchr(text, ')');
	if (!fields || fields[1] != ' ')
		return -EIO;
	fields += 2;
	process->state = *fields;
	/* Its first thread has ended, others run: it lives. */
	process->headless = *fields == 'Z' && number_at(stat_field(fields, 20), 10, NULL) > 1;
	if (process->headless)
		process->state = 'S';
	process->parent = (pid_t)number_at(stat_field(fields, 4), 10, NULL);
	process->exiting = number_at(stat_field(fields, 9), 10, NULL) & PF_EXITING;
	process->start = (int64_t)(number_at(stat_field(fields, 22), 10, NULL) *
				   (uint64_t)(NS_PER_S / (int64_t)getauxval(AT_CLKTCK)));
	process->age = clock_now(CLOCK_BOOTTIME) - process->start;
	return 0;
}

bool process_is_stopped(pid_t pid)
{
	struct process process;

	return pid > 0 && process_read(pid, &process) == 0 && process.state == 'T';
}

bool process_descends(pid_t pid, pid_t ancestor)
{
	struct process process;

	for (int depth = 0; ancestor > 0 && pid > 0 && depth < DEEPEST; depth++) {
		if (pid == ancestor)
			return true;
		if (process_read(pid, &process))
			break;
		pid = process.parent;
	}
	/* This much is known without /proc. */
	return ancestor > 0 && pid == getpid() && ancestor == getppid();
}

/* The numeric names in a directory of /proc, without opendir(3), which would bring malloc in. */
struct numbers {
	int fd;
	long at, end;
	_Alignas(uint64_t) char entries[2048];
};

/* As the kernel writes it; 64-bit inode numbers on every machine. */
struct kernel_dirent {
	uint64_t inode;
	int64_t offset;
	unsigned short length;
	unsigned char type;
	char name[];
};

static int numbers_open(struct numbers *numbers, const char *path)
{
	numbers->at = numbers->end = 0;
	numbers->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return numbers->fd < 0 ? -errno : 0;
}

/* The next number, or -1 at the end. */
static int64_t numbers_next(struct numbers *numbers)
{
	for (;;) {
		const struct kernel_dirent *entry;
		const char *end;
		uint64_t n;

		if (numbers->at >= numbers->end) {
			numbers->at = 0;
			numbers->end = syscall(SYS_getdents64, numbers->fd, numbers->entries,
					       sizeof numbers->entries);
			if (numbers->end <= 0)
				return -1;
		}
		entry = (const struct kernel_dirent *)(numbers->entries + numbers->at);
		numbers->at += entry->length;
		n = number_at(entry->name, 10, &end);
		if (end > entry->name && *end == 0)
			return (int64_t)n;
	}
}

/*
 * Once the first thread of a process has ended, /proc shows what all its threads share only under
 * the number of one that runs. Returns that number; 0 if PID itself is right.
 */
static pid_t other_thread(pid_t pid)
{
	char path[PROCESS_PATH_SIZE];
	struct process process;
	struct numbers threads;
	int64_t thread;

	if (process_read(pid, &process) || !process.headless ||
	    numbers_open(&threads, process_path(path, pid, "task")))
		return 0;
	while ((thread = numbers_next(&threads)) == pid)
		;
	close(threads.fd);
	return thread > 0 ? (pid_t)thread : 0;
}

/* Whether a descriptor of PID is shown as the LENGTH bytes WANTED. *NONE: it shows none at all. */
static bool shows_descriptor(pid_t pid, const char *wanted, size_t length, bool *none)
{
	char path[PROCESS_PATH_SIZE], seen[PROCESS_PATH_SIZE];
	struct numbers fds;
	bool found = false;
	int64_t fd;

	if (numbers_open(&fds, process_path(path, pid, "fd")))
		return false;
	*none = true;
	while (!found && (fd = numbers_next(&fds)) >= 0) {
		*none = false;
		number_format((uint64_t)fd, path);
		found = readlinkat(fds.fd, path, seen, sizeof seen) == (ssize_t)length &&
			!memcmp(seen, wanted, length);
	}
	close(fds.fd);
	return found;
}

/* Whether PID has a descriptor that /proc shows as KIND, which ends in "[", INODE and "]". */
static bool has_descriptor(pid_t pid, const char *kind, uint64_t inode)
{
	char wanted[PROCESS_PATH_SIZE];
	size_t length = (size_t)(stpcpy(number_format(inode, stpcpy(wanted, kind)), "]") - wanted);
	bool none = false;

	if (shows_descriptor(pid, wanted, length, &none))
		return true;
	pid = none ? other_thread(pid) : 0;
	return pid && shows_descriptor(pid, wanted, length, &none);
}

bool process_own_descriptors(void (*visit)(int fd, void *argument), void *argument)
{
	struct numbers fds;
	int64_t fd;

	if (numbers_open(&fds, "/proc/self/fd"))
		return false;
	while ((fd = numbers_next(&fds)) >= 0)
		if (fd != fds.fd)
			visit((int)fd, argument);
	close(fds.fd);
	return fds.end == 0;
}

bool process_has_socket(pid_t pid, uint32_t inode)
{
	return has_descriptor(pid, "socket:[", inode);
}

bool process_has_pipe(pid_t pid, uint64_t inode)
{
	return has_descriptor(pid, "pipe:[", inode);
}

static const char *me_only = "/proc/self/exe";

void process_set_me_only(const char *path)
{
	me_only = path;
}

bool process_is_me_only(pid_t pid)
{
	char path[PROCESS_PATH_SIZE];
	struct statx own, other;

	return file_status(AT_FDCWD, me_only, &own) == 0 &&
	       file_status(AT_FDCWD, process_path(path, pid, "exe"), &other) == 0 &&
	       file_is(&other,
		       &(struct file_id){ own.stx_dev_major, own.stx_dev_minor, own.stx_ino, 0 });
}

int process_pidfd(pid_t pid)
{
	int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);

	return pidfd < 0 ? -errno : pidfd;
}

uint64_t process_pidfd_number(pid_t pid)
{
	struct statx status = { 0 };
	int fd = process_pidfd(pid);

	if (fd >= 0) {
		if (file_status(fd, "", &status))
			status.stx_ino = 0;
		close(fd);
	}
	return status.stx_ino;
}

bool process_seems_me_only(pid_t pid)
{
	static const char own[] = "me-only";
	char name[32];

	name[process_command(pid, false, name, sizeof name - 1)] = 0;
	return process_is_me_only(pid) ||
	       (!strncmp(name, own, sizeof own - 1) && strchr(" ", name[sizeof own - 1]));
}

void process_walk(bool (*visit)(pid_t pid, void *argument), void *argument)
{
	struct numbers pids;
	int64_t pid;

	if (numbers_open(&pids, "/proc"))
		return;
	while ((pid = numbers_next(&pids)) > 0 && (pid == getpid() || visit((pid_t)pid, argument)))
		;
	close(pids.fd);
}

struct search {
	bool (*has)(pid_t pid, const void *argument);
	const void *argument;
	bool own_kind;
	pid_t found;
};

static bool look_at(pid_t pid, void *argument)
{
	struct search *search = argument;

	if (!search->has(pid, search->argument))
		return true;
	search->found = pid;
	search->own_kind = process_is_me_only(pid);
	return search->own_kind;
}

pid_t process_find(bool (*has)(pid_t pid, const void *argument), const void *argument,
		   bool *own_kind)
{
	struct search search = { .has = has, .argument = argument };

	process_walk(look_at, &search);
	*own_kind = search.own_kind;
	return search.found;
}

static bool has_socket(pid_t pid, const void *argument)
{
	return process_has_socket(pid, *(const uint32_t *)argument);
}

pid_t process_find_socket(uint32_t inode, bool *own_kind)
{
	return process_find(has_socket, &inode, own_kind);
}

bool process_is_keeper(pid_t pid)
{
	static const char keeper[] = KEEPER_NAME;
	char name[64];

	return process_command(pid, false, name, sizeof name) == sizeof keeper - 1 &&
	       !memcmp(name, keeper, sizeof keeper - 1);
}

/* Opens the description in /proc of the descriptor FD of PID. */
static void open_fdinfo(struct lines *lines, pid_t pid, uint64_t fd)
{
	static const char before[] = "fdinfo/";
	char path[PROCESS_PATH_SIZE], file[sizeof before + NUMBER_TEXT_SIZE];

	number_format(fd, stpcpy(file, before));
	lines_open(lines, AT_FDCWD, process_path(path, pid, file));
}

bool process_pidfd_exits(int pidfd)
{
	struct process process;
	struct lines lines;
	pid_t pid = 0;
	char *line;

	open_fdinfo(&lines, getpid(), (uint64_t)pidfd);
	while ((line = lines_next(&lines)))
		if (!strcmp(next_word(&line), "Pid:"))
			pid = (pid_t)number_at(next_word(&line), 10, NULL);
	lines_close(&lines);
	return pid > 0 && process_read(pid, &process) == 0 && process.exiting;
}

/*
 * The process that took the flock(2) of the open file description behind PID's descriptor FD; -1:
 * it has none.
 */
static pid_t flock_taker(pid_t pid, uint64_t fd)
{
	struct lines lines;
	pid_t taker = -1;
	char *line;

	open_fdinfo(&lines, pid, fd);
	/* "lock:	1: FLOCK  ADVISORY  WRITE 4242 fe:00:131 0 EOF" */
	while (taker < 0 && (line = lines_next(&lines))) {
		if (strcmp(next_word(&line), "lock:") != 0)
			continue;
		next_word(&line);
		if (strcmp(next_word(&line), "FLOCK") != 0)
			continue;
		next_word(&line);
		next_word(&line);
		taker = (pid_t)number_at(next_word(&line), 10, NULL);
	}
	lines_close(&lines);
	return taker;
}

/* Whether TEST is true of one of PID's descriptors that are FILE. */
static bool find_file(pid_t pid, const struct file_id *file,
		      bool (*test)(pid_t pid, uint64_t fd, void *argument), void *argument)
{
	char path[PROCESS_PATH_SIZE];
	struct statx status;
	struct numbers fds;
	bool found = false;
	int64_t fd;

	if (numbers_open(&fds, process_path(path, pid, "fd")))
		return false;
	while (!found && (fd = numbers_next(&fds)) >= 0) {
		number_format((uint64_t)fd, path);
		found = file_status(fds.fd, path, &status) == 0 && file_is(&status, file) &&
			test(pid, (uint64_t)fd, argument);
	}
	close(fds.fd);
	return found;
}

static bool is_any(pid_t pid, uint64_t fd, void *argument)
{
	(void)pid, (void)fd, (void)argument;
	return true;
}

bool process_has_file(pid_t pid, const struct file_id *file)
{
	return find_file(pid, file, is_any, NULL);
}

struct takers {
	bool (*test)(pid_t taker, void *argument);
	void *argument;
};

static bool has_taker(pid_t pid, uint64_t fd, void *argument)
{
	const struct takers *takers = argument;
	pid_t taker = flock_taker(pid, fd);

	return taker >= 0 && takers->test(taker, takers->argument);
}

bool process_find_flock(pid_t pid, const struct file_id *file,
			bool (*test)(pid_t taker, void *argument), void *argument)
{
	return find_file(pid, file, has_taker, &(struct takers){ test, argument });
}

static bool is_first(pid_t taker, void *argument)
{
	*(pid_t *)argument = taker;
	return true;
}

pid_t process_flock_taker(pid_t pid, const struct file_id *file)
{
	pid_t taker = -1;

	process_find_flock(pid, file, is_first, &taker);
	return taker;
}

bool process_has_flock(pid_t pid, const struct file_id *file)
{
	return process_flock_taker(pid, file) >= 0;
}

pid_t process_own_flock_taker(int fd, const struct file_id *file)
{
	struct statx status;

	return file_status(fd, "", &status) == 0 && file_is(&status, file)
		       ? flock_taker(getpid(), (uint64_t)fd)
		       : -1;
}

pid_t process_kept_by(pid_t pid)
{
	char path[PROCESS_PATH_SIZE];
	struct process process;
	struct numbers fds;
	pid_t found = 0;
	int64_t fd;

	if (process_read(pid, &process) || numbers_open(&fds, process_path(path, pid, "fd")))
		return 0;
	while (!found && (fd = numbers_next(&fds)) >= 0) {
		struct lines lines;
		char *line;

		open_fdinfo(&lines, pid, (uint64_t)fd);
		/* "Pid:	4242", or "-1" when it has ended. */
		while ((line = lines_next(&lines)))
			if (!strcmp(next_word(&line), "Pid:"))
				found = (pid_t)number_at(next_word(&line), 10, NULL);
		/* These are there to tell when me-only has ended. */
		if (found == pid || found == process.parent)
			found = 0;
		lines_close(&lines);
	}
	close(fds.fd);
	return found;
}

bool process_has_variable(pid_t pid, const char *entry, bool whole)
{
	char path[PROCESS_PATH_SIZE], bytes[4096];
	const size_t length = strlen(entry) + whole;
	size_t same = 0; /* how many bytes before AT match ENTRY; length + 1: they are another
			    variable's */
	int fd = open(process_path(path, pid, "environ"), O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, bytes, sizeof bytes);
	const pid_t thread = n <= 0 ? other_thread(pid) : 0;
	bool found = false;

	if (thread) {
		if (fd >= 0)
			close(fd);
		fd = open(process_path(path, thread, "environ"), O_RDONLY | O_CLOEXEC);
		n = fd < 0 ? -1 : read(fd, bytes, sizeof bytes);
	}
	for (; n > 0 && !found; n = read(fd, bytes, sizeof bytes))
		for (const char *at = bytes; !found && at < bytes + n; at++) {
			same = same < length && *at == entry[same] ? same + 1
			       : *at				   ? length + 1
								   : 0;
			found = same == length;
		}
	if (fd >= 0)
		close(fd);
	return found;
}

int process_user(pid_t pid, uid_t *uid)
{
	char path[PROCESS_PATH_SIZE];
	struct statx status;
	int r = file_status(AT_FDCWD, process_path(path, pid, "."), &status);

	if (r == 0)
		*uid = status.stx_uid;
	return r;
}

size_t process_command(pid_t pid, bool whole, char *text, size_t size)
{
	ssize_t n = whole ? read_file(pid, "cmdline", text, size) : 0;

	if (n <= 0) {
		n = read_file(pid, "comm", text, size);
		return n <= 0 ? 0 : (size_t)n - (text[n - 1] == '\n');
	}
	while (n > 0 && text[n - 1] == 0)
		n--;
	for (ssize_t i = 0; i < n; i++)
		if (text[i] == 0)
			text[i] = ' ';
	return (size_t)n;
}
