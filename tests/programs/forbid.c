/*
 * Run a command that the kernel refuses something.
 *
 * usage: forbid CALL=ERRNO... [landlock] COMMAND [ARGUMENT]...
 *
 * CALL=ERRNO: every system call CALL fails with ERRNO (a seccomp filter, as containers have them).
 * landlock: connecting to abstract sockets of processes outside is refused (Linux 6.12); status 125 where it cannot be.
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Debian 12's headers are older than this part of Landlock. */
struct landlock_rules {
	uint64_t handled_access_fs;
	uint64_t handled_access_net;
	uint64_t scoped;
};
enum { SCOPE_ABSTRACT_UNIX_SOCKET = 1 };

static const struct name {
	const char *name;
	int number;
} calls[] = {
	{"accept4", __NR_accept4},     {"bind", __NR_bind},           {"clone", __NR_clone},
	{"connect", __NR_connect},     {"getsockopt", __NR_getsockopt}, {"listen", __NR_listen},
	{"pidfd_open", __NR_pidfd_open}, {"prctl", __NR_prctl},         {"recvmsg", __NR_recvmsg},
	{"sendmsg", __NR_sendmsg},     {"signalfd4", __NR_signalfd4}, {"socket", __NR_socket},
	{"timer_create", __NR_timer_create},
}, errors[] = {
	{"EACCES", EACCES}, {"EMFILE", EMFILE}, {"ENOMEM", ENOMEM}, {"ENOSYS", ENOSYS},
	{"EPERM", EPERM},   {"EINVAL", EINVAL}, {"ENOPROTOOPT", ENOPROTOOPT},
};

static bool forbid_call(const char *call_and_error);
static bool forbid_abstract_sockets(void);
static int number_of(const struct name *names, size_t n, const char *name, size_t length);

int main(int argc, char **argv)
{
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		return 125;
	int i = 1;
	for (; i < argc && (strchr(argv[i], '=') || strcmp(argv[i], "landlock") == 0); i++)
		if (!(strchr(argv[i], '=') ? forbid_call(argv[i]) : forbid_abstract_sockets())) {
			fprintf(stderr, "forbid: cannot do %s\n", argv[i]);
			return 125;
		}
	if (i < argc)
		execv(argv[i], argv + i);
	fprintf(stderr, "forbid: nothing to run\n");
	return 125;
}

static bool forbid_call(const char *call_and_error)
{
	const char *error = strchr(call_and_error, '=') + 1;
	int call = number_of(calls, sizeof calls / sizeof *calls, call_and_error, (size_t)(error - 1 - call_and_error));
	int number = number_of(errors, sizeof errors / sizeof *errors, error, strlen(error));
	if (call < 0 || number < 0)
		return false;
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)call, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)number),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {.len = sizeof filter / sizeof *filter, .filter = filter};
	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

static bool forbid_abstract_sockets(void)
{
	struct landlock_rules rules = {.scoped = SCOPE_ABSTRACT_UNIX_SOCKET};
	long fd = syscall(__NR_landlock_create_ruleset, &rules, sizeof rules, 0);
	return fd >= 0 && syscall(__NR_landlock_restrict_self, (int)fd, 0) == 0 && close((int)fd) == 0;
}

static int number_of(const struct name *names, size_t n, const char *name, size_t length)
{
	for (size_t i = 0; i < n; i++)
		if (strlen(names[i].name) == length && memcmp(names[i].name, name, length) == 0)
			return names[i].number;
	return -1;
}
