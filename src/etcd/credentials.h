/*
 * The contents of the files with the certificates and the key, for every new connection.
 *
 * They may be replaced while a job runs, one by one or by a swapped link, so what is read in that
 * instant may be damaged, or not belong together. The contents that have last worked are kept until
 * newer ones have; while these do not work, attempts use both in turn.
 */
#ifndef ETCD_CREDENTIALS_H
#define ETCD_CREDENTIALS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <time.h>

enum credential {
	CREDENTIAL_CACERT,
	CREDENTIAL_CERT,
	CREDENTIAL_KEY,
	CREDENTIALS
};

/* The contents of the files at one time; NULL: no such file is given. */
struct credential_set {
	unsigned number; /* no other has it; 0: there are none */
	char *bytes[CREDENTIALS];
	size_t lengths[CREDENTIALS];
};

struct credentials {
	const char *paths[CREDENTIALS]; /* NULL: not given */
	struct credential_set newest, good;
	bool proven;   /* the newest have worked: there are no others */
	bool use_good; /* those that worked before the newest were read; if there are any */

	/* Of the newest, to see that they were replaced. All zero: to be read again. */
	struct credential_stamp {
		dev_t device;
		ino_t inode;
		off_t size;
		struct timespec modified, changed;
	} stamps[CREDENTIALS];
};

/*
 * Reads the files of PATHS for the first time. Returns NULL; or what is wrong, to be freed, which
 * begins with the variable of *WHICH.
 */
char *credentials_open(struct credentials *credentials, const char *const paths[CREDENTIALS],
		       enum credential *which);

/* What the next connection is to use, until the next call. Reads the files if they have changed. */
const struct credential_set *credentials_fresh(struct credentials *credentials);

/* A connection that used those of NUMBER worked or did not, perhaps because of them. */
void credentials_judge(struct credentials *credentials, unsigned number, bool worked);

void credentials_close(struct credentials *credentials);

/*
 * Whether the N BYTES hold what WHICH needs, in PEM form and not encrypted. Returns NULL, or what
 * is wrong.
 */
const char *credentials_check(enum credential which, const char *bytes, size_t n);

#endif
