#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/deadline.h"
#include "etcd/config.h"
#include "base/memory.h"
#include "tap.h"

static const char *const variables[] = {
	"ETCDCTL_ENDPOINTS", "ETCDCTL_CACERT", "ETCDCTL_CERT", "ETCDCTL_KEY", "ETCDCTL_USER", "ETCDCTL_PASSWORD", "ETCDCTL_INSECURE_SKIP_TLS_VERIFY",
	"ETCDCTL_INSECURE_TRANSPORT", "ETCDCTL_DIAL_TIMEOUT", "ETCDCTL_COMMAND_TIMEOUT", "ETCDCTL_DISCOVERY_SRV",
};

static struct config config;
static char path[] = "/tmp/me-only-config-XXXXXX";
static char *error;

static void clear(void)
{
	for (size_t i = 0; i < sizeof variables / sizeof *variables; i++)
		unsetenv(variables[i]);
}

/* Reads anew. */
static void read_again(void)
{
	config_free(&config);
	free(error);
	error = config_read(&config, path);
}

/* The file has TEXT and MODE, and no variable is set. */
static void with_file(const char *text, mode_t mode)
{
	FILE *file = fopen(path, "w");

	clear();
	if (!file || fputs(text, file) == EOF || fclose(file) || chmod(path, mode))
		ok(false, "the file is written: %s", strerror(errno));
	read_again();
}

/* The variables, to a NULL in place of a name, have these values. */
static void with_variables(const char *const *names)
{
	clear();
	for (; *names; names += 2)
		setenv(names[0], names[1], 1);
	read_again();
}

#define WITH(...) with_variables((const char *const[]){ __VA_ARGS__, NULL })

/* The same for NULL. */
static void is_text(const char *got, const char *wanted, const char *what)
{
	is(got ? got : "(none)", wanted ? wanted : "(none)", what);
}

/* WANTED: with blanks between. */
static void has_endpoints(const char *wanted)
{
	char all[1024] = "";

	for (size_t i = 0; i < config.n; i++)
		stpcpy(stpcpy(all + strlen(all), i > 0 ? " " : ""), config.endpoints[i]);
	is_text(error, NULL, "nothing is wrong");
	is(all, wanted, wanted);
}

static void endpoints(void)
{
	WITH("ETCDCTL_ENDPOINTS", "");
	has_endpoints("http://127.0.0.1:2379");
	WITH("ETCDCTL_ENDPOINTS", "a:2379");
	has_endpoints("http://a:2379");
	WITH("ETCDCTL_ENDPOINTS", "a:1,http://b:2/, https://c:3// ,\t[::1]:4");
	has_endpoints("http://a:1 http://b:2 https://c:3 http://[::1]:4");
	WITH("ETCDCTL_ENDPOINTS", "a,b", "ETCDCTL_CACERT", "/dev/null");
	has_endpoints("https://a https://b");
	WITH("ETCDCTL_ENDPOINTS", "a,http://b", "ETCDCTL_INSECURE_SKIP_TLS_VERIFY", "true");
	has_endpoints("https://a http://b");
	ok(config.skip_verify, "certificates are not looked at");
	WITH("ETCDCTL_ENDPOINTS", "a", "ETCDCTL_INSECURE_SKIP_TLS_VERIFY", "false");
	has_endpoints("http://a");
	ok(!config.skip_verify, "certificates are looked at");
	WITH("ETCDCTL_ENDPOINTS", "a", "ETCDCTL_INSECURE_TRANSPORT", "false");
	has_endpoints("https://a");
	WITH("ETCDCTL_ENDPOINTS", "a", "ETCDCTL_INSECURE_TRANSPORT", "true");
	has_endpoints("http://a");
	WITH("ETCDCTL_ENDPOINTS", "a,");
	is_text(error, "ETCDCTL_ENDPOINTS has an empty endpoint", "an empty endpoint at the end");
	WITH("ETCDCTL_ENDPOINTS", ",a");
	is_text(error, "ETCDCTL_ENDPOINTS has an empty endpoint", "an empty endpoint at the beginning");
	WITH("ETCDCTL_ENDPOINTS", "/");
	is_text(error, "ETCDCTL_ENDPOINTS has an empty endpoint", "nothing but a slash");
	WITH("ETCDCTL_ENDPOINTS", "unix:///run/etcd");
	is_text(error, "ETCDCTL_ENDPOINTS: neither http:// nor https://: 'unix:///run/etcd'", "another scheme");
	WITH("ETCDCTL_ENDPOINTS", "http://mo:secret@a:2379");
	is_text(error, "ETCDCTL_ENDPOINTS: put the user in ETCDCTL_USER, not in the endpoint", "a password in an endpoint is not shown");
	WITH("ETCDCTL_DISCOVERY_SRV", "example.org");
	is_text(error, "ETCDCTL_DISCOVERY_SRV is not supported: name the members in ETCDCTL_ENDPOINTS", "members found by the name service");
}

