#include "etcd/credentials.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/deadline.h"
#include "base/memory.h"

#define LARGEST_FILE (1U << 20)

/* At a start: how often files that are being replaced are read again. */
#define TRIES 3

/* Within this time a file may change twice and look the same. */
#define YOUNG (2 * NS_PER_S)

/* --- PEM -------------------------------------------------------------------------------------- */

#define DASHES "-----"
#define BEGIN DASHES "BEGIN "
#define END DASHES "END "

/* Whether the N bytes TEXT end with SUFFIX. */
static bool ends_with(const char *text, size_t n, const char *suffix)
{
	return n >= strlen(suffix) && !memcmp(text + n - strlen(suffix), suffix, strlen(suffix));
}

static bool has(const char *text, size_t n, const char *part)
{
	return memmem(text, n, part, strlen(part)) != NULL;
}

/* What a block is, by its LABEL of N bytes. */
static bool is_wanted(enum credential which, const char *label, size_t n)
{
	if (which == CREDENTIAL_KEY)
		return ends_with(label, n, "PRIVATE KEY") &&
		       !ends_with(label, n, "OPENSSH PRIVATE KEY");
	return ends_with(label, n, "CERTIFICATE");
}

const char *credentials_check(enum credential which, const char *bytes, size_t n)
{
	const char *end = bytes + n, *block = bytes, *label, *last;
	size_t length;

	if (n == 0)
		return "is empty";
	while ((block = memmem(block, (size_t)(end - block), BEGIN, strlen(BEGIN)))) {
		label = block + strlen(BEGIN);
		block = memmem(label, (size_t)(end - label), DASHES, strlen(DASHES));
		if (!block)
			break;
		length = (size_t)(block - label);
		block += strlen(DASHES);
		if (!is_wanted(which, label, length))
			continue;
		last = memmem(block, (size_t)(end - block), END, strlen(END));
		/* Half a file. */
		if (!last)
			break;
		if (which == CREDENTIAL_KEY && (has(label, length, "ENCRYPTED") ||
						has(block, (size_t)(last - block), "4,ENCRYPTED")))
			return "is encrypted, and me-only cannot ask for its pass phrase";
		return NULL;
	}
	return which == CREDENTIAL_KEY ? "holds no complete private key in PEM form"
				       : "holds no complete certificate in PEM form";
}

/* --- reading ---------------------------------------------------------------------------------- */

static void set_free(struct credential_set *set)
{
	for (size_t i = 0; i < CREDENTIALS; i++) {
		if (set->bytes[i])
			explicit_bzero(set->bytes[i], set->lengths[i]);
		free(set->bytes[i]);
	}
	*set = (struct credential_set){ .lengths = { 0 } };
}

static bool set_equals(const struct credential_set *a, const struct credential_set *b)
{
	for (size_t i = 0; i < CREDENTIALS; i++)
		if (!a->bytes[i] != !b->bytes[i] || a->lengths[i] != b->lengths[i] ||
		    (a->bytes[i] && memcmp(a->bytes[i], b->bytes[i], a->lengths[i]) != 0))
			return false;
	return true;
}

/* Reads FD to its end. Returns false with errno; a file that is too large has EFBIG. */
static bool read_all(int fd, char **bytes, size_t *length)
{
	struct stat status;
	ssize_t n = 1;
	size_t room;

	if (fstat(fd, &status))
		return false;
	if (!S_ISREG(status.st_mode) || status.st_size > LARGEST_FILE) {
		errno = S_ISREG(status.st_mode) ? EFBIG : S_ISDIR(status.st_mode) ? EISDIR : EINVAL;
		return false;
	}
	room = (size_t)status.st_size + 1;
	*bytes = memory_get(room);
	for (*length = 0; *length < room && n > 0; *length += n > 0 ? (size_t)n : 0)
		n = read(fd, *bytes + *length, room - *length);
	/* It grows: half of it is no use. */
	if (n > 0)
		errno = EAGAIN;
	return n == 0;
}

