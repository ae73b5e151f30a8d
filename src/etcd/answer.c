#include "etcd/answer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

/* gRPC's code for what it has none for, and the last that it has. */
#define UNKNOWN 2
#define LAST_CODE 16

/* --- numbers ---------------------------------------------------------------------------------- */

uint64_t answer_number(const json_t *object, const char *name)
{
	const json_t *value = json_object_get(object, name);

	/* 64-bit numbers are strings, of which a lease's may be negative in answers. */
	if (json_is_string(value))
		return json_string_value(value)[0] == '-'
			       ? (uint64_t)strtoll(json_string_value(value), NULL, 10)
			       : strtoull(json_string_value(value), NULL, 10);
	return json_is_integer(value) ? (uint64_t)json_integer_value(value) : 0;
}

uint64_t answer_header(const json_t *body, const char *name)
{
	return answer_number(json_object_get(body, "header"), name);
}

/* --- what has gone wrong ---------------------------------------------------------------------- */

void answer_free(struct answer *answer)
{
	json_decref(answer->body);
	free(answer->text);
	answer->body = NULL;
	answer->text = NULL;
}

void answer_fail(struct answer *answer, enum outcome outcome, char *text)
{
	answer->outcome = outcome;
	answer->text = text;
}

/*
 * The connection was closed without an answer. With TLS 1.3, the server checks our certificate only
 * after the handshake.
 */
static void explain_end(struct answer *answer, const struct asked *asked)
{
	if (asked->known)
		answer_fail(answer, OUTCOME_RETRY,
			    memory_format("%s closed the connection", asked->url));
	else if (!strncmp(asked->url, "https:", 6))
		answer_fail(
			answer, OUTCOME_CLOSED,
			memory_format(
				"%s closed the connection: it may require another client certificate (ETCDCTL_CERT, "
				"ETCDCTL_KEY)",
				asked->url));
	else
		answer_fail(answer, OUTCOME_CLOSED,
			    memory_format("%s closed the connection: it may require TLS (https://)",
					  asked->url));
}

void answer_explain(struct answer *answer, const struct asked *asked, CURLcode curl,
		    const char *detail)
{
	const char *url = asked->url;
	/* One that has answered before is being restarted. */
	const enum outcome refused = asked->known ? OUTCOME_RETRY : OUTCOME_USELESS;

	switch (curl) {
	case CURLE_COULDNT_RESOLVE_HOST:
		answer_fail(answer, OUTCOME_RETRY,
			    memory_format("the name of %s cannot be resolved", url));
		break;
	case CURLE_COULDNT_CONNECT:
		answer_fail(answer, OUTCOME_RETRY,
			    memory_format("%s cannot be reached: %s", url, detail));
		break;
	case CURLE_OPERATION_TIMEDOUT:
		answer_fail(answer, OUTCOME_RETRY, memory_format("%s does not answer", url));
		break;
	case CURLE_PEER_FAILED_VERIFICATION:
		answer_fail(
			answer, refused,
			memory_format(
				"cannot verify the certificate of %s (is ETCDCTL_CACERT set to the right CA?): %s",
				url, detail));
		break;
	case CURLE_SSL_CERTPROBLEM:
	case CURLE_SSL_CACERT_BADFILE:
		answer_fail(
			answer, refused,
			memory_format(
				"cannot use the file of ETCDCTL_CERT, ETCDCTL_KEY or ETCDCTL_CACERT: %s",
				detail));
		break;
	case CURLE_SSL_CONNECT_ERROR:
		answer_fail(
			answer, refused,
			memory_format(
				"%s does not speak TLS, or rejects the client certificate (ETCDCTL_CERT, ETCDCTL_KEY): %s",
				url, detail));
		break;
	case CURLE_WEIRD_SERVER_REPLY:
	case CURLE_UNSUPPORTED_PROTOCOL:
	case CURLE_HTTP2:
		/* A server that has answered before speaks HTTP. */
		if (asked->known || !strncmp(url, "https:", 6)) {
			explain_end(answer, asked);
			break;
		}
		answer_fail(
			answer, refused,
			memory_format("%s does not speak HTTP: is it etcd's client port?", url));
		break;
	case CURLE_GOT_NOTHING:
	case CURLE_SEND_ERROR:
	case CURLE_RECV_ERROR: explain_end(answer, asked); break;
	default: answer_fail(answer, OUTCOME_RETRY, memory_format("%s: %s", url, detail));
	}
}

