/*
 * /proc as me-only reads it: fs/proc/base.c, array.c and fd.c. A file's text is made when it is
 * first read, which is when the real kernel makes it; a directory is read one entry at a time, so
 * that processes and descriptors come and go meanwhile.
 */
#include "procfs.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/stat.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "calls.h"
#include "hooks.h"
#include "pool.h"
#include "world.h"

#define TICKS INT64_C(100) /* AT_CLKTCK: the start of a process is counted in 1/100 s */
#define MOST_TEXT 2048
#define LOCK_PATH "/l" /* the one file that there is */

enum subject {
	SUBJECT_STAT,
	SUBJECT_COMM,
	SUBJECT_COMMAND_LINE,
	SUBJECT_ENVIRONMENT,
	SUBJECT_FDINFO,
	SUBJECT_FDS,
	SUBJECT_PROCESSES,
	SUBJECT_UID_MAP,
	SUBJECT_LOCKS
};

struct text {
	struct text *next;
	enum subject subject;
	struct proc *proc;
	int fd, length;
	char bytes[MOST_TEXT];
};

POOL(text, 256, offsetof(struct text, bytes))

int __wrap_open(const char *path, int flags, ...);
int __wrap_openat(int dir, const char *path, int flags, ...);
int __wrap_access(const char *path, int mode);
int __wrap_stat(const char *path, void *status);
ssize_t __wrap_readlink(const char *path, char *out, size_t n);
ssize_t __wrap_readlinkat(int dir, const char *path, char *out, size_t n);

void k_texts_reset(void)
{
	pool_reset_text();
}

void k_text_put(struct text *text)
{
	pool_give_text(text);
}

/* --- names --- */

static const struct {
	const char *name;
	enum subject subject;
} names[] = {
	{ "stat", SUBJECT_STAT },
	{ "comm", SUBJECT_COMM },
	{ "cmdline", SUBJECT_COMMAND_LINE },
	{ "environ", SUBJECT_ENVIRONMENT },
	{ "fd", SUBJECT_FDS },
};

/* The process that PATH is about, and in REST what of it; NULL: there is no such process any more,
 * or the path is another. */
static struct proc *find_proc(const char *path, const char **rest)
{
	int pid = 0, used = 0;
	struct proc *p;

	if (!strncmp(path, "/proc/self/", 11)) {
		*rest = path + 11;
		return me();
	}
	if (sscanf(path, "/proc/%d/%n", &pid, &used) != 1 || !used)
		return NULL;
	*rest = path + used;
	p = k_proc(pid);
	return p;
}

/* Returns 0 or a negative errno. */
static int find_subject(const char *path, struct text *text)
{
	const char *rest;

	if (!strcmp(path, "/proc")) {
		text->subject = SUBJECT_PROCESSES;
		return 0;
	}
	if (!strcmp(path, "/proc/locks")) {
		text->subject = SUBJECT_LOCKS;
		return 0;
	}
	text->proc = find_proc(path, &rest);
	if (!text->proc)
		return -ENOENT;
	if (!strcmp(rest, "uid_map")) {
		text->subject = SUBJECT_UID_MAP;
		return 0;
	}
	if (sscanf(rest, "fdinfo/%d", &text->fd) == 1) {
		text->subject = SUBJECT_FDINFO;
		return text->fd < MOST_FDS && text->proc->files->file[text->fd] ? 0 : -ENOENT;
	}
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (!strcmp(rest, names[i].name)) {
			text->subject = names[i].subject;
			return 0;
		}
	return -ENOENT;
}

/* Who may look at the descriptors and the environment of P (ptrace_may_access()). */
static bool may_look(const struct proc *p)
{
	return me()->uid == 0 || me()->uid == p->uid;
}

/* fs/open.c, of the lock's own file. */
static int open_lock(int flags)
{
	struct inode *inode;
	struct file *file;

	enter();
	inode = k_inode();
	if (inode && (flags & O_CREAT) && (flags & O_EXCL))
		return -EEXIST;
	if (!inode && (flags & O_CREAT))
		inode = k_inode_make(me()->uid);
	TRACE("open(%s%s) = inode %d", LOCK_PATH, flags & O_CREAT ? ", O_CREAT" : "",
	      inode ? (int)inode->number : -ENOENT);
	if (!inode)
		return -ENOENT;
	file = k_file_new(FILE_REGULAR);
	file->inode = inode;
	return k_install_new(file, true);
}

