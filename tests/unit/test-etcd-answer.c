/* Answers of the gateway: those of etcd 3.4, 3.5 as it was released and as in Debian, and 3.6, and what is none of etcd's. */
#include <stdlib.h>

#include "etcd/answer.h"
#include "tap.h"

#define URL "http://a:2379"

static struct answer answer;
static struct asked asked = { .url = URL };

/* Reads anew TEXT, of N bytes, that came with STATUS. */
static void read_bytes(long status, const char *text, size_t n)
{
	answer_free(&answer);
	answer = (struct answer){ .outcome = OUTCOME_STOPPED };
	answer_read(&answer, &asked, status, text, n);
}

static void read_text(long status, const char *text)
{
	read_bytes(status, text, text ? strlen(text) : 0);
}

/* What came means OUTCOME, and is said in the words WANTED. */
static void fails(long status, const char *text, enum outcome outcome, const char *wanted)
{
	read_text(status, text);
	if (!ok(answer.outcome == outcome && !answer.body && answer.text, "%s", wanted))
		printf("# got %d, wanted %d\n", (int)answer.outcome, (int)outcome);
	is(answer.text ? answer.text : "(none)", wanted, "in words");
}

/* It is a good answer that has, as compact JSON, the text WANTED. */
static void succeeds(const char *text, const char *wanted)
{
	char *got;

	read_text(200, text);
	if (!ok(answer.outcome == OUTCOME_DONE && answer.body && !answer.text, "a good answer: %s", wanted))
		return;
	got = json_dumps(answer.body, JSON_COMPACT);
	is(got, wanted, "what is in it");
	free(got);
}

static void good_answers(void)
{
	succeeds("{}", "{}");
	succeeds("{\"header\":{\"revision\":\"7\"},\"succeeded\":true}", "{\"header\":{\"revision\":\"7\"},\"succeeded\":true}");
	succeeds(" \t\r\n{ \"ID\" :\n\"7\" , \"TTL\":\"30\"\r\n}\n\n", "{\"ID\":\"7\",\"TTL\":\"30\"}");
	/* keepalive is a stream. */
	succeeds("{\"result\":{\"ID\":\"7\",\"TTL\":\"30\"}}\n", "{\"ID\":\"7\",\"TTL\":\"30\"}");
	succeeds("{\"result\": {\"ID\":\"123\"}}", "{\"ID\":\"123\"}");
	succeeds("{\"result\":{\"ID\":\"901\"}}\n{\"result\":{\"ID\":\"902\"}}\n", "{\"ID\":\"901\"}");
	succeeds("{\"result\":7}", "{\"result\":7}");
	succeeds("{\"ID\":\"7\"} and no JSON", "{\"ID\":\"7\"}");
}

/* One error in all four shapes, with white space where there may be some. */
static void all_shapes(long status, int number, const char *message, enum outcome outcome, const char *wanted)
{
	static const char *const shapes[] = {
		"{\"error\":\"%2$s\",\"message\":\"%2$s\",\"code\":%1$d}",
		"{\"error\":{\"grpc_code\":%1$d,\"http_code\":503,\"message\":\"%2$s\",\"http_status\":\"Service Unavailable\"}}",
		"{\"code\":%1$d, \"message\":\"%2$s\"}",
		"{\"error\":{\"code\":%1$d, \"message\":\"%2$s\"}}",
		"{\"code\":%1$d, \"message\":\"%2$s\", \"details\":[]}\n",
		"{\"error\":\"%2$s\",\"code\":%1$d}",
		"\n{ \"error\" : { \"code\" : %1$d ,\r\n\t\"message\" : \"%2$s\" , \"details\" : [ ] } }\n \n",
	};
	char text[1024];

	for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
		#pragma GCC diagnostic push
		#pragma GCC diagnostic ignored "-Wformat-nonliteral"
		(void)snprintf(text, sizeof text, shapes[i], number, message);
		#pragma GCC diagnostic pop
		fails(status, text, outcome, wanted);
	}
}

