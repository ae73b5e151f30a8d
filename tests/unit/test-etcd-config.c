#include <errno.h>
#include <stdio.h>
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

#define CERTIFICATE "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
#define PRIVATE_KEY "-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n"

static struct config config;
static char directory[] = "/tmp/me-only-config-XXXXXX", path[64], ca[64], cert[64], key[64];
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

static void write_file(const char *file, const char *text, mode_t mode)
{
	FILE *stream = fopen(file, "w");

	if (!stream || fputs(text, stream) == EOF || fclose(stream) || chmod(file, mode))
		ok(false, "the file is written: %s", strerror(errno));
}

/* The file has TEXT and MODE, and no variable is set. */
static void with_file(const char *text, mode_t mode)
{
	clear();
	write_file(path, text, mode);
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

/* One endpoint, without TLS. */
static void is_endpoint(const char *text, const char *wanted)
{
	WITH("ETCDCTL_ENDPOINTS", text);
	has_endpoints(wanted);
}

static void is_none(const char *text)
{
	char wanted[128];

	WITH("ETCDCTL_ENDPOINTS", text);
	(void)snprintf(wanted, sizeof wanted, "ETCDCTL_ENDPOINTS: neither HOST nor HOST:PORT: '%s'", text);
	is_text(error, wanted, text);
}

static void ports(void)
{
	is_endpoint("a", "http://a:2379");
	is_endpoint("a.b-c_d.example.", "http://a.b-c_d.example.:2379");
	is_endpoint("http://a", "http://a:2379");
	is_endpoint("https://a/", "https://a:2379");
	is_endpoint("https://a:443", "https://a:443");
	is_endpoint("10.0.0.5", "http://10.0.0.5:2379");
	is_endpoint("10.0.0.5:65535", "http://10.0.0.5:65535");
	is_endpoint("[::1]", "http://[::1]:2379");
	is_endpoint("https://[fd00::5]", "https://[fd00::5]:2379");
	is_endpoint("http://[fd00::5]:1/", "http://[fd00::5]:1");
	is_endpoint("::1", "http://[::1]:2379");
	is_endpoint("https://fd00:0:0:0:0:0:0:5", "https://[fd00:0:0:0:0:0:0:5]:2379");
	is_endpoint("::ffff:10.0.0.5", "http://[::ffff:10.0.0.5]:2379");
	is_endpoint("fe80::1%eth0", "http://[fe80::1%eth0]:2379");
	is_endpoint("[fe80::1%eth0]:1", "http://[fe80::1%eth0]:1");
	is_none("a:");
	is_none("a:0");
	is_none("a:65536");
	is_none("a:2379x");
	is_none("a:-1");
	is_none("a:+1");
	is_none("a: 1");
	is_none(":2379");
	is_none("a:b:c");
	is_none("a b");
	is_none("a/v3");
	is_none("http://a:1/v3");
	is_none("a?b");
	is_none("http:");
	is_none("[::1");
	is_none("[::1]1");
	is_none("[::1]:");
	is_none("[a]");
	is_none("[]");
	is_none("::1]");
	is_none("fe80::1%");
	is_none("1:2:3:4:5:6:7:8:9:10:11:12:13:14:15:16:17:18:19:20:21:22:23:24:25");
}

static void endpoints(void)
{
	WITH("ETCDCTL_ENDPOINTS", "");
	has_endpoints("http://127.0.0.1:2379");
	is_text(config_source(&config), "the default endpoint", "where it comes from");
	WITH("ETCDCTL_ENDPOINTS", "a:2379");
	has_endpoints("http://a:2379");
	is_text(config_source(&config), "endpoints from ETCDCTL_ENDPOINTS", "where they come from");
	WITH("ETCDCTL_ENDPOINTS", "a:1,http://b:2/, https://c:3// ,\t[::1]:4");
	has_endpoints("http://a:1 http://b:2 https://c:3 http://[::1]:4");
	WITH("ETCDCTL_ENDPOINTS", "a,b", "ETCDCTL_CACERT", ca);
	has_endpoints("https://a:2379 https://b:2379");
	WITH("ETCDCTL_ENDPOINTS", "a,http://b", "ETCDCTL_INSECURE_SKIP_TLS_VERIFY", "true");
	has_endpoints("https://a:2379 http://b:2379");
	ok(config.skip_verify, "certificates are not looked at");
	WITH("ETCDCTL_ENDPOINTS", "a", "ETCDCTL_INSECURE_SKIP_TLS_VERIFY", "false");
	has_endpoints("http://a:2379");
	ok(!config.skip_verify, "certificates are looked at");
	WITH("ETCDCTL_ENDPOINTS", "a", "ETCDCTL_INSECURE_TRANSPORT", "false");
	has_endpoints("https://a:2379");
	WITH("ETCDCTL_ENDPOINTS", "a", "ETCDCTL_INSECURE_TRANSPORT", "true");
	has_endpoints("http://a:2379");
	WITH("ETCDCTL_ENDPOINTS", "a,");
	is_text(error, "ETCDCTL_ENDPOINTS has an empty endpoint", "an empty endpoint at the end");
	WITH("ETCDCTL_ENDPOINTS", ",a");
	is_text(error, "ETCDCTL_ENDPOINTS has an empty endpoint", "an empty endpoint at the beginning");
	WITH("ETCDCTL_ENDPOINTS", "/");
	is_text(error, "ETCDCTL_ENDPOINTS has an empty endpoint", "nothing but a slash");
	WITH("ETCDCTL_ENDPOINTS", "https://");
	is_text(error, "ETCDCTL_ENDPOINTS has an empty endpoint", "nothing but a scheme");
	WITH("ETCDCTL_ENDPOINTS", "unix:///run/etcd");
	is_text(error, "ETCDCTL_ENDPOINTS: neither http:// nor https://: 'unix:///run/etcd'", "another scheme");
	WITH("ETCDCTL_ENDPOINTS", "http://mo:secret@a:2379");
	is_text(error, "ETCDCTL_ENDPOINTS: put the user in ETCDCTL_USER, not in the endpoint", "a password in an endpoint is not shown");
	WITH("ETCDCTL_ENDPOINTS", "ftp://mo:secret@a");
	is_text(error, "ETCDCTL_ENDPOINTS: put the user in ETCDCTL_USER, not in the endpoint", "nor with another scheme");
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

/* The key file has TEXT. */
static void is_bad_key(const char *text, const char *wanted)
{
	char all[160];

	write_file(key, text, 0600);
	read_again();
	(void)snprintf(all, sizeof all, "ETCDCTL_KEY: %s %s", key, wanted);
	is_text(error, all, wanted);
}

static void is_good_key(const char *text, const char *what)
{
	write_file(key, text, 0600);
	read_again();
	is_text(error, NULL, what);
}

static void files(void)
{
	char all[160];

	WITH("ETCDCTL_CACERT", "/nonexistent/ca");
	is_text(error, "ETCDCTL_CACERT: /nonexistent/ca: No such file or directory", "no such CA");
	WITH("ETCDCTL_CACERT", "/tmp");
	is_text(error, "ETCDCTL_CACERT: /tmp: Is a directory", "a directory");
	WITH("ETCDCTL_CERT", cert);
	is_text(error, "ETCDCTL_CERT and ETCDCTL_KEY belong together: set both or neither", "no key");
	WITH("ETCDCTL_KEY", key, "ETCDCTL_CERT", "");
	is_text(error, "ETCDCTL_CERT and ETCDCTL_KEY belong together: set both or neither", "no certificate");
	WITH("ETCDCTL_KEY", key, "ETCDCTL_CERT", cert, "ETCDCTL_CACERT", ca);
	ok(!error && !strcmp(config.cert, cert) && !strcmp(config.key, key), "both");
	ok(config.credentials && !strcmp(config.credentials->newest.bytes[CREDENTIAL_KEY], PRIVATE_KEY), "the key is read");
	is_bad_key("", "is empty");
	is_bad_key("\n", "holds no complete private key in PEM form");
	is_bad_key(CERTIFICATE, "holds no complete private key in PEM form");
	is_bad_key("-----BEGIN PRIVATE KEY-----\nMIIB\n", "holds no complete private key in PEM form");
	is_bad_key("-----BEGIN PRIVATE KEY", "holds no complete private key in PEM form");
	is_bad_key("-----BEGIN OPENSSH PRIVATE KEY-----\nb3\n-----END OPENSSH PRIVATE KEY-----\n", "holds no complete private key in PEM form");
	is_bad_key("-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n",
		   "is encrypted, and me-only cannot ask for its pass phrase");
	is_bad_key("-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nMIIB\n-----END EC PRIVATE KEY-----\n",
		   "is encrypted, and me-only cannot ask for its pass phrase");
	is_good_key("-----BEGIN EC PARAMETERS-----\nBg\n-----END EC PARAMETERS-----\n-----BEGIN EC PRIVATE KEY-----\nMIIB\n-----END EC PRIVATE KEY-----\n",
		    "behind its parameters");
	is_good_key(CERTIFICATE PRIVATE_KEY, "behind its certificate");
	write_file(cert, PRIVATE_KEY, 0600);
	read_again();
	(void)snprintf(all, sizeof all, "ETCDCTL_CERT: %s holds no complete certificate in PEM form", cert);
	is_text(error, all, "no certificate in it");
	write_file(cert, CERTIFICATE, 0644);
	is_good_key(PRIVATE_KEY, "all is well again");
	/* The link stays in the path. */
	if (chdir(directory) || symlink("ca.crt", "link"))
		ok(false, "a link is made: %s", strerror(errno));
	WITH("ETCDCTL_CACERT", "link");
	(void)snprintf(all, sizeof all, "%s/link", directory);
	is_text(config.cacert, all, "a relative path of a link");
	unlink("link");
	if (chdir("/"))
		ok(false, "cannot leave: %s", strerror(errno));
}

/* What the next connection uses. */
static void uses(const char *wanted, const char *what)
{
	is(credentials_fresh(config.credentials)->bytes[CREDENTIAL_CACERT], wanted, what);
}

/* Replaces the file, as with a swapped link. */
static void replace(const char *text)
{
	char new[80];

	(void)snprintf(new, sizeof new, "%s.new", ca);
	write_file(new, text, 0644);
	if (rename(new, ca))
		ok(false, "the file is replaced: %s", strerror(errno));
}

/* A connection that used those of this NUMBER, or the ones that the next uses, worked or did not. */
static void judge_those_of(unsigned number, bool worked)
{
	credentials_judge(config.credentials, number, worked);
}

static void judge(bool worked)
{
	judge_those_of(credentials_fresh(config.credentials)->number, worked);
}

static void rotation(void)
{
	WITH("ETCDCTL_CACERT", ca);
	uses(CERTIFICATE, "at first");
	judge(false);
	uses(CERTIFICATE, "there are no others");
	judge(true);
	replace("2" CERTIFICATE);
	uses("2" CERTIFICATE, "when it was replaced");
	judge(false);
	uses(CERTIFICATE, "the one that has worked, when the new one does not");
	judge(false);
	uses("2" CERTIFICATE, "in turn");
	judge(false);
	judge(true);
	uses(CERTIFICATE, "as long as it works");
	replace("3" CERTIFICATE);
	uses("3" CERTIFICATE, "the next one is tried at once");
	judge(true);
	judge(false);
	uses("3" CERTIFICATE, "one that has worked is the only one");
	replace("4");
	uses("3" CERTIFICATE, "it stays when the file is damaged");
	unlink(ca);
	uses("3" CERTIFICATE, "and when there is none");
	replace("");
	uses("3" CERTIFICATE, "or an empty one");
	replace("5" CERTIFICATE);
	uses("5" CERTIFICATE, "until there is another");
	/* Connections that are made at the same time. */
	judge_those_of(4, false);
	judge_those_of(4, false);
	uses("3" CERTIFICATE, "two that use the new one fail");
	judge_those_of(3, true);
	uses("3" CERTIFICATE, "one that uses an older one works");
	judge_those_of(4, true);
	uses("5" CERTIFICATE, "one that uses the new one works after all");
	replace(CERTIFICATE);
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

/* The environment has one variable more, then all is read. */
static void and_variable(const char *name, const char *value)
{
	setenv(name, value, 1);
	read_again();
}

static void environment_and_file(void)
{
	static const char all[] = "ETCDCTL_ENDPOINTS=a\nETCDCTL_USER=mo\nETCDCTL_PASSWORD=word\nETCDCTL_COMMAND_TIMEOUT=1m\n";
	char text[160];

	for (size_t i = 0; i < sizeof variables / sizeof *variables; i++) {
		with_file(all, 0600);
		and_variable(variables[i], "");
		has_endpoints("http://a:2379");
		is_text(config_source(&config), "endpoints from /etc/me-only/etcd.conf", "an empty variable is none");
		ok(config.user && !strcmp(config.user, "mo") && !strcmp(config.password, "word"), "%s", variables[i]);
	}
	with_file(all, 0600);
	and_variable("ETCDCTL_DIAL_TIMEOUT", "1s");
	has_endpoints("http://a:2379");
	ok(config.dial_timeout == NS_PER_S && config.command_timeout == 60 * NS_PER_S && config.user, "the rest is the file's");
	and_variable("ETCDCTL_COMMAND_TIMEOUT", "2s");
	is_number(config.command_timeout, 2 * NS_PER_S, "a variable before the file");
	and_variable("ETCDCTL_USER", "you");
	is_text(error, "ETCDCTL_USER names 'you', but there is no password: set ETCDCTL_PASSWORD", "a name does not get the password of another");
	and_variable("ETCDCTL_PASSWORD", "mine");
	has_endpoints("http://a:2379");
	ok(!strcmp(config.user, "you") && !strcmp(config.password, "mine"), "a user of one's own");
	unsetenv("ETCDCTL_USER");
	read_again();
	ok(!error && !strcmp(config.user, "mo") && !strcmp(config.password, "mine"), "a password for the file's user");
	and_variable("ETCDCTL_CACERT", ca);
	has_endpoints("https://a:2379");
	and_variable("ETCDCTL_ENDPOINTS", "c");
	has_endpoints("https://c:2379");
	is_text(config_source(&config), "endpoints from ETCDCTL_ENDPOINTS", "where they come from");
	ok(!config.user && config.command_timeout == 2 * NS_PER_S, "with other endpoints the file counts for nothing");

	(void)snprintf(text, sizeof text, "ETCDCTL_CERT=%s\nETCDCTL_KEY=%s\n", cert, key);
	with_file(text, 0600);
	is_text(error, NULL, "a certificate and its key");
	is_text(config_source(&config), "the default endpoint", "none in the file");
	and_variable("ETCDCTL_CERT", ca);
	is_text(error, "ETCDCTL_CERT and ETCDCTL_KEY belong together: set both or neither", "a certificate does not get the key of another");
	with_file("ETCDCTL_ENDPOINTS=a\n", 0600);
	and_variable("ETCDCTL_DISCOVERY_SRV", "example.org");
	ok(error && strstr(error, "ETCDCTL_DISCOVERY_SRV is not supported"), "members found by the name service are not ignored");
}

/* A file or directory that others can write, as for a helper program. */
static void writers(void)
{
	static const char text[] = "ETCDCTL_ENDPOINTS=a\n";
	char wanted[160], target[200], behind[160];

	(void)snprintf(wanted, sizeof wanted, "refusing to read %s: it or its directory is writable by others", path);
	with_file(text, 0602);
	is_text(error, wanted, "others can write it");
	with_file(text, 0620);
	is_text(error, wanted, "its group can");
	with_file(text, 0644);
	chmod(directory, 0702);
	read_again();
	is_text(error, wanted, "others can replace it");
	chmod(directory, 0770);
	read_again();
	is_text(error, wanted, "its group can");
	chmod(directory, 0755);
	(void)snprintf(behind, sizeof behind, "%s/behind", directory);
	(void)snprintf(target, sizeof target, "%s/etcd.conf", behind);
	if (mkdir(behind, 0755) || rename(path, target) || symlink(target, path))
		ok(false, "a link can be made");
	read_again();
	has_endpoints("http://a:2379");
	chmod(behind, 0757);
	read_again();
	is_text(error, wanted, "others can replace what a link leads to");
	unlink(path);
	if (rename(target, path) || rmdir(behind))
		ok(false, "a link can be removed");
	if (geteuid() == 0) {
		/* For another user than root a helper may be its group's. */
		with_file(text, 0664);
		ok(seteuid(12345) == 0, "another user");
		read_again();
		is_text(error, wanted, "its group can, and root does not ask");
		ok(seteuid(0) == 0, "root again");
		with_file(text, 0644);
		(void)!chown(path, 12345, 0);
		read_again();
		is_text(error, wanted, "it is another user's");
		(void)!chown(path, 0, 0);
	}
	read_again();
	has_endpoints("http://a:2379");
}

static void file(void)
{
	char text[256];
	char *large = memory_get(70000);

	unlink(path);
	clear();
	read_again();
	has_endpoints("http://127.0.0.1:2379");
	(void)!symlink("/nonexistent/etcd.conf", path);
	read_again();
	(void)snprintf(text, sizeof text, "%s: No such file or directory", path);
	is_text(error, text, "a link that leads nowhere");
	unlink(path);
	with_file("", 0644);
	has_endpoints("http://127.0.0.1:2379");
	with_file("# where it is\n\n  # and who\nETCDCTL_ENDPOINTS=a,b\nETCDCTL_USER='mo:pass \"word'\n", 0640);
	has_endpoints("http://a:2379 http://b:2379");
	is_text(config.user, "mo", "a user from the file");
	is_text(config.password, "pass \"word", "in quotes");
	(void)snprintf(text, sizeof text, "export ETCDCTL_ENDPOINTS=\"a\"\r\n\tETCDCTL_CACERT = %s \t\nETCDCTL_API=3\nETCDCTL_DIAL_TIMEOUT=1s", ca);
	with_file(text, 0644);
	has_endpoints("https://a:2379");
	is_text(config.cacert, ca, "blanks around");
	is_number(config.dial_timeout, NS_PER_S, "a last line without its end");
	with_file("ETCDCTL_ENDPOINTS=a\nETCDCTL_ENDPOINTS=b\n", 0644);
	has_endpoints("http://b:2379");
	with_file("ETCDCTL_PASSWORD='\nETCDCTL_USER=mo\n", 0600);
	is_text(config.password, "'", "one quote is none");

	is_wrong("endpoints\n", ": line 1 is not NAME=value");
	is_wrong("# \n\nENDPOINTS=a\n", ": line 3: a variable that neither me-only nor etcdctl knows");
	is_wrong("=a\n", ": line 1: a variable that neither me-only nor etcdctl knows");
	is_wrong("export\n", ": line 1 is not NAME=value");
	is_wrong("ETCDCTL_API=3\nETCDCTL_ENDPOINT=a\n", ": line 2: a variable that neither me-only nor etcdctl knows");
	memset(large, '#', 69999);
	is_wrong("ETCDCTL_ENDPOINTS=a:b\n", ": ETCDCTL_ENDPOINTS: neither HOST nor HOST:PORT: 'a:b'");
	is_wrong("ETCDCTL_DIAL_TIMEOUT=soon\n", ": ETCDCTL_DIAL_TIMEOUT is not a duration: 'soon'");
	is_wrong("ETCDCTL_CACERT=/nonexistent/ca\n", ": ETCDCTL_CACERT: /nonexistent/ca: No such file or directory");
	is_wrong("ETCDCTL_USER=mo\n", ": ETCDCTL_USER names 'mo', but there is no password: set ETCDCTL_PASSWORD");
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
	if (!mkdtemp(directory) || chmod(directory, 0755))
		ok(false, "a directory is made: %s", strerror(errno));
	(void)snprintf(path, sizeof path, "%s/etcd.conf", directory);
	(void)snprintf(ca, sizeof ca, "%s/ca.crt", directory);
	(void)snprintf(cert, sizeof cert, "%s/client.crt", directory);
	(void)snprintf(key, sizeof key, "%s/client.key", directory);
	write_file(ca, CERTIFICATE, 0644);
	write_file(cert, CERTIFICATE, 0644);
	write_file(key, PRIVATE_KEY, 0600);
	endpoints();
	ports();
	users();
	files();
	rotation();
	times();
	file();
	environment_and_file();
	writers();
	unlink(path);
	unlink(ca);
	unlink(cert);
	unlink(key);
	rmdir(directory);
	config_free(&config);
	free(error);
	return tap_done();
}