int __wrap_open(const char *path, int flags, ...)
{
	struct text found = { 0 };
	struct file *file;
	int r;

	if (!strcmp(path, "/"))
		return (int)result(k_install_new(k_file_new(FILE_NULL), flags & O_CLOEXEC));
	if (!strcmp(path, LOCK_PATH))
		return (int)result(open_lock(flags));
	r = find_subject(path, &found);
	if (r == 0 &&
	    (found.subject == SUBJECT_FDS || found.subject == SUBJECT_ENVIRONMENT ||
	     found.subject == SUBJECT_FDINFO) &&
	    !may_look(found.proc))
		r = -EACCES;
	if (r)
		return (int)result(r);
	file = k_file_new(FILE_TEXT);
	file->text = pool_take_text();
	file->text->subject = found.subject;
	file->text->proc = found.proc;
	file->text->fd = found.fd;
	file->text->length = -1;
	return (int)result(k_install_new(file, true));
}

int __wrap_openat(int dir, const char *path, int flags, ...)
{
	if (dir != AT_FDCWD)
		not_simulated("openat", dir);
	return __wrap_open(path, flags);
}

int __wrap_access(const char *path, int mode)
{
	const char *rest;
	struct proc *p = find_proc(path, &rest);

	(void)mode;
	return (int)result(!p ? -ENOENT : may_look(p) ? 0 : -EACCES);
}

int __wrap_stat(const char *path, void *status)
{
	(void)path, (void)status;
	return (int)result(-ENOENT);
}

/* --- links --- */

