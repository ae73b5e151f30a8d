#include "etcd/config.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/deadline.h"
#include "base/duration.h"
#include "base/memory.h"
#include "base/trust.h"
#include "etcd/endpoint.h"

#define PREFIX "ETCDCTL_"
#define LARGEST_FILE 65536
#define DEFAULT_ENDPOINT "127.0.0.1"
#define DIAL_TIMEOUT_NS (2 * NS_PER_S)
#define COMMAND_TIMEOUT_NS (5 * NS_PER_S)

/* Longer than anybody means: what it is added to is not to overflow. */
#define LONGEST_TIMEOUT (366 * 86400LL * NS_PER_S)

enum variable {
	ENDPOINTS,
	CACERT,
	CERT,
	KEY,
	USER,
	PASSWORD,
	SKIP_VERIFY,
	INSECURE,
	DIAL_TIMEOUT,
	COMMAND_TIMEOUT,
	DISCOVERY,
	VARIABLES
};

/* After the prefix. */
static const char *const names[VARIABLES] = {
	[ENDPOINTS] = "ENDPOINTS",
	[CACERT] = "CACERT",
	[CERT] = "CERT",
	[KEY] = "KEY",
	[USER] = "USER",
	[PASSWORD] = "PASSWORD",
	[SKIP_VERIFY] = "INSECURE_SKIP_TLS_VERIFY",
	[INSECURE] = "INSECURE_TRANSPORT",
	[DIAL_TIMEOUT] = "DIAL_TIMEOUT",
	[COMMAND_TIMEOUT] = "COMMAND_TIMEOUT",
	[DISCOVERY] = "DISCOVERY_SRV",
};

