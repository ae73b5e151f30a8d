/* Open descriptors: sockets, pipes, timers, signalfds, pidfds. */
#ifndef SIM_DESCRIPTORS_H
#define SIM_DESCRIPTORS_H

#include "task.h"

enum file_type {
	FILE_SOCKET,
	FILE_PIPE_READ,
	FILE_PIPE_WRITE,
	FILE_TIMER,
	FILE_SIGNALS,
	FILE_PID,
	FILE_NULL
};

struct packet {
	struct packet *next;
	size_t n;
	struct file *passed; /* SCM_RIGHTS; NULL: none */
	char text[];
};

struct pipe {
	int readers, writers;
	uint64_t inode;
};

/* An open file description: several descriptors can refer to it. */
struct file {
	enum file_type type;
	int references;
	struct file *peer; /* of a socket; NULL: closed */
	bool reset; /* the peer was closed with packets that it had not read: the next call fails */
	struct packet *first, **last;
	int n_packets;
	struct pipe *pipe;
	struct task *task; /* of FILE_PID and FILE_SIGNALS */
	int host;	   /* of FILE_TIMER: whose CLOCK_BOOTTIME it counts */
	ns expiry;
	uint64_t generation;
};

struct file *file_new(enum file_type type);
struct pipe *pipe_new(void);

/* Closes one reference to it. */
void file_close(struct file *file);

/* The file of the current process's descriptor, or NULL with errno. */
struct file *file_of(int fd);

/* The least free descriptor from LEAST on for FILE, or -1 with errno. */
int descriptor_install(struct task *task, struct file *file, int least, bool close_on_exec);
void descriptor_close(struct task *task, int fd);

/* fcntl(2), of the current process (calls-files.c). */
long descriptor_control(int fd, int command, int argument);

/* What poll(2) shows. */
short file_readiness(const struct file *file);

/* Adds a packet to the peer's queue. Returns 0 or -1 with errno. */
int socket_send(struct file *socket, const void *text, size_t n, struct file *passed);

/* Takes the next packet. Returns its length, cut to SIZE; 0 at the end; -1 with errno. */
long socket_receive(struct file *socket, char *text, size_t size, struct file **passed);

void timer_set(struct file *timer, ns expiry);

#endif
