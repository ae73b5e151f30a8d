#include "etcd/config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/deadline.h"
#include "base/duration.h"
#include "base/memory.h"

#define PREFIX "ETCDCTL_"
#define LARGEST_FILE 65536
#define DEFAULT_ENDPOINT "127.0.0.1:2379"
#define DIAL_TIMEOUT (2 * NS_PER_S)
#define COMMAND_TIMEOUT (5 * NS_PER_S)

/* Longer than anybody means: what it is added to is not to overflow. */
#define LONGEST_TIMEOUT (366 * 86400LL * NS_PER_S)

/* What was given, before it is known what it means together. */
struct settings {
	char *endpoints, *cacert, *cert, *key, *user, *password, *skip_verify, *insecure,
		*dial_timeout, *command_timeout, *discovery;
};

static const struct {
	const char *name; /* after the prefix */
	size_t offset;
} names[] = {
	{ "ENDPOINTS", offsetof(struct settings, endpoints) },
	{ "CACERT", offsetof(struct settings, cacert) },
	{ "CERT", offsetof(struct settings, cert) },
	{ "KEY", offsetof(struct settings, key) },
	{ "USER", offsetof(struct settings, user) },
	{ "PASSWORD", offsetof(struct settings, password) },
	{ "INSECURE_SKIP_TLS_VERIFY", offsetof(struct settings, skip_verify) },
	{ "INSECURE_TRANSPORT", offsetof(struct settings, insecure) },
	{ "DIAL_TIMEOUT", offsetof(struct settings, dial_timeout) },
	{ "COMMAND_TIMEOUT", offsetof(struct settings, command_timeout) },
	{ "DISCOVERY_SRV", offsetof(struct settings, discovery) },
};

/* Those of etcdctl that mean nothing here. */
static const char *const others[] = { "API",
				      "HEX",
				      "DEBUG",
				      "WRITE_OUT",
				      "KEEPALIVE_TIME",
				      "KEEPALIVE_TIMEOUT",
				      "INSECURE_DISCOVERY",
				      "DISCOVERY_SRV_NAME",
				      "AUTH_JWT_TOKEN",
				      "MAX_REQUEST_BYTES",
				      "MAX_RECV_BYTES" };

static char **setting(struct settings *settings, size_t i)
{
	return (char **)(void *)((char *)settings + names[i].offset);
}

/* --- where they come from --------------------------------------------------------------------- */

static bool from_environment(struct settings *settings)
{
	bool found = false;

	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		char name[64];

		strcpy(stpcpy(name, PREFIX), names[i].name);
		*setting(settings, i) = getenv(name);
		found = found || *setting(settings, i);
	}
	return found;
}

/* Strips blanks at both ends of TEXT. Returns its new beginning, and in *END its end. */
static char *trimmed(char *text, char **end)
{
	text += strspn(text, " \t\r");
	*end = text + strlen(text);
	while (*end > text && strchr(" \t\r", (*end)[-1]))
		*--*end = 0;
	return text;
}

/* Reads one line of FILE, which it changes and SETTINGS point into. Returns NULL or an error. */
static char *take_line(struct settings *settings, const char *file, unsigned number, char *line)
{
	char *value = strchr(line, '='), *end;

	if (value)
		*value++ = 0;
	line = trimmed(line, &end);
	if (*line == '#' || (*line == 0 && !value))
		return NULL;
	/* What is in the line may be a secret. */
	if (!value)
		return memory_format("%s: line %u is not NAME=value", file, number);
	if (!strncmp(line, "export ", 7))
		line = trimmed(line + 7, &end);
	value = trimmed(value, &end);
	if (end - value >= 2 && (*value == '"' || *value == '\'') && end[-1] == *value) {
		*--end = 0;
		value++;
	}
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (!strncmp(line, PREFIX, strlen(PREFIX)) &&
		    !strcmp(line + strlen(PREFIX), names[i].name)) {
			*setting(settings, i) = value;
			return NULL;
		}
	for (size_t i = 0; i < sizeof others / sizeof *others; i++)
		if (!strncmp(line, PREFIX, strlen(PREFIX)) &&
		    !strcmp(line + strlen(PREFIX), others[i]))
			return NULL;
	/* A typing error must not become a lock in another cluster. */
	return memory_format("%s: line %u: a variable that neither me-only nor etcdctl knows", file,
			     number);
}

/* SETTINGS point into *TEXT, to be freed. Returns NULL, or what is wrong. */
static char *from_file(struct settings *settings, const char *file, char **text)
{
	struct stat status;
	int fd = open(file, O_RDONLY | O_CLOEXEC);
	unsigned number = 1;
	char *error = NULL;
	ssize_t n;

	if (fd < 0)
		return errno == ENOENT || errno == ENOTDIR
			       ? NULL
			       : memory_format("%s: %s", file, strerror(errno));
	*text = memory_get(LARGEST_FILE);
	n = fstat(fd, &status) ? -1 : read(fd, *text, LARGEST_FILE);
	if (n < 0)
		error = memory_format("%s: %s", file, strerror(errno));
	else if (!S_ISREG(status.st_mode) || n == LARGEST_FILE || strlen(*text) != (size_t)n)
		error = memory_format("%s is not a text file, or is too large", file);
	close(fd);
	for (char *line = *text, *next; !error && line; line = next, number++) {
		next = strchr(line, '\n');
		if (next)
			*next++ = 0;
		error = take_line(settings, file, number, line);
	}
	if (!error && (status.st_mode & 0007) &&
	    (settings->password || (settings->user && strchr(settings->user, ':'))))
		error = memory_format("%s contains a password, and others can read it: chmod o= %s",
				      file, file);
	if (!error &&
	    ((status.st_mode & 0002) || (status.st_uid != 0 && status.st_uid != geteuid())))
		error = memory_format("%s is not used: another user can write it", file);
	return error;
}