/* What was given, before the settings are checked against each other. */
struct settings {
	char *values[VARIABLES]; /* NULL: none */
	const char *file;
	bool of_file[VARIABLES]; /* from there, not from the environment */
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

/* --- where they come from --------------------------------------------------------------------- */

/* An empty variable is none. */
static char *unless_empty(char *value)
{
	return value && *value ? value : NULL;
}

static void from_environment(struct settings *settings)
{
	for (size_t i = 0; i < VARIABLES; i++) {
		char name[64];

		strcpy(stpcpy(name, PREFIX), names[i]);
		settings->values[i] = unless_empty(getenv(name));
	}
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

/* Reads one line of FILE, which it changes and VALUES point into. Returns NULL or an error. */
static char *take_line(char *values[VARIABLES], const char *file, unsigned number, char *line)
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
	for (size_t i = 0; i < VARIABLES; i++)
		if (!strncmp(line, PREFIX, strlen(PREFIX)) &&
		    !strcmp(line + strlen(PREFIX), names[i])) {
			values[i] = unless_empty(value);
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

/* Reads FD into TEXT. Returns NULL, or what is wrong with FILE. */
static char *read_text(int fd, const char *file, char text[LARGEST_FILE])
{
	struct stat status;
	ssize_t n = fstat(fd, &status) ? -1 : read(fd, text, LARGEST_FILE);

	if (n < 0)
		return memory_format("%s: %s", file, strerror(errno));
	if (!S_ISREG(status.st_mode) || n == LARGEST_FILE || strlen(text) != (size_t)n)
		return memory_format("%s is not a text file, or is too large", file);
	return NULL;
}

/* A password is no secret if others can read FD. Returns NULL, or what is wrong with FILE. */
static char *check_secret(int fd, const char *file, char *const values[VARIABLES])
{
	struct stat status;

	if (!values[PASSWORD] && !(values[USER] && strchr(values[USER], ':')))
		return NULL;
	if (fstat(fd, &status) == 0 && !(status.st_mode & S_IROTH))
		return NULL;
	return memory_format("%s contains a password, and others can read it: chmod o= %s", file,
			     file);
}

/* Opens FILE and its DIRECTORY. Returns a negative errno, or 0 if there is none. */
static int open_file(const char *file, int *directory)
{
	const char *name = strrchr(file, '/') + 1;
	char *path = memory_text(file, (size_t)(name - file));
	struct stat status;
	int fd;

	*directory = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	free(path);
	if (*directory < 0)
		return errno == ENOENT || errno == ENOTDIR ? 0 : -errno;
	/* It could be a FIFO. */
	fd = openat(*directory, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd >= 0)
		return fd;
	fd = -errno;
	/* A link that leads nowhere was meant to lead to a cluster. */
	if (fd == -ENOENT && fstatat(*directory, name, &status, AT_SYMLINK_NOFOLLOW) &&
	    errno == ENOENT)
		fd = 0;
	close(*directory);
	return fd;
}

/* A helper's rules; and no group may write: unlike a program, nobody builds this file. */
static bool is_safe(int fd)
{
	struct stat status;

	return trust_file(fd) && fstat(fd, &status) == 0 && !(status.st_mode & S_IWGRP);
}

/* Whether only root and this user decide what the file FD is. A link in DIRECTORY may lead to it.
 */
static bool may_be_used(int fd, int directory)
{
	char link[64], path[PATH_MAX];
	bool safe = is_safe(directory) && is_safe(fd);
	ssize_t n;

	(void)snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	n = safe ? readlink(link, path, sizeof path - 1) : -1;
	if (n > 0) {
		path[n] = 0;
		*(strrchr(path, '/') + 1) = 0;
		directory = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
		safe = directory >= 0 && is_safe(directory);
		if (directory >= 0)
			close(directory);
	}
	return safe;
}

/* VALUES point into *TEXT, to be freed. Returns NULL, or what is wrong. */
static char *read_file(char *values[VARIABLES], const char *file, char **text)
{
	int directory, fd = open_file(file, &directory);
	unsigned number = 1;
	char *error;

	if (fd <= 0)
		return fd ? memory_format("%s: %s", file, strerror(-fd)) : NULL;
	*text = memory_get(LARGEST_FILE);
	/* Its writer decides where the locks are. */
	error = may_be_used(fd, directory)
			? read_text(fd, file, *text)
			: memory_format(
				  "refusing to read %s: it or its directory is writable by others",
				  file);
	for (char *line = *text, *next; !error && line; line = next, number++) {
		next = strchr(line, '\n');
		if (next)
			*next++ = 0;
		error = take_line(values, file, number, line);
	}
	if (!error)
		error = check_secret(fd, file, values);
	close(directory);
	close(fd);
	return error;
}

/*
 * Adds what is only in FILE; but not its password to a user name from the environment, nor its key
 * to a certificate from there.
 */
static char *from_file(struct settings *settings, const char *file, char **text)
{
	char *values[VARIABLES] = { NULL }, *error = read_file(values, file, text);

	if (settings->values[USER])
		values[PASSWORD] = NULL;
	if (settings->values[CERT])
		values[KEY] = NULL;
	settings->file = file;
	for (size_t i = 0; i < VARIABLES && !error; i++)
		if (!settings->values[i] && values[i]) {
			settings->values[i] = values[i];
			settings->of_file[i] = true;
		}
	return error;
}

/* --- what they mean --------------------------------------------------------------------------- */

static bool is_true(const char *text)
{
	return text && (!strcasecmp(text, "true") || !strcmp(text, "1") || !strcasecmp(text, "t"));
}

/* An ERROR begins with the name of the variable that it is about: adds in which file that is. */
static char *placed(const struct settings *settings, enum variable variable, char *error)
{
	char *text;

	if (!error || !settings->of_file[variable])
		return error;
	text = memory_format("%s: %s", settings->file, error);
	free(error);
	return text;
}

static char *read_endpoints(struct config *config, const char *text, bool tls)
{
	const char *end;
	char *error;

	do {
		char *url = NULL;

		end = text + strcspn(text, ",");
		error = endpoint_read(text, (size_t)(end - text), tls, &url);
		if (!error) {
			config->endpoints = memory_grow(config->endpoints, config->n, &config->room,
							sizeof *config->endpoints);
			config->endpoints[config->n++] = url;
		}
		text = end + 1;
	} while (!error && *end);
	return error;
}

static char *read_duration(const struct settings *settings, enum variable variable,
			   int64_t otherwise, int64_t *ns)
{
	const char *text = settings->values[variable];

	*ns = otherwise;
	if (text && (duration_parse(text, ns) || *ns <= 0))
		return placed(
			settings, variable,
			memory_format("ETCDCTL_%s is not a duration: '%s'", names[variable], text));
	if (*ns > LONGEST_TIMEOUT)
		*ns = LONGEST_TIMEOUT;
	return NULL;
}

/*
 * A path that is valid in every directory, since a helper leaves the current one. Links are not
 * followed: one may lead elsewhere when the file is read again.
 */
static char *whole_path(const char *path)
{
	char *directory, *whole;

	if (!path || *path == '/')
		return memory_string(path);
	directory = getcwd(NULL, 0);
	whole = directory && *directory == '/' ? memory_format("%s/%s", directory, path)
					       : memory_string(path);
	free(directory);
	return whole;
}

static void read_user(struct config *config, const struct settings *settings)
{
	const char *user = settings->values[USER], *password = settings->values[PASSWORD],
		   *colon = user ? strchr(user, ':') : NULL;

	/* With a password of its own the name may hold a colon: etcdctl does it so. */
	if (colon && !password) {
		config->user = memory_text(user, (size_t)(colon - user));
		config->password = memory_string(colon + 1);
	} else {
		config->user = memory_string(user);
		config->password = memory_string(password);
	}
}

/* Reads the files: what is wrong with them is found before anything is connected. */
static char *read_credentials(struct config *config, const struct settings *settings)
{
	static const enum variable variables[CREDENTIALS] = {
		[CREDENTIAL_CACERT] = CACERT, [CREDENTIAL_CERT] = CERT, [CREDENTIAL_KEY] = KEY
	};
	const char *paths[CREDENTIALS];
	enum credential which;
	char *error;

	config->cacert = whole_path(settings->values[CACERT]);
	config->cert = whole_path(settings->values[CERT]);
	config->key = whole_path(settings->values[KEY]);
	paths[CREDENTIAL_CACERT] = config->cacert;
	paths[CREDENTIAL_CERT] = config->cert;
	paths[CREDENTIAL_KEY] = config->key;
	if (!config->cert != !config->key)
		return placed(
			settings, config->cert ? CERT : KEY,
			memory_string(
				"ETCDCTL_CERT and ETCDCTL_KEY belong together: set both or neither"));
	if (!config->cacert && !config->cert)
		return NULL;
	config->credentials = memory_get(sizeof *config->credentials);
	error = credentials_open(config->credentials, paths, &which);
	return error ? placed(settings, variables[which], error) : NULL;
}

static char *interpret(struct config *config, const struct settings *settings)
{
	char *const *values = settings->values;
	char *error;
	bool tls;

	if (values[DISCOVERY])
		return placed(
			settings, DISCOVERY,
			memory_string(
				"ETCDCTL_DISCOVERY_SRV is not supported: name the members in ETCDCTL_ENDPOINTS"));
	config->source = !values[ENDPOINTS]		? CONFIG_BY_DEFAULT
			 : settings->of_file[ENDPOINTS] ? CONFIG_OF_FILE
							: CONFIG_OF_ENVIRONMENT;
	config->skip_verify = is_true(values[SKIP_VERIFY]);
	tls = values[CACERT] || values[CERT] || values[KEY] || config->skip_verify ||
	      (values[INSECURE] && !is_true(values[INSECURE]));
	read_user(config, settings);
	error = placed(settings, ENDPOINTS,
		       read_endpoints(config,
				      values[ENDPOINTS] ? values[ENDPOINTS] : DEFAULT_ENDPOINT,
				      tls));
	if (!error)
		error = read_duration(settings, DIAL_TIMEOUT, DIAL_TIMEOUT_NS,
				      &config->dial_timeout);
	if (!error)
		error = read_duration(settings, COMMAND_TIMEOUT, COMMAND_TIMEOUT_NS,
				      &config->command_timeout);
	if (!error)
		error = read_credentials(config, settings);
	if (!error && config->user && !config->password)
		error = placed(
			settings, USER,
			memory_format(
				"ETCDCTL_USER names '%s', but there is no password: set ETCDCTL_PASSWORD",
				config->user));
	return error;
}

char *config_read(struct config *config, const char *file)
{
	struct settings settings = { .file = NULL };
	char *text = NULL, *error = NULL;

	*config = (struct config){ .n = 0 };
	from_environment(&settings);
	/* Only this variable can lead to another cluster. */
	if (!settings.values[ENDPOINTS])
		error = from_file(&settings, file, &text);
	if (!error)
		error = interpret(config, &settings);
	if (text)
		explicit_bzero(text, LARGEST_FILE);
	free(text);
	return error;
}

const char *config_source(const struct config *config)
{
	static const char *const sources[] = {
		[CONFIG_BY_DEFAULT] = "the default endpoint",
		[CONFIG_OF_FILE] = ("endpoints from " CONFIG_FILE),
		[CONFIG_OF_ENVIRONMENT] = "endpoints from ETCDCTL_ENDPOINTS",
	};

	return sources[config->source];
}

void config_free(struct config *config)
{
	for (size_t i = 0; i < config->n; i++)
		free(config->endpoints[i]);
	free(config->endpoints);
	if (config->credentials)
		credentials_close(config->credentials);
	free(config->credentials);
	free(config->cacert);
	free(config->cert);
	free(config->key);
	free(config->user);
	free(config->password);
	*config = (struct config){ .n = 0 };
}