static void errors(void)
{
	asked = (struct asked){ .url = URL, .known = true };
	all_shapes(404, 5, "etcdserver: requested lease not found", OUTCOME_LOST, URL ": etcdserver: requested lease not found");
	all_shapes(412, 9, "etcdserver: lease already exists", OUTCOME_EXISTS, URL ": etcdserver: lease already exists");
	all_shapes(400, 9, "etcdserver: authentication is not enabled", OUTCOME_OPEN, URL ": etcdserver: authentication is not enabled");
	all_shapes(400, 11, "etcdserver: mvcc: required revision has been compacted", OUTCOME_LOST,
		   URL ": etcdserver: mvcc: required revision has been compacted");
	all_shapes(500, 2, "context deadline exceeded", OUTCOME_RETRY, URL ": context deadline exceeded");
	all_shapes(504, 4, "context deadline exceeded", OUTCOME_RETRY, URL ": context deadline exceeded");
	all_shapes(503, 14, "etcdserver: no leader", OUTCOME_RETRY, URL ": etcdserver: no leader");
	all_shapes(200, 14, "transport is closing", OUTCOME_RETRY, URL ": transport is closing");
	all_shapes(200, 14, "connection closed", OUTCOME_RETRY, URL ": connection closed");
	all_shapes(400, 3, "etcdserver: key is not provided", OUTCOME_FINAL, URL ": etcdserver: key is not provided");
	all_shapes(429, 8, "etcdserver: mvcc: database space exceeded", OUTCOME_FINAL,
		   URL " refuses writes: its database is full (etcdserver: mvcc: database space exceeded)");
	all_shapes(401, 16, "etcdserver: invalid auth token", OUTCOME_FINAL,
		   URL " requires authentication: set ETCDCTL_USER and ETCDCTL_PASSWORD (etcdserver: invalid auth token)");
	all_shapes(400, 3, "etcdserver: user name is empty", OUTCOME_FINAL, URL " requires authentication: set ETCDCTL_USER and ETCDCTL_PASSWORD");
	asked.user = "mo";
	all_shapes(400, 3, "etcdserver: authentication failed, invalid user ID or password", OUTCOME_FINAL,
		   URL " refuses user 'mo': wrong name or password (ETCDCTL_USER, ETCDCTL_PASSWORD)");
	all_shapes(403, 7, "etcdserver: permission denied", OUTCOME_FINAL,
		   "etcd denies user 'mo': it needs readwrite permission on all keys that begin with the lock's name and \"/\" (" URL ")");

	/* The first answer of all: it will not be better the next time. */
	asked = (struct asked){ .url = URL };
	all_shapes(503, 14, "connection closed", OUTCOME_USELESS,
		   "the JSON gateway of " URL " cannot reach its own server: does the server's certificate allow clientAuth? (connection closed)");
}

static void broken_errors(void)
{
	asked = (struct asked){ .url = URL, .known = true };
	fails(500, "{}", OUTCOME_RETRY, URL ": no reason given");
	fails(200, "{\"error\":\"\"}", OUTCOME_RETRY, URL ": ");
	fails(200, "{\"error\":{}}", OUTCOME_RETRY, URL ": no reason given");
	fails(200, "{\"error\":{\"message\":\"oh\"}}", OUTCOME_RETRY, URL ": oh");
	fails(200, "{\"error\":[1]}", OUTCOME_RETRY, URL ": no reason given");
	fails(503, "{\"code\":14,\"message\":7}", OUTCOME_RETRY, URL ": no reason given");
	/* Codes of our own do not come from outside. */
	fails(200, "{\"code\":100,\"message\":\"x\"}", OUTCOME_RETRY, URL ": x");
	fails(200, "{\"code\":102,\"message\":\"x\"}", OUTCOME_RETRY, URL ": x");
	fails(200, "{\"code\":-1,\"message\":\"x\"}", OUTCOME_RETRY, URL ": x");
	fails(200, "{\"code\":4294967296,\"message\":\"x\"}", OUTCOME_RETRY, URL ": x");
	fails(200, "{\"code\":\"14\",\"message\":\"x\"}", OUTCOME_RETRY, URL ": x");
}