/* --- what they mean --------------------------------------------------------------------------- */

static bool is_true(const char *text)
{
	return text && (!strcasecmp(text, "true") || !strcmp(text, "1") || !strcasecmp(text, "t"));
}

static char *add_endpoint(struct config *config, const char *text, size_t n, const char *scheme)
{
	char *url, *error = NULL;

	while (n > 0 && (*text == ' ' || *text == '\t'))
		text++, n--;
	while (n > 0 && (text[n - 1] == ' ' || text[n - 1] == '\t' || text[n - 1] == '/'))
		n--;
	if (n == 0)
		return memory_string("ETCDCTL_ENDPOINTS has an empty endpoint");
	url = memory_text(text, n);
	if (strstr(url, "://") && strncmp(url, "http://", 7) != 0 &&
	    strncmp(url, "https://", 8) != 0)
		error = memory_format("ETCDCTL_ENDPOINTS: neither http:// nor https://: '%s'", url);
	/* It would be shown in messages. */
	else if (strchr(url, '@'))
		error = memory_string(
			"ETCDCTL_ENDPOINTS: put the user in ETCDCTL_USER, not in the endpoint");
	if (!error) {
		config->endpoints = memory_grow(config->endpoints, config->n, &config->room,
						sizeof *config->endpoints);
		config->endpoints[config->n++] =
			memory_format("%s%s", strstr(url, "://") ? "" : scheme, url);
	}
	free(url);
	return error;
}

static char *read_endpoints(struct config *config, const char *text, bool tls)
{
	const char *end;
	char *error;

	do {
		end = text + strcspn(text, ",");
		error = add_endpoint(config, text, (size_t)(end - text),
				     tls ? "https://" : "http://");
		text = end + 1;
	} while (!error && *end);
	return error;
}

static char *read_duration(const char *name, const char *text, int64_t otherwise, int64_t *ns)
{
	*ns = otherwise;
	if (text && (duration_parse(text, ns) || *ns <= 0))
		return memory_format("ETCDCTL_%s is not a duration: '%s'", name, text);
	if (*ns > LONGEST_TIMEOUT)
		*ns = LONGEST_TIMEOUT;
	return NULL;
}

/*
 * A path that is valid in every directory, since a helper leaves the current one. A path that does
 * not exist stays as it is, for the message.
 */
static char *whole_path(const char *path)
{
	char *whole = path ? realpath(path, NULL) : NULL;

	return whole ? whole : memory_string(path);
}

static void read_user(struct config *config, const struct settings *settings)
{
	const char *colon = settings->user ? strchr(settings->user, ':') : NULL;

	/* With a password of its own the name may hold a colon: etcdctl does it so. */
	if (colon && !settings->password) {
		config->user = memory_text(settings->user, (size_t)(colon - settings->user));
		config->password = memory_string(colon + 1);
	} else {
		config->user = memory_string(settings->user);
		config->password = memory_string(settings->password);
	}
}

/* A file that cannot be read would be found out by the TLS library, in its own words. */
static char *check_file(const char *name, const char *path)
{
	return path && access(path, R_OK)
		       ? memory_format("ETCDCTL_%s: %s: %s", name, path, strerror(errno))
		       : NULL;
}

static char *interpret(struct config *config, struct settings *settings)
{
	char *error;
	bool tls;

	if (settings->discovery && *settings->discovery)
		return memory_string(
			"ETCDCTL_DISCOVERY_SRV is not supported: name the members in ETCDCTL_ENDPOINTS");
	/* An empty variable is none. */
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (*setting(settings, i) && !**setting(settings, i))
			*setting(settings, i) = NULL;
	config->cacert = whole_path(settings->cacert);
	config->cert = whole_path(settings->cert);
	config->key = whole_path(settings->key);
	config->skip_verify = is_true(settings->skip_verify);
	tls = settings->cacert || settings->cert || settings->key || config->skip_verify ||
	      (settings->insecure && !is_true(settings->insecure));
	read_user(config, settings);
	error = read_endpoints(config, settings->endpoints ? settings->endpoints : DEFAULT_ENDPOINT,
			       tls);
	if (!error)
		error = read_duration("DIAL_TIMEOUT", settings->dial_timeout, DIAL_TIMEOUT,
				      &config->dial_timeout);
	if (!error)
		error = read_duration("COMMAND_TIMEOUT", settings->command_timeout, COMMAND_TIMEOUT,
				      &config->command_timeout);
	if (!error)
		error = check_file("CACERT", config->cacert);
	if (!error)
		error = check_file("CERT", config->cert);
	if (!error)
		error = check_file("KEY", config->key);
	if (!error && !config->cert != !config->key)
		error = memory_string(
			"ETCDCTL_CERT and ETCDCTL_KEY belong together: set both or neither");
	if (!error && config->user && !config->password)
		error = memory_format(
			"ETCDCTL_USER names '%s', but there is no password: set ETCDCTL_PASSWORD",
			config->user);
	return error;
}

char *config_read(struct config *config, const char *file)
{
	struct settings settings = { .user = NULL };
	char *text = NULL,
	     *error = from_environment(&settings) ? NULL : from_file(&settings, file, &text);

	*config = (struct config){ .n = 0 };
	if (!error)
		error = interpret(config, &settings);
	free(text);
	return error;
}

void config_free(struct config *config)
{
	for (size_t i = 0; i < config->n; i++)
		free(config->endpoints[i]);
	free(config->endpoints);
	free(config->cacert);
	free(config->cert);
	free(config->key);
	free(config->user);
	free(config->password);
	*config = (struct config){ .n = 0 };
}