static ssize_t put_link(char *out, size_t n, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static ssize_t put_link(char *out, size_t n, const char *format, ...)
{
	char text[128];
	va_list list;
	size_t length;

	va_start(list, format);
	length = (size_t)vsnprintf(text, sizeof text, format, list);
	va_end(list);
	length = length < n ? length : n;
	memcpy(out, text, length);
	return (ssize_t)length;
}

ssize_t __wrap_readlink(const char *path, char *out, size_t n)
{
	if (!strcmp(path, "/proc/self"))
		return put_link(out, n, "%d", me()->pid);
	if (!strcmp(path, "/proc/self/ns/pid"))
		return put_link(out, n, "pid:[4026531836]");
	return result(-ENOENT);
}

/* Of a descriptor, below /proc/PID/fd. */
ssize_t __wrap_readlinkat(int dir, const char *path, char *out, size_t n)
{
	const struct file *directory = k_file(dir), *file;
	int fd = 0;

	sscanf(path, "%d", &fd);
	file = directory->text->proc->state < PROC_EXITING && fd < MOST_FDS
		       ? directory->text->proc->files->file[fd]
		       : NULL;
	if (!file)
		return result(-ENOENT);
	if (file->kind == FILE_SOCKET)
		return put_link(out, n, "socket:[%u]", file->sock->inode);
	return put_link(out, n, "anon_inode:[other]");
}

static void put_file(struct statx *out, const struct file *file)
{
	out->stx_dev_minor = file->kind == FILE_REGULAR ? 5 : 9;
	out->stx_mode = S_IFREG | 0666;
	out->stx_ino = file->kind == FILE_REGULAR ? file->inode->number : 1;
	out->stx_uid = file->kind == FILE_REGULAR ? file->inode->uid : 0;
}

/* Of a descriptor, of one of another process, of the lock's file or the directory that it is in.
 * Returns 0, -ENOENT, or 1: it is none of these. */
static int status_of_file(int dir, const char *path, struct statx *out)
{
	const struct file *file = k_file(dir);

	memset(out, 0, sizeof *out);
	if (!strcmp(path, "/.")) {
		out->stx_mode = S_IFDIR | 0755;
		return 0;
	}
	if (!strcmp(path, LOCK_PATH)) {
		enter();
		if (k_inode())
			put_file(out, &(struct file){ .kind = FILE_REGULAR, .inode = k_inode() });
		return k_inode() ? 0 : -ENOENT;
	}
	if (file && file->kind == FILE_TEXT && *path >= '0' && *path <= '9') {
		const struct proc *p = file->text->proc;
		int fd = atoi(path);

		file = p->state < PROC_EXITING && fd < p->files->end ? p->files->file[fd] : NULL;
	} else if (*path) {
		return 1;
	}
	if (file)
		put_file(out, file);
	return file ? 0 : -ENOENT;
}

/* Nothing but which program a process runs, and whose it is, is asked for. */
long procfs_statx(int dir, const char *path, void *status)
{
	struct statx *out = status;
	const char *rest;
	const struct proc *p;
	int r = status_of_file(dir, path, out);

	if (r <= 0)
		return r;
	p = find_proc(path, &rest);
	if (!p)
		return -ENOENT;
	memset(out, 0, sizeof *out);
	out->stx_uid = p->uid;
	if (!strcmp(rest, ".") || p->state > PROC_EXITING)
		return strcmp(rest, ".") ? -ENOENT : 0;
	if (strcmp(rest, "exe") != 0)
		not_simulated("statx", 0);
	if (!may_look(p))
		return -EACCES;
	out->stx_ino = p->program;
	return 0;
}

/* --- texts --- */

/* fs/proc/array.c: a parent in vfork() is in uninterruptible sleep, and so is whoever is inside
 * another call; neither looks stopped. */
static char state_of(const struct proc *p)
{
	if (p->state == PROC_ZOMBIE)
		return 'Z';
	return p->stopped && !p->in_vfork && !(p->task && p->task->in_kernel) ? 'T' : 'S';
}

static int make_stat(char *out, const struct proc *p)
{
	TRACE("/proc/%s/stat: %c", p->name, state_of(p));
	return snprintf(out, MOST_TEXT,
			"%d (%s) %c %d %d %d 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 %lld 0", p->pid,
			p->comm, state_of(p), p->parent, p->group, p->session,
			(long long)(p->born / (S / TICKS)));
}

static int make_command_line(char *out, const struct proc *p)
{
	int length = 0;

	for (int i = 0; p->run && p->state < PROC_ZOMBIE && i < p->run->argc; i++)
		length += snprintf(out + length, (size_t)(MOST_TEXT - length), "%s",
				   p->run->argv[i]) +
			  1;
	return length;
}

/* The lock of this very open file. */
static int show_lock(char *out, const struct file *file)
{
	return snprintf(out, MOST_TEXT,
			"pos:\t0\nlock:\t1: FLOCK  ADVISORY  %s %d 00:05:%llu 0 EOF\n",
			file->flock == LOCK_EX ? "WRITE" : "READ ", file->flock_pid,
			(unsigned long long)file->inode->number);
}

/* fs/proc/fd.c: of a pidfd the number, -1 once the process was reaped. */
static int make_fdinfo(char *out, const struct proc *p, int fd)
{
	const struct file *file = p->state < PROC_EXITING ? p->files->file[fd] : NULL;

	if (!file)
		return 0;
	if (file->kind == FILE_PIDFD)
		return snprintf(out, MOST_TEXT, "pos:\t0\nPid:\t%d\n",
				file->proc->state == PROC_GONE ? -1 : file->proc->pid);
	if (file->kind == FILE_REGULAR && file->flock)
		return show_lock(out, file);
	return snprintf(out, MOST_TEXT, "pos:\t0\n");
}

/* Returns the length, or -ESRCH if the process is gone by now. */
static int make_text(struct text *text)
{
	const struct proc *p = text->proc;
	char *out = text->bytes;

	if (text->subject == SUBJECT_LOCKS)
		return k_flock_show(out, MOST_TEXT);
	if (p->state == PROC_GONE)
		return -ESRCH;
	switch (text->subject) {
	case SUBJECT_STAT: return make_stat(out, p);
	case SUBJECT_COMM: return snprintf(out, MOST_TEXT, "%s\n", p->comm);
	case SUBJECT_COMMAND_LINE: return make_command_line(out, p);
	case SUBJECT_ENVIRONMENT: /* gone with the memory, when the process begins to end */
		return p->state < PROC_EXITING && *p->variables
			       ? snprintf(out, MOST_TEXT, "%s", p->variables) + 1
			       : 0;
	case SUBJECT_FDINFO: return make_fdinfo(out, p, text->fd);
	case SUBJECT_UID_MAP: return snprintf(out, MOST_TEXT, "         0          0 4294967295\n");
	default: return -EISDIR;
	}
}

ssize_t procfs_read(struct file *file, void *data, size_t n)
{
	struct text *text = file->text;
	size_t left;

	if (text->length < 0) {
		int length = make_text(text);

		if (length < 0)
			return length;
		text->length = length;
	}
	left = (size_t)(text->length - file->cursor);
	n = n < left ? n : left;
	memcpy(data, text->bytes + file->cursor, n);
	file->cursor += (int)n;
	return (ssize_t)n;
}

/* --- directories --- */

struct entry {
	uint64_t inode;
	int64_t offset;
	unsigned short length;
	unsigned char type;
	char name[21];
};

/* The next process from the number AFTER on, in the order of the numbers, or -1. */
static int next_process(int after)
{
	int next = -1;

	for_each_proc(p)
		if (p->state != PROC_GONE && p->pid > after && (next < 0 || p->pid < next))
			next = p->pid;
	return next;
}

static int next_descriptor(const struct proc *p, int after)
{
	for (int fd = after + 1; p->state < PROC_EXITING && fd < p->files->end; fd++)
		if (p->files->file[fd])
			return fd;
	return -1;
}

/* The cursor is one above what was told last. */
long procfs_getdents(int fd, void *entries, size_t size)
{
	struct file *file = k_file(fd);
	struct entry *entry = entries;
	int next;

	if (size < sizeof *entry)
		return -EINVAL;
	enter();
	next = file->text->subject == SUBJECT_PROCESSES
		       ? next_process(file->cursor - 1)
		       : next_descriptor(file->text->proc, file->cursor - 1);
	if (next < 0)
		return 0;
	file->cursor = next + 1;
	*entry = (struct entry){ .inode = 1, .length = sizeof *entry };
	snprintf(entry->name, sizeof entry->name, "%d", next);
	return sizeof *entry;
}