static void users(void)
{
	WITH("ETCDCTL_ENDPOINTS", "a");
	ok(!config.user && !config.password, "no user");
	WITH("ETCDCTL_USER", "mo:pass:word");
	is_text(config.user, "mo", "a name before the colon");
	is_text(config.password, "pass:word", "and all behind it");
	WITH("ETCDCTL_USER", "mo:re", "ETCDCTL_PASSWORD", "word");
	is_text(config.user, "mo:re", "a name with a colon");
	is_text(config.password, "word", "if there is a password of its own");
	WITH("ETCDCTL_USER", "mo:");
	is_text(config.password, "", "an empty password");
	WITH("ETCDCTL_USER", "mo");
	is_text(error, "ETCDCTL_USER names 'mo', but there is no password: set ETCDCTL_PASSWORD", "no password");
	WITH("ETCDCTL_USER", "", "ETCDCTL_PASSWORD", "word");
	ok(!error && !config.user, "an empty name is none");
}

static void files(void)
{
	WITH("ETCDCTL_CACERT", "/nonexistent/ca");
	is_text(error, "ETCDCTL_CACERT: /nonexistent/ca: No such file or directory", "no such CA");
	WITH("ETCDCTL_CERT", "/dev/null");
	is_text(error, "ETCDCTL_CERT and ETCDCTL_KEY belong together: set both or neither", "no key");
	WITH("ETCDCTL_KEY", "/dev/null", "ETCDCTL_CERT", "");
	is_text(error, "ETCDCTL_CERT and ETCDCTL_KEY belong together: set both or neither", "no certificate");
	WITH("ETCDCTL_KEY", "/dev/null", "ETCDCTL_CERT", "/dev/zero");
	ok(!error && !strcmp(config.cert, "/dev/zero") && !strcmp(config.key, "/dev/null"), "both");
}

static void times(void)
{
	WITH("ETCDCTL_ENDPOINTS", "a");
	is_number(config.dial_timeout, 2 * NS_PER_S, "time for a connection");
	is_number(config.command_timeout, 5 * NS_PER_S, "time for a start");
	WITH("ETCDCTL_DIAL_TIMEOUT", "500ms", "ETCDCTL_COMMAND_TIMEOUT", "1m");
	is_number(config.dial_timeout, 500 * NS_PER_MS, "time for a connection, given");
	is_number(config.command_timeout, 60 * NS_PER_S, "time for a start, given");
	WITH("ETCDCTL_DIAL_TIMEOUT", "1m30s", "ETCDCTL_COMMAND_TIMEOUT", "1h0m0.5s");
	ok(!error && config.dial_timeout == 90 * NS_PER_S && config.command_timeout == 3600 * NS_PER_S + 500 * NS_PER_MS, "as etcdctl writes them");
	WITH("ETCDCTL_COMMAND_TIMEOUT", "9999999h99999999h");
	ok(!error && config.command_timeout > 86400 * NS_PER_S && config.command_timeout < INT64_MAX / 2, "a sum that is too large");
	WITH("ETCDCTL_COMMAND_TIMEOUT", "1m-30s");
	is_text(error, "ETCDCTL_COMMAND_TIMEOUT is not a duration: '1m-30s'", "a sign");
	WITH("ETCDCTL_COMMAND_TIMEOUT", "inf");
	ok(!error && config.command_timeout > 86400 * NS_PER_S && config.command_timeout < INT64_MAX / 2, "for ever is not too long to be added to");
	WITH("ETCDCTL_COMMAND_TIMEOUT", "soon");
	is_text(error, "ETCDCTL_COMMAND_TIMEOUT is not a duration: 'soon'", "no duration");
	WITH("ETCDCTL_DIAL_TIMEOUT", "0");
	is_text(error, "ETCDCTL_DIAL_TIMEOUT is not a duration: '0'", "no time at all");
}

