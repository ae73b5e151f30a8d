/* Hold the host lock NAME, of at most 77 bytes, until standard input ends: hold-lock NAME */
#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
int main(int argc, char **argv)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	int n = snprintf(at.sun_path + 1, 86, "me-only:%s", argc == 2 ? argv[1] : "");
	int lock = n > 8 && n < 86 ? socket(AF_UNIX, SOCK_SEQPACKET, 0) : -1;
	if (bind(lock, (struct sockaddr *)&at, sizeof at.sun_family + 1 + n) || listen(lock, 4096))
		return errno == EADDRINUSE ? 4 : 3; /* only this errno means held */
	puts("alone"); /* the job; NAME is free when the last copy of LOCK is closed */
	return fflush(stdout) || getchar() != EOF;
}