static void others(void)
{
	static const char none[] = " has no JSON gateway: it may be disabled (--enable-grpc-gateway), on another port (--listen-client-http-urls), or this is "
				   "older than etcd 3.4";
	char wanted[512], large[1000];

	asked = (struct asked){ .url = URL };
	(void)snprintf(wanted, sizeof wanted, "%s%s", URL, none);
	fails(404, "404 page not found\n", OUTCOME_USELESS, wanted);
	fails(404, "Not Found", OUTCOME_USELESS, wanted);
	fails(404, NULL, OUTCOME_USELESS, wanted);
	fails(404, "[]", OUTCOME_USELESS, wanted);
	fails(400, "CommonName of client sending a request against gateway will be ignored and not used as expected", OUTCOME_USELESS,
	      URL " accepts no client certificate with a common name through its JSON gateway while users are enabled: use one with an empty CN (ETCDCTL_CERT)");
	fails(400, "Client sent an HTTP request to an HTTPS server.\n", OUTCOME_USELESS, URL " requires TLS: write https:// in ETCDCTL_ENDPOINTS");
	fails(502, "<html>Bad Gateway</html>", OUTCOME_RETRY, URL ": HTTP status 502");
	fails(503, NULL, OUTCOME_RETRY, URL ": HTTP status 503");
	fails(200, NULL, OUTCOME_USELESS, URL " does not answer like etcd: HTTP status 200, \"\"");
	fails(200, "", OUTCOME_USELESS, URL " does not answer like etcd: HTTP status 200, \"\"");
	fails(200, "\n", OUTCOME_USELESS, URL " does not answer like etcd: HTTP status 200, \" \"");
	fails(200, "{\"ID\":\"7\"", OUTCOME_USELESS, URL " does not answer like etcd: HTTP status 200, \"{\"ID\":\"7\"\"");
	fails(200, "null", OUTCOME_USELESS, URL " does not answer like etcd: HTTP status 200, \"null\"");
	fails(405, "Method Not Allowed\n\x1b[31m\xff", OUTCOME_USELESS, URL " does not answer like etcd: HTTP status 405, \"Method Not Allowed  [31m \"");
	fails(421, "", OUTCOME_USELESS, URL " does not answer like etcd: HTTP status 421, \"\"");
	memset(large, 'x', sizeof large - 1);
	large[sizeof large - 1] = 0;
	read_text(302, large);
	ok(answer.outcome == OUTCOME_USELESS && strlen(answer.text) < 250, "a long text is cut");
	read_bytes(200, "{\"ID\":\"7\0\"}", 11);
	ok(answer.outcome == OUTCOME_USELESS, "a NUL within");
	memset(large, '[', sizeof large - 1);
	read_text(200, large);
	ok(answer.outcome == OUTCOME_USELESS, "deeply nested");
}

static void explains(CURLcode curl, enum outcome outcome, const char *wanted)
{
	answer_free(&answer);
	answer = (struct answer){ .outcome = OUTCOME_STOPPED };
	answer_explain(&answer, &asked, curl, "detail");
	ok(answer.outcome == outcome && !answer.body, "%s", wanted);
	is(answer.text, wanted, "in words");
}