/* The file's contents; the error is that of LINE, which is shown as it is. */
static void is_wrong(const char *text, const char *wanted)
{
	char all[256];

	with_file(text, 0600);
	(void)snprintf(all, sizeof all, "%s%s", path, wanted);
	is_text(error, all, wanted);
}

static void file(void)
{
	char *large = memory_get(70000);

	unlink(path);
	clear();
	read_again();
	has_endpoints("http://127.0.0.1:2379");
	with_file("", 0644);
	has_endpoints("http://127.0.0.1:2379");
	with_file("# where it is\n\n  # and who\nETCDCTL_ENDPOINTS=a,b\nETCDCTL_USER='mo:pass \"word'\n", 0640);
	has_endpoints("http://a http://b");
	is_text(config.user, "mo", "a user from the file");
	is_text(config.password, "pass \"word", "in quotes");
	with_file("export ETCDCTL_ENDPOINTS=\"a\"\r\n\tETCDCTL_CACERT = /dev/null \t\nETCDCTL_API=3\nETCDCTL_DIAL_TIMEOUT=1s", 0644);
	has_endpoints("https://a");
	is_text(config.cacert, "/dev/null", "blanks around");
	is_number(config.dial_timeout, NS_PER_S, "a last line without its end");
	with_file("ETCDCTL_ENDPOINTS=a\nETCDCTL_ENDPOINTS=b\n", 0644);
	has_endpoints("http://b");
	with_file("ETCDCTL_PASSWORD='\nETCDCTL_USER=mo\n", 0600);
	is_text(config.password, "'", "one quote is none");
	setenv("ETCDCTL_ENDPOINTS", "c", 1);
	read_again();
	has_endpoints("http://c");
	ok(!config.user, "with a variable the file counts for nothing");

	is_wrong("endpoints\n", ": line 1 is not NAME=value");
	is_wrong("# \n\nENDPOINTS=a\n", ": line 3: a variable that neither me-only nor etcdctl knows");
	is_wrong("=a\n", ": line 1: a variable that neither me-only nor etcdctl knows");
	is_wrong("export\n", ": line 1 is not NAME=value");
	is_wrong("ETCDCTL_API=3\nETCDCTL_ENDPOINT=a\n", ": line 2: a variable that neither me-only nor etcdctl knows");
	memset(large, '#', 69999);
	is_wrong(large, " is not a text file, or is too large");
	free(large);

	with_file("ETCDCTL_USER=mo\nETCDCTL_PASSWORD=word\n", 0644);
	ok(error && strstr(error, " contains a password, and others can read it: chmod o= "), "a password that others can read");
	with_file("ETCDCTL_USER=mo:word\n", 0604);
	ok(error && strstr(error, " contains a password, and others can read it: chmod o= "), "the same with the name");
	with_file("ETCDCTL_USER=mo:word\n", 0640);
	ok(!error, "that the group may read it is its owner's will");
}

int main(void)
{
	int fd = mkstemp(path);

	if (fd >= 0)
		close(fd);
	endpoints();
	users();
	files();
	times();
	file();
	unlink(path);
	config_free(&config);
	free(error);
	return tap_done();
}
