#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../deadline.h"
#include "../duration.h"
#include "../memory.h"

#define PREFIX "ETCDCTL_"
#define LARGEST_FILE 65536
#define DEFAULT_ENDPOINT "127.0.0.1:2379"
#define DIAL_TIMEOUT (2 * NS_PER_S)
#define COMMAND_TIMEOUT (5 * NS_PER_S)

/* What was given, before it is known what it means together. */
struct settings {
	char *endpoints, *cacert, *cert, *key, *user, *password, *skip_verify, *insecure, *dial_timeout, *command_timeout, *discovery;
};

static const struct {
	const char *name;	/* after the prefix */
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

static char **setting(struct settings *settings, size_t i)
{
	return (char **)(void *)((char *)settings + names[i].offset);
}

static char *problem(const char *format, const char *a, const char *b)
{
	char *text;

	return asprintf(&text, format, a, b) < 0 ? memory_text("out of memory", strlen("out of memory")) : text;
}

/* --- where they come from ---------------------------------------------------------------------------------------------------- */

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

/* One line of the file, which it may change and whose text SETTINGS keep. Returns NULL, or what is wrong. */
static char *take_line(struct settings *settings, char *line)
{
	char *value = strchr(line, '='), *end;

	line += strspn(line, " \t");
	if (!strncmp(line, "export ", 7))
		line += 7;
	if (*line == 0 || *line == '#')
		return NULL;
	if (!value)
		return problem("%s: not NAME=value: '%s'", CONFIG_FILE, line);
	*value++ = 0;
	end = value + strlen(value);
	while (end > value && (end[-1] == ' ' || end[-1] == '\t' || end[-1] == '\r'))
		*--end = 0;
	if (end - value >= 2 && (*value == '"' || *value == '\'') && end[-1] == *value) {
		*--end = 0;
		value++;
	}
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (!strncmp(line, PREFIX, strlen(PREFIX)) && !strcmp(line + strlen(PREFIX), names[i].name)) {
			*setting(settings, i) = value;
			return NULL;
		}
	/* etcdctl has more of them, which mean nothing here. */
	return strncmp(line, PREFIX, strlen(PREFIX)) ? problem("%s: an unknown name: %s", CONFIG_FILE, line) : NULL;
}

static char *from_file(struct settings *settings)
{
	struct stat status;
	int fd = open(CONFIG_FILE, O_RDONLY | O_CLOEXEC);
	char *text, *error = NULL;
	ssize_t n;

	if (fd < 0)
		return errno == ENOENT || errno == ENOTDIR ? NULL : problem("%s: %s", CONFIG_FILE, strerror(errno));
	text = memory_get(LARGEST_FILE);
	n = fstat(fd, &status) ? -1 : read(fd, text, LARGEST_FILE - 1);
	if (n < 0)
		error = problem("%s: %s", CONFIG_FILE, strerror(errno));
	close(fd);
	for (char *line = text, *next; !error && line; line = next) {
		next = strchr(line, '\n');
		if (next)
			*next++ = 0;
		error = take_line(settings, line);
	}
	if (!error && (status.st_mode & 0007) && (settings->password || (settings->user && strchr(settings->user, ':'))))
		return problem("%s holds a password, and others can read it: chmod o= %s", CONFIG_FILE, CONFIG_FILE);
	return error;
}

/* --- what they mean ---------------------------------------------------------------------------------------------------------- */

static bool is_true(const char *text)
{
	return text && (!strcasecmp(text, "true") || !strcmp(text, "1") || !strcasecmp(text, "t"));
}

static char *add_endpoint(struct config *config, const char *text, size_t n, const char *scheme)
{
	char *url;

	while (n > 0 && (*text == ' ' || *text == '\t'))
		text++, n--;
	while (n > 0 && (text[n - 1] == ' ' || text[n - 1] == '\t' || text[n - 1] == '/'))
		n--;
	if (n == 0)
		return problem("ETCDCTL_ENDPOINTS has an empty endpoint%s%s", "", "");
	url = memory_text(text, n);
	if (strstr(url, "://") && strncmp(url, "http://", 7) != 0 && strncmp(url, "https://", 8) != 0)
		return problem("ETCDCTL_ENDPOINTS: neither http:// nor https://: '%s'%s", url, "");
	/* It would be shown in messages. */
	if (strchr(url, '@'))
		return problem("ETCDCTL_ENDPOINTS: a user belongs into ETCDCTL_USER, not into an endpoint%s%s", "", "");
	config->endpoints = reallocarray(config->endpoints, config->n + 1, sizeof *config->endpoints);
	config->endpoints[config->n++] = strstr(url, "://") ? url : problem("%s%s", scheme, url);
	return NULL;
}

static char *read_endpoints(struct config *config, const char *text, bool tls)
{
	const char *end;
	char *error;

	do {
		end = text + strcspn(text, ",");
		error = add_endpoint(config, text, (size_t)(end - text), tls ? "https://" : "http://");
		text = end + 1;
	} while (!error && *end);
	return error;
}

static char *read_duration(const char *name, const char *text, int64_t otherwise, int64_t *ns)
{
	*ns = otherwise;
	if (text && (duration_parse(text, ns) || *ns <= 0))
		return problem("ETCDCTL_%s is no duration: '%s'", name, text);
	return NULL;
}

static void read_user(struct config *config, struct settings *settings)
{
	char *colon = settings->user ? strchr(settings->user, ':') : NULL;

	config->user = settings->user ? strdup(settings->user) : NULL;
	config->password = settings->password;
	/* With a password of its own the name may hold a colon: etcdctl does it so. */
	if (colon && !settings->password) {
		config->user[colon - settings->user] = 0;
		config->password = strdup(colon + 1);
	}
}

/* A file that cannot be read would be found out by the TLS library, in its own words. */
static char *check_file(const char *name, const char *path)
{
	return path && access(path, R_OK) ? problem(name, path, strerror(errno)) : NULL;
}

char *config_read(struct config *config)
{
	struct settings settings = { .user = NULL };
	char *error = from_environment(&settings) ? NULL : from_file(&settings);
	bool tls;

	*config = (struct config){ .n = 0 };
	if (error)
		return error;
	if (settings.discovery && *settings.discovery)
		return problem("ETCDCTL_DISCOVERY_SRV is not supported: name the members in ETCDCTL_ENDPOINTS%s%s", "", "");
	/* An empty variable is none. */
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (*setting(&settings, i) && !**setting(&settings, i))
			*setting(&settings, i) = NULL;
	config->cacert = settings.cacert;
	config->cert = settings.cert;
	config->key = settings.key;
	config->skip_verify = is_true(settings.skip_verify);
	tls = settings.cacert || settings.cert || settings.key || config->skip_verify || (settings.insecure && !is_true(settings.insecure));
	read_user(config, &settings);
	if (!error)
		error = read_endpoints(config, settings.endpoints ? settings.endpoints : DEFAULT_ENDPOINT, tls);
	if (!error)
		error = read_duration("DIAL_TIMEOUT", settings.dial_timeout, DIAL_TIMEOUT, &config->dial_timeout);
	if (!error)
		error = read_duration("COMMAND_TIMEOUT", settings.command_timeout, COMMAND_TIMEOUT, &config->command_timeout);
	if (!error)
		error = check_file("ETCDCTL_CACERT: %s: %s", config->cacert);
	if (!error)
		error = check_file("ETCDCTL_CERT: %s: %s", config->cert);
	if (!error)
		error = check_file("ETCDCTL_KEY: %s: %s", config->key);
	if (!error && !config->cert != !config->key)
		return problem("ETCDCTL_CERT and ETCDCTL_KEY belong together: give both or none%s%s", "", "");
	if (!error && config->user && !config->password)
		return problem("ETCDCTL_USER names '%s', but there is no password: set ETCDCTL_PASSWORD%s", config->user, "");
	return error;
}