/* Returns NULL, or what is wrong with the file of WHICH, to be freed. */
static char *read_file(const char *path, enum credential which, struct credential_set *set)
{
	static const char *const variables[] = { "ETCDCTL_CACERT", "ETCDCTL_CERT", "ETCDCTL_KEY" };
	const char *problem;
	/* Not blocking: it could be a FIFO. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

	problem = fd >= 0 && read_all(fd, &set->bytes[which], &set->lengths[which])
			  ? NULL
			  : strerror(errno);
	if (fd >= 0)
		close(fd);
	if (problem)
		return memory_format("%s: %s: %s", variables[which], path, problem);
	problem = credentials_check(which, set->bytes[which], set->lengths[which]);
	return problem ? memory_format("%s: %s %s", variables[which], path, problem) : NULL;
}

static struct credential_stamp stamp_of(const char *path)
{
	struct stat status;

	if (!path || stat(path, &status))
		return (struct credential_stamp){ .inode = 0 };
	return (struct credential_stamp){ .device = status.st_dev,
					  .inode = status.st_ino,
					  .size = status.st_size,
					  .modified = status.st_mtim,
					  .changed = status.st_ctim };
}

static bool is_same_time(struct timespec a, struct timespec b)
{
	return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

static bool is_same(const struct credential_stamp *a, const struct credential_stamp *b)
{
	return a->device == b->device && a->inode == b->inode && a->size == b->size &&
	       is_same_time(a->modified, b->modified) && is_same_time(a->changed, b->changed);
}

static bool have_changed(const struct credentials *credentials)
{
	for (size_t i = 0; i < CREDENTIALS; i++) {
		const struct credential_stamp stamp = stamp_of(credentials->paths[i]);

		if (credentials->paths[i] &&
		    (!stamp.inode || !is_same(&stamp, &credentials->stamps[i])))
			return true;
	}
	return false;
}

/*
 * Reads all files into SET, and their stamps. Returns NULL, or what is wrong with that of *WHICH;
 * *STABLE is false if they were replaced meanwhile.
 */
static char *read_set(struct credentials *credentials, struct credential_set *set, bool *stable,
		      enum credential *which)
{
	const int64_t now = clock_now(CLOCK_REALTIME);
	char *error = NULL;

	for (size_t i = 0; i < CREDENTIALS; i++)
		credentials->stamps[i] = stamp_of(credentials->paths[i]);
	for (size_t i = 0; i < CREDENTIALS && !error; i++) {
		*which = (enum credential)i;
		if (credentials->paths[i])
			error = read_file(credentials->paths[i], *which, set);
	}
	*stable = !have_changed(credentials);
	for (size_t i = 0; i < CREDENTIALS; i++)
		if (error || !*stable ||
		    now - credentials->stamps[i].changed.tv_sec * NS_PER_S < YOUNG)
			credentials->stamps[i] = (struct credential_stamp){ .inode = 0 };
	return error;
}

/* --- using ------------------------------------------------------------------------------------ */

char *credentials_open(struct credentials *credentials, const char *const paths[CREDENTIALS],
		       enum credential *which)
{
	bool stable = false;
	char *error = NULL;

	*credentials = (struct credentials){ .proven = false };
	memcpy(credentials->paths, paths, sizeof credentials->paths);
	for (unsigned i = 0; i < TRIES && !stable; i++) {
		free(error);
		set_free(&credentials->newest);
		error = read_set(credentials, &credentials->newest, &stable, which);
	}
	credentials->newest.number = 1;
	return error;
}

/* The files have changed. Keeps what there is if they cannot be used. */
static void read_again(struct credentials *credentials)
{
	struct credential_set set = { .lengths = { 0 } };
	enum credential which;
	bool stable;
	char *error = read_set(credentials, &set, &stable, &which);

	if (error || !stable || set_equals(&set, &credentials->newest)) {
		free(error);
		set_free(&set);
		return;
	}
	set.number = credentials->newest.number + 1;
	if (credentials->proven)
		credentials->good = credentials->newest;
	else
		set_free(&credentials->newest);
	credentials->newest = set;
	credentials->proven = credentials->use_good = false;
}

const struct credential_set *credentials_fresh(struct credentials *credentials)
{
	if (have_changed(credentials))
		read_again(credentials);
	return credentials->use_good ? &credentials->good : &credentials->newest;
}

void credentials_judge(struct credentials *credentials, unsigned number, bool worked)
{
	const bool is_newest = number == credentials->newest.number;

	if (!worked && (is_newest || number == credentials->good.number))
		credentials->use_good = is_newest && credentials->good.number;
	if (!worked || !is_newest)
		return;
	credentials->proven = true;
	credentials->use_good = false;
	set_free(&credentials->good);
}

void credentials_close(struct credentials *credentials)
{
	set_free(&credentials->newest);
	set_free(&credentials->good);
}
