/*
 * The simulated kernel: files, AF_UNIX sockets, epoll, pipes, pidfds, processes and signals, as far
 * as me-only can tell them from the real ones. tests/simulation/README.md says what is modelled;
 * conform.c compares it with the real kernel.
 *
 * All k_ functions act for me(), the process whose turn it is, and return what the system call
 * does: a negative errno on failure.
 */
#ifndef KERNEL_H
#define KERNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define MOST_FDS 128
#define MOST_PROCS 320
#define MOST_BOUND 256
#define MOST_WATCHED 64 /* by one epoll instance */
#define MOST_PASSED 6	/* descriptors in one message */
#define MOST_DATA 240	/* bytes in one message */
#define FIRST_PID 100
#define NEVER INT64_MAX
#define US INT64_C(1000)
#define MS INT64_C(1000000)
#define S INT64_C(1000000000)
#define EPOCH (1000 * S) /* when each run begins */

struct msghdr;
struct task;
struct run;

/* The name of a socket, without its family. */
struct address {
	int length;
	char path[108];
};

enum file_kind {
	FILE_NULL,
	FILE_SOCKET,
	FILE_PIDFD,
	FILE_EPOLL,
	FILE_PIPE,
	FILE_SIGNALS,
	FILE_TABLE,
	FILE_TEXT,
	FILE_REGULAR,
	FILE_EVENT
};

/* An open file description. */
struct file {
	int refs;
	enum file_kind kind;
	bool write_end; /* FILE_PIPE */
	int cursor;	/* FILE_TABLE, FILE_TEXT: what was read so far */
	struct sock *sock;
	struct proc *proc; /* FILE_PIDFD */
	struct epoll *epoll;
	struct pipe *pipe;
	struct text *text;
	struct inode *inode;  /* FILE_REGULAR */
	int flock, flock_pid; /* LOCK_SH, LOCK_EX or 0; and who took it */
	int events;	      /* FILE_EVENT */
	struct file *next;    /* in the list of free ones */
};

/* A message, or in the queue of a listener a connection that nobody has accepted yet. */
struct message {
	struct message *next;
	struct sock *connection, *from;
	int length, files_count;
	struct file *files[MOST_PASSED];
	bool has_cred;
	struct proc *cred_proc;
	uid_t cred_uid;
	unsigned char data[MOST_DATA];
};

enum sock_state { SOCK_FRESH, SOCK_LISTENS, SOCK_CONNECTED };
enum { SHUT_RECEIVE = 1, SHUT_SEND = 2, SHUT_BOTH = 3 };

struct sock {
	int refs;
	uint32_t inode;
	uid_t uid;
	enum sock_state state;
	bool dead, is_bound, passcred;
	bool accepted, has_socket; /* it came from a listener; and somebody has called accept() */
	int shut, error;
	struct address address;
	struct sock *peer, *next;
	struct proc *peer_proc; /* SO_PEERCRED */
	uid_t peer_uid;
	struct message *head, *tail;
	const struct proc
		*looked_by; /* whether somebody is in its backlog: the last who asked, if there was nobody, and when */
	long looked_at;
	const struct proc *alone; /* of a listener: the only process that is left of those who had it */
	long alone_at;
	int64_t send_timeout;	     /* SO_SNDTIMEO, of a socket that blocks; 0: it does not */
	int queued, backlog, unread; /* UNREAD: messages of ours that the others have not read */
};

/* A file, and who waits for an flock(2) on it. */
struct inode {
	uint64_t number;
	uid_t uid;
	bool linked;
	long unlinked_step;
};

struct epoll {
	int count, start;
	struct {
		struct file *file;
		int fd;
		unsigned events;
		uint64_t data;
	} item[MOST_WATCHED];
};

struct pipe {
	int readers, writers, bytes;
};

struct fdtable {
	int refs, limit; /* LIMIT: RLIMIT_NOFILE */
	int end;	 /* above the highest descriptor that was ever open */
	struct file *file[MOST_FDS];
	bool cloexec[MOST_FDS];
};

enum proc_state { PROC_ALIVE, PROC_EXITING, PROC_ZOMBIE, PROC_GONE };
enum program { PROGRAM_OTHER = 11, PROGRAM_ME_ONLY }; /* the inode of its file */
enum role { ROLE_OTHER, ROLE_ME_ONLY, ROLE_COMMAND, ROLE_KEEPER, ROLE_CHILD };

