#include "etcd/answer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

/* --- what has gone wrong ---------------------------------------------------------------------- */

void answer_free(struct answer *answer)
{
	body_free(&answer->body);
	free(answer->text);
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
				"%s closed the connection: it may not speak TLS, or may require another client certificate (ETCDCTL_CERT, ETCDCTL_KEY)",
				asked->url));
	else
		answer_fail(answer, OUTCOME_CLOSED,
			    memory_format("%s closed the connection: it may require TLS (https://)",
					  asked->url));
}

/* An HTTP answer that is not etcd's. */
static void explain_other(struct answer *answer, const struct asked *asked, const struct rpc *rpc)
{
	const char *url = asked->url;

	/* 429, "too many requests" from a proxy, may pass as well. */
	if (rpc->http >= 500 || rpc->http == 429)
		answer_fail(answer, OUTCOME_RETRY,
			    memory_format("%s: HTTP status %d", url, rpc->http));
	else if (rpc->http != 200)
		answer_fail(answer, OUTCOME_USELESS,
			    memory_format("%s does not answer like etcd: HTTP status %d", url,
					  rpc->http));
	else
		answer_fail(answer, asked->known ? OUTCOME_RETRY : OUTCOME_USELESS,
			    memory_format("%s does not answer like etcd: %s", url,
					  rpc->detail ? rpc->detail : "no answer"));
}

void answer_explain(struct answer *answer, const struct asked *asked, const struct rpc *rpc)
{
	const char *url = asked->url, *detail = rpc->detail ? rpc->detail : "no reason given";
	/* An endpoint that has answered before is being restarted. */
	const enum outcome refused = asked->known ? OUTCOME_RETRY : OUTCOME_USELESS;

	switch (rpc->failure) {
	case FAILURE_NAME:
		answer_fail(answer, OUTCOME_RETRY,
			    memory_format("the name of %s cannot be resolved", url));
		break;
	case FAILURE_CONNECT:
		answer_fail(answer, OUTCOME_RETRY,
			    memory_format("%s cannot be reached: %s", url, detail));
		break;
	case FAILURE_SILENT:
		answer_fail(answer, OUTCOME_RETRY, memory_format("%s does not answer", url));
		break;
	case FAILURE_CERTIFICATE:
		answer_fail(
			answer, refused,
			memory_format(
				"cannot verify the certificate of %s (is ETCDCTL_CACERT set to the right CA?): %s",
				url, detail));
		break;
	case FAILURE_FILES:
		answer_fail(
			answer, refused,
			memory_format(
				"cannot use the file of ETCDCTL_CERT, ETCDCTL_KEY or ETCDCTL_CACERT: %s",
				detail));
		break;
	case FAILURE_TLS:
		answer_fail(
			answer, refused,
			memory_format(
				"%s does not speak TLS, or rejects the client certificate (ETCDCTL_CERT, ETCDCTL_KEY): %s",
				url, detail));
		break;
	case FAILURE_PROTOCOL:
		/* A server that has answered before speaks HTTP/2. */
		if (asked->known) {
			explain_end(answer, asked);
			break;
		}
		answer_fail(
			answer, refused,
			memory_format("%s does not speak HTTP/2: is it etcd's client port?", url));
		break;
	case FAILURE_ANSWER: explain_other(answer, asked, rpc); break;
	case FAILURE_CLOSED: explain_end(answer, asked); break;
	default: answer_fail(answer, OUTCOME_RETRY, memory_format("%s: %s", url, detail));
	}
}

/* --- reading ---------------------------------------------------------------------------------- */

void answer_read(struct answer *answer, const struct asked *asked, struct rpc *rpc)
{
	if (rpc->status) {
		answer->outcome = errors_judge(asked, (unsigned)rpc->status,
					       rpc->message ? rpc->message : "no reason given",
					       &answer->text);
		return;
	}
	if (!body_read(&answer->body, rpc->path, rpc->answer.all, rpc->answer.n)) {
		body_free(&answer->body);
		answer_fail(answer, asked->known ? OUTCOME_RETRY : OUTCOME_USELESS,
			    memory_format("%s does not answer like etcd", asked->url));
		return;
	}
	answer->outcome = OUTCOME_DONE;
	answer->body.bytes = rpc->answer.all;
	rpc->answer = (struct bytes){ .n = 0 };
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
