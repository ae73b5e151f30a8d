/* How calls to etcd end, and the messages about that. */
#include <stdlib.h>

#include "etcd/answer.h"
#include "etcd/requests.h"
#include "tap.h"

#define URL "http://a:2379"

static struct answer answer;
static struct asked asked = { .url = URL };

/* Reads again how a call of PATH ends that the N bytes TEXT answer. */
static void read_bytes(const char *path, int status, const char *message, const char *text, size_t n)
{
	struct rpc rpc = { .path = path, .done = true, .http = 200, .status = status, .message = (char *)(uintptr_t)message };

	bytes_add(&rpc.answer, text, n);
	answer_free(&answer);
	answer = (struct answer){ .outcome = OUTCOME_STOPPED };
	answer_read(&answer, &asked, &rpc);
	bytes_free(&rpc.answer);
}

static void good_answers(void)
{
	/* Header { cluster_id: 7, revision: 300, raft_term: 2 }, ID: 5, TTL: -1 */
	read_bytes(PATH_TIME_TO_LIVE, 0, NULL, "\x0a\x07\x08\x07\x18\xac\x02\x20\x02\x10\x05\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 22);
	ok(answer.outcome == OUTCOME_DONE && answer.body.cluster == 7 && answer.body.revision == 300 && answer.body.term == 2, "a header");
	ok(answer.body.lease == 5 && (int64_t)answer.body.ttl == -1, "a lease that has ended");
	/* succeeded, a range with the pair k = v, created at 3, and a transaction that has succeeded */
	read_bytes(PATH_TXN, 0, NULL, "\x10\x01\x1a\x0c\x0a\x0a\x12\x08\x0a\x01k\x10\x03\x2a\x01v\x1a\x04\x22\x02\x10\x01", 22);
	ok(answer.outcome == OUTCOME_DONE && answer.body.succeeded && answer.body.responses.n == 2, "a transaction");
	if (answer.body.responses.n == 2) {
		const struct body *responses = answer.body.responses.all;
		const struct pair *pair = responses[0].pairs.all;

		ok(responses[0].pairs.n == 1 && pair->created == 3 && pair->key.n == 1 && *pair->key.at == 'k' && *pair->value.at == 'v', "a pair");
		ok(responses[1].succeeded && !responses[1].pairs.n, "one in it");
	}
	read_bytes(PATH_RANGE, 0, NULL, NULL, 0);
	ok(answer.outcome == OUTCOME_DONE && !answer.body.pairs.n, "an empty one");
	/* Fields of each wire type that a later version may have. */
	read_bytes(PATH_RANGE, 0, NULL, "\xf8\x3f\x07\xf9\x3f" "12345678" "\xfa\x3f\x01x\xfd\x3f" "1234" "\x12\x03\x0a\x01k", 28);
	ok(answer.outcome == OUTCOME_DONE && answer.body.pairs.n == 1, "unknown fields");
}

static void broken(const char *path, const char *text, size_t n, const char *what)
{
	read_bytes(path, 0, NULL, text, n);
	ok(answer.outcome == OUTCOME_USELESS && answer.text && !answer.body.responses.n, "%s", what);
}

static void broken_answers(void)
{
	char deep[80];

	asked = (struct asked){ .url = URL };
	broken(PATH_TXN, "\x0a\x7f\x08", 3, "half a field");
	broken(PATH_TXN, "\x08\x01", 2, "a number in place of a header");
	broken(PATH_TXN, "\x12\x01x", 3, "bytes in place of a number");
	broken(PATH_TXN, "\x00\x01", 2, "a field without a number");
	broken(PATH_TXN, "\x0b\x01", 2, "a kind that is out of use");
	broken(PATH_TXN, "\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 12, "a number without an end");
	broken(PATH_TXN, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 10, "a field of too large a number");
	broken(PATH_TXN, "\xf9\x3f" "123", 5, "half a fixed number");
	broken("/none", "", 0, "a method that is not known");
	/* Nested transactions. */
	for (size_t i = 0; i < sizeof deep; i += 2) {
		deep[i] = i / 2 % 2 ? 0x22 : 0x1a;
		deep[i + 1] = (char)(sizeof deep - i - 2);
	}
	broken(PATH_TXN, deep, sizeof deep, "deeply nested");
	asked.known = true;
	read_bytes(PATH_TXN, 0, NULL, "\x0a\x7f\x08", 3);
	ok(answer.outcome == OUTCOME_RETRY, "one that was etcd before may be again");
}

/* What errors mean is tested in test-etcd-errors.c. */
static void errors(void)
{
	asked = (struct asked){ .url = URL, .known = true };
	read_bytes(PATH_TXN, 14, "etcdserver: no leader", "", 0);
	ok(answer.outcome == OUTCOME_RETRY && !answer.body.cluster, "an error");
	is(answer.text, URL ": etcdserver: no leader", "in words");
	read_bytes(PATH_TXN, 2, NULL, "", 0);
	is(answer.text, URL ": no reason given", "none");
}

static void explains(enum failure failure, enum outcome outcome, const char *wanted)
{
	char detail[] = "detail";
	const struct rpc rpc = { .failure = failure, .detail = detail, .http = 200 };

	answer_free(&answer);
	answer = (struct answer){ .outcome = OUTCOME_STOPPED };
	answer_explain(&answer, &asked, &rpc);
	ok(answer.outcome == outcome && !answer.body.bytes, "%s", wanted);
	is(answer.text, wanted, "in words");
}

static void http(int status, enum outcome outcome, const char *wanted)
{
	const struct rpc rpc = { .failure = FAILURE_ANSWER, .http = status };

	answer_free(&answer);
	answer = (struct answer){ .outcome = OUTCOME_STOPPED };
	answer_explain(&answer, &asked, &rpc);
	ok(answer.outcome == outcome, "HTTP status %d", status);
	is(answer.text, wanted, "in words");
}

static void no_answers(void)
{
	asked = (struct asked){ .url = URL };
	http(404, OUTCOME_USELESS, URL " does not answer like etcd: HTTP status 404");
	http(502, OUTCOME_RETRY, URL ": HTTP status 502");
	http(429, OUTCOME_RETRY, URL ": HTTP status 429");
	explains(FAILURE_NAME, OUTCOME_RETRY, "the name of " URL " cannot be resolved");
	explains(FAILURE_CONNECT, OUTCOME_RETRY, URL " cannot be reached: detail");
	explains(FAILURE_SILENT, OUTCOME_RETRY, URL " does not answer");
	explains(FAILURE_RESET, OUTCOME_RETRY, URL ": detail");
	explains(FAILURE_ANSWER, OUTCOME_USELESS, URL " does not answer like etcd: detail");
	explains(FAILURE_PROTOCOL, OUTCOME_USELESS, URL " does not speak HTTP/2: is it etcd's client port?");
	explains(FAILURE_CLOSED, OUTCOME_CLOSED, URL " closed the connection: it may require TLS (https://)");
	asked.url = "https://a";
	explains(FAILURE_CLOSED, OUTCOME_CLOSED, "https://a closed the connection: it may not speak TLS, or may require another client certificate (ETCDCTL_CERT, ETCDCTL_KEY)");
	explains(FAILURE_CERTIFICATE, OUTCOME_USELESS, "cannot verify the certificate of https://a (is ETCDCTL_CACERT set to the right CA?): detail");
	explains(FAILURE_FILES, OUTCOME_USELESS, "cannot use the file of ETCDCTL_CERT, ETCDCTL_KEY or ETCDCTL_CACERT: detail");
	explains(FAILURE_TLS, OUTCOME_USELESS, "https://a does not speak TLS, or rejects the client certificate (ETCDCTL_CERT, ETCDCTL_KEY): detail");
	/* An endpoint that has answered before is being restarted, or certificates are being replaced. */
	asked.known = true;
	explains(FAILURE_CERTIFICATE, OUTCOME_RETRY, "cannot verify the certificate of https://a (is ETCDCTL_CACERT set to the right CA?): detail");
	explains(FAILURE_CLOSED, OUTCOME_RETRY, "https://a closed the connection");
	explains(FAILURE_TLS, OUTCOME_RETRY, "https://a does not speak TLS, or rejects the client certificate (ETCDCTL_CERT, ETCDCTL_KEY): detail");
	explains(FAILURE_PROTOCOL, OUTCOME_RETRY, "https://a closed the connection");
}

static void versions(void)
{
	static const char *const old[] = { "2.3.8", "3.3.27", "3.4.0", "3.4.23", "3.4.30", "3.5.0", "3.5.12", "3.4.30-pre", "0.0.0" };
	static const char *const good[] = { "3.4.31", "3.4.42", "3.5.13", "3.5.30", "3.6.0", "3.6.14", "4.0.0", "", "3.4", "x", "99999999999.1.1" };

	for (size_t i = 0; i < sizeof old / sizeof *old; i++)
		ok(answer_is_of_old(old[i]), "'%s' is old", old[i]);
	for (size_t i = 0; i < sizeof good / sizeof *good; i++)
		ok(!answer_is_of_old(good[i]), "'%s' is not known to be old", good[i]);
}

int main(void)
{
	good_answers();
	broken_answers();
	errors();
	no_answers();
	versions();
	answer_free(&answer);
	return tap_done();
}