/*
 * The message of an error, or NULL, and its code, in any shape that etcd's versions use. The code
 * is 0 if BODY is not an error:
 *
 *  3.4, and 3.5 as released    {"error":TEXT,"message":TEXT,"code":N}
 *  the same, of a stream {"error":{"grpc_code":N,"http_code":N,"message":TEXT,"http_status":TEXT}}
 *  3.6, and 3.5 as in Debian   {"code":N,"message":TEXT}
 *  the same, of a stream       {"error":{"code":N,"message":TEXT}}
 */
static const char *error_in(const json_t *body, unsigned *code)
{
	const json_t *error = json_object_get(body, "error"),
		     *message = json_object_get(body, "message");
	uint64_t n = answer_number(body, "code");

	if (json_is_object(error)) {
		n = answer_number(error, json_object_get(error, "code") ? "code" : "grpc_code");
		message = json_object_get(error, "message");
	} else if (!message) {
		message = error;
	}
	*code = n > LAST_CODE || (n == 0 && error) ? UNKNOWN : (unsigned)n;
	return json_is_string(message) ? json_string_value(message) : NULL;
}

/* An answer that is no JSON, or none of etcd's. */
static void explain_other(struct answer *answer, const struct asked *asked, long status,
			  const char *text)
{
	const char *url = asked->url;
	char shown[120];

	if (text && strstr(text, "CommonName"))
		answer_fail(
			answer, OUTCOME_USELESS,
			memory_format(
				"%s accepts no client certificate with a common name through its JSON gateway while users "
				"are enabled: use one with an empty CN (ETCDCTL_CERT)",
				url));
	else if (text && strstr(text, "HTTP request to an HTTPS server"))
		answer_fail(
			answer, OUTCOME_USELESS,
			memory_format("%s requires TLS: write https:// in ETCDCTL_ENDPOINTS", url));
	else if (status == 404)
		answer_fail(
			answer, OUTCOME_USELESS,
			memory_format(
				"%s has no JSON gateway: it may be disabled (--enable-grpc-gateway), on another port "
				"(--listen-client-http-urls), or this is older than etcd 3.4",
				url));
	else if (status >= 500)
		answer_fail(answer, OUTCOME_RETRY,
			    memory_format("%s: HTTP status %ld", url, status));
	else {
		size_t n = 0;

		for (; text && text[n] && n < sizeof shown - 1; n++)
			shown[n] = (char)(text[n] >= ' ' && text[n] < 127 ? text[n] : ' ');
		shown[n] = 0;
		answer_fail(answer, OUTCOME_USELESS,
			    memory_format("%s does not answer like etcd: HTTP status %ld, \"%s\"",
					  url, status, shown));
	}
}

/* --- reading ---------------------------------------------------------------------------------- */

/* The first value in the N bytes TEXT: an answer of a stream may be followed by others. */
static json_t *parse(const char *text, size_t n)
{
	return text ? json_loadb(text, n, JSON_DISABLE_EOF_CHECK, NULL) : NULL;
}

void answer_read(struct answer *answer, const struct asked *asked, long status, const char *text,
		 size_t n)
{
	json_t *body = parse(text, n), *result = json_object_get(body, "result");
	const char *message;
	unsigned code;

	if (!json_is_object(body)) {
		explain_other(answer, asked, status, text);
		json_decref(body);
		return;
	}
	message = error_in(body, &code);
	if (code || status != 200) {
		answer->outcome =
			errors_judge(asked, code ? code : UNKNOWN,
				     message ? message : "no reason given", &answer->text);
		json_decref(body);
		return;
	}
	answer->outcome = OUTCOME_DONE;
	/* Streams wrap their answers. */
	answer->body = json_incref(json_is_object(result) ? result : body);
	json_decref(body);
}

json_t *answer_result(const char *line, size_t n)
{
	json_t *body = parse(line, n), *result = json_object_get(body, "result");

	if (!json_is_object(result))
		result = NULL;
	json_incref(result);
	json_decref(body);
	return result;
}

bool answer_is_of_old(const char *version)
{
	unsigned long parts[3]; /* "3.4.23" */
	char *end;

	for (size_t i = 0; i < 3; i++, version = end + 1) {
		if (*version < '0' || *version > '9')
			return false;
		parts[i] = strtoul(version, &end, 10);
		if (i < 2 && *end != '.')
			return false;
	}
	return parts[0] < 3 ||
	       (parts[0] == 3 && (parts[1] < 4 || (parts[1] == 4 && parts[2] < 31) ||
				  (parts[1] == 5 && parts[2] < 13)));
}
