/* What the simulated kernel tells the checks (checks.c), and what its parts need of each other. */
#ifndef HOOKS_H
#define HOOKS_H

#include "kernel.h"

void on_bound(struct proc *p, const struct sock *sock);
void on_connected(struct proc *p, const struct address *to);
void on_silent(const struct sock *sock); /* it is bound and does not listen: a connect is refused */
void on_listens(const struct sock *sock); /* me(), after the one that sock names still */
void on_unbound(const struct sock *sock);
void on_accepted(const struct sock *sock);    /* of a connection that waited */
void on_left_alone(const struct file *file); /* of a listener: one descriptor is left */
void on_exec(struct proc *p);	   /* a command starts */
void on_exec_done(struct proc *p); /* what is close-on-exec is closed */
void on_signal(const struct proc *p, int number, const struct proc *sender);
void on_said(const struct proc *p, const char *text, size_t length);
void on_end(struct proc *p);
void on_sleep(struct proc *p); /* in poll */

void on_flock(struct proc *p, const struct file *file); /* got it */
void on_flock_released(const struct inode *inode);

void k_locks_reset(void);
void k_files_reset(void);
void k_texts_reset(void);
void k_text_put(struct text *text);
void k_sockets_reset(void);

#endif
