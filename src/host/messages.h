/*
 * What waiters in line say to each other (host/queue.c, rule 6): one message is a word, a number,
 * and up to two descriptors. Only what this user's processes say is heard, and a message with
 * descriptors cut off is none.
 */
#ifndef HOST_MESSAGES_H
#define HOST_MESSAGES_H

#include <stddef.h>
#include <sys/types.h>

enum word {
	WORD_NONE = 0,
	GIVE = '=', /* with the queue socket, and for the third a link to the second, whose pid the
		       number is: you are a successor */
	FOLLOW = '+', /* with a link to the third, or with its pid as the number: it comes behind
			 you */
	/*
	 * To a successor: you are stopped, and no longer a successor. From one: you were passed
	 * over.
	 */
	DISMISS = '-',
	CLOSE_UP = '^', /* with a new link: all others ahead were dismissed, follow me alone */
};

/*
 * Sends WORD and NUMBER with copies of the N descriptors FDS, at most two. Never blocks. Returns 0
 * or a negative errno.
 */
int host_send_word(int fd, enum word word, pid_t number, const int fds[], size_t n);

struct heard {
	enum word word; /* WORD_NONE if it was not sent by this user or is none of ours */
	pid_t number;
	pid_t sender;
	int fds[2]; /* the descriptors that came with it, which are now the caller's, or -1 */
};

/*
 * Reads one message from FD, whose other end must have been connected after SO_PASSCRED was set
 * here. Returns 0; -EAGAIN: there is none; -EPIPE: the other end has gone.
 */
int host_receive_word(int fd, struct heard *heard);

#endif