struct proc {
	int pid, parent, index;
	uid_t uid;
	char name[12]; /* in traces: W3, W3c (its command), W3k (its keeper) */
	enum proc_state state;
	struct fdtable *files;
	uint64_t pending, blocked, ignored;
	int sender[65], code[65]; /* of pending signals */
	bool stopped, in_vfork;
	int killed; /* by this signal, and has not noticed yet; 0: not */
	int status; /* as wait(2) gives it */
	int64_t born;
	struct proc *vfork_parent; /* waits until this process executes or ends */
	struct task *task;
	struct run *run; /* the call of me-only that it belongs to; NULL: none */
	enum role role;
	enum program program;
	struct address lock; /* of a command: the name that it runs under */
	char variables[128]; /* its ME_ONLY_LOCK=, if it was started with one */
	char comm[16];	     /* PR_SET_NAME */
	int session, group;
	const struct inode *inode; /* of a command under a lock on a file */
	int flock;
	bool in_critical; /* a command, between its start and its end */
	long calls;	  /* system calls */
};

struct kernel {
	struct proc proc[MOST_PROCS];
	int procs;
	struct sock *bound[MOST_BOUND];
	int bound_count;
	uint32_t inode;
	int auto_names;
	int files, socks; /* how many there are */
	int64_t now;
	/* What differs between versions of Linux, or is left open. */
	bool exit_closes_high_first, close_range_high_first;
	int peerpidfd;		 /* SO_PEERPIDFD 0: none, before 6.5; 1: of 6.5; 2: of 6.16 */
	bool pidfd_hangs_up;	 /* once it was reaped, since 6.9 */
	bool passcred_at_accept; /* SO_PASSCRED is inherited then, before 6.16 */
	bool no_diag, no_cookie; /* CONFIG_UNIX_DIAG is off; before 5.14 */
	int somaxconn;
	bool reuses_pids; /* a number is used again as soon as it is free */
	bool has_init;	  /* the first process is process 1 of a pid namespace */
	struct proc *by_pid[MOST_PROCS + FIRST_PID];
};

extern struct kernel K;

/* All processes, in the order in which they were started; number 0 is the kernel's own. */
#define for_each_proc(p) for (struct proc *p = K.proc + 1; p < K.proc + K.procs; p++)

void k_reset(void);

/* --- kernel-files.c --- */
struct file *k_file_new(enum file_kind kind);
void k_file_put(struct file *file);
int k_install(struct file *file, int least, bool cloexec);
int k_install_new(struct file *file, bool cloexec);
bool k_has_room(void);
int k_close(int fd);
void k_close_range(unsigned low, unsigned high);
void k_close_on_exec(void);
void k_close_all(struct fdtable *table);
int k_dup(int fd, int least, bool cloexec);
int k_pipe(int ends[2]);
int k_epoll_change(int epoll_fd, bool add, int fd, unsigned events, uint64_t data);
struct fdtable *k_files_new(int limit);
struct fdtable *k_files_copy(const struct fdtable *from);
unsigned k_poll(const struct file *file);

/* --- kernel-locks.c --- */
struct inode *k_inode(void); /* what the path of the lock leads to; NULL: nothing */
struct inode *k_inode_make(uid_t uid);
void k_inode_unlink(void);
int k_flock(struct file *file, int operation, bool wait);
void k_flock_interrupt(const struct proc *p); /* stopped: whoever waits calls again, as the last */
void k_flock_forget(const struct task *task);
int k_flock_show(char *out, size_t size);
int k_flock_waiters(const struct inode *inode);
bool k_flock_held(const struct inode *inode);
bool k_flock_held_by(const struct inode *inode, int pid);

/* --- kernel-sockets.c --- */
void k_address(struct address *address, const void *sockaddr, int length);
bool k_same_address(const struct address *a, const struct address *b);
const char *k_show(const struct address *address);
int k_socket(bool cloexec);
int k_bind(int fd, const struct address *address);
int k_listen(int fd, int backlog);
int k_connect(int fd, const struct address *address);

/* Whether k_connect() to this address has to wait no longer. */
bool k_may_connect(const struct address *address);
int k_accept(int fd);
int k_socketpair(int ends[2]);
int k_shutdown(int fd, int how);
int k_peerpidfd(const struct sock *sock);
ssize_t k_sendmsg(int fd, const struct msghdr *msg);
ssize_t k_recvmsg(int fd, struct msghdr *msg, bool cloexec);
void k_sock_release(struct sock *sock, bool in_backlog);

/* --- kernel-processes.c --- */
struct proc *k_proc_new(struct proc *parent, const char *name, const char *suffix,
			bool share_files);
struct proc *k_proc(int pid);
void k_signal(struct proc *p, int number, int code, const struct proc *sender);
void k_set_mask(uint64_t mask);
void k_leave_vfork(struct proc *child);
_Noreturn void k_exit(int status);

#endif
