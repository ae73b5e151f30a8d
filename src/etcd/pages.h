/* The memory of a process that waits for weeks. */
#ifndef ETCD_PAGES_H
#define ETCD_PAGES_H

/*
 * Gives those pages back that are a copy of nothing but a file: most of a helper's resident memory is code of libraries that was only
 * needed to load them. What is still needed comes back from the page cache.
 */
void pages_give_back(void);

#endif
