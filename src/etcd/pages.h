/* The memory of a process that waits for weeks. */
#ifndef ETCD_PAGES_H
#define ETCD_PAGES_H

/*
 * Gives back pages that are mere copies of files: most of a helper's resident memory is library
 * code that was only needed for loading. What is needed again comes from the page cache.
 */
void pages_give_back(void);

#endif