static void no_answers(void)
{
	asked = (struct asked){ .url = URL };
	explains(CURLE_COULDNT_RESOLVE_HOST, OUTCOME_RETRY, "the name of " URL " cannot be resolved");
	explains(CURLE_COULDNT_CONNECT, OUTCOME_RETRY, URL " cannot be reached: detail");
	explains(CURLE_OPERATION_TIMEDOUT, OUTCOME_RETRY, URL " does not answer");
	explains(CURLE_PARTIAL_FILE, OUTCOME_RETRY, URL ": detail");
	explains(CURLE_WEIRD_SERVER_REPLY, OUTCOME_USELESS, URL " does not speak HTTP: is it etcd's client port?");
	explains(CURLE_GOT_NOTHING, OUTCOME_CLOSED, URL " closed the connection: it may require TLS (https://)");
	asked.url = "https://a";
	explains(CURLE_RECV_ERROR, OUTCOME_CLOSED, "https://a closed the connection: it may require another client certificate (ETCDCTL_CERT, ETCDCTL_KEY)");
	explains(CURLE_PEER_FAILED_VERIFICATION, OUTCOME_USELESS,
		 "cannot verify the certificate of https://a (is ETCDCTL_CACERT set to the right CA?): detail");
	explains(CURLE_SSL_CERTPROBLEM, OUTCOME_USELESS, "cannot use the file of ETCDCTL_CERT, ETCDCTL_KEY or ETCDCTL_CACERT: detail");
	explains(CURLE_SSL_CONNECT_ERROR, OUTCOME_USELESS, "https://a does not speak TLS, or rejects the client certificate (ETCDCTL_CERT, ETCDCTL_KEY): detail");
	/* One that has answered before is being restarted. */
	asked.known = true;
	explains(CURLE_RECV_ERROR, OUTCOME_RETRY, "https://a closed the connection");
	explains(CURLE_SSL_CONNECT_ERROR, OUTCOME_RETRY, "https://a does not speak TLS, or rejects the client certificate (ETCDCTL_CERT, ETCDCTL_KEY): detail");
	explains(CURLE_HTTP2, OUTCOME_RETRY, "https://a closed the connection");
}

static void numbers(void)
{
	read_text(200, "{\"header\":{\"cluster_id\":\"14841639068965178418\",\"raft_term\":2},\"TTL\":\"-1\",\"n\":12,\"text\":\"x7\",\"real\":1.5,\"b\":true}");
	ok(answer_header(answer.body, "cluster_id") == 14841639068965178418U, "a number of 64 bits");
	ok(answer_header(answer.body, "raft_term") == 2 && answer_number(answer.body, "n") == 12, "a number that is none in quotes");
	ok((int64_t)answer_number(answer.body, "TTL") == -1, "a negative one");
	ok(!answer_number(answer.body, "text") && !answer_number(answer.body, "real") && !answer_number(answer.body, "b") && !answer_number(answer.body, "no"), "none");
	ok(!answer_number(NULL, "n") && !answer_header(NULL, "n"), "nothing at all");
}

static void is_result(const char *line, const char *wanted)
{
	json_t *result = answer_result(line, strlen(line));
	char *got = result ? json_dumps(result, JSON_COMPACT) : NULL;

	is(got ? got : "(none)", wanted, wanted);
	free(got);
	json_decref(result);
}

static void lines(void)
{
	is_result("{\"result\":{\"created\":true}}\n", "{\"created\":true}");
	is_result(" {\"result\" : {\"events\":[{\"type\":\"DELETE\"}]} }", "{\"events\":[{\"type\":\"DELETE\"}]}");
	is_result("{\"error\":{\"grpc_code\":14,\"http_code\":503,\"message\":\"transport is closing\"}}", "(none)");
	is_result("{\"result\":[]}", "(none)");
	is_result("{\"result\":", "(none)");
	is_result("\n", "(none)");
	is_result("", "(none)");
	is_result("[]", "(none)");
	ok(!answer_result(NULL, 0), "no line");
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
	errors();
	broken_errors();
	others();
	no_answers();
	numbers();
	lines();
	versions();
	answer_free(&answer);
	return tap_done();
}
