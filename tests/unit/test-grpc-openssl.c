/* TLS with a server in the same process: which certificates are accepted, and which errors occur. */
#include <errno.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "grpc/tls.h"
#include "tap.h"

extern const struct tls_engine tls_engine;

struct identity {
	EVP_PKEY *key;
	X509 *certificate;
};

static struct identity root, middle, address, name, nameless;

/* --- certificates ----------------------------------------------------------------------------- */

static void extend(X509 *certificate, int kind, const char *value)
{
	X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, NULL, kind, value);

	X509_add_ext(certificate, extension, -1);
	X509_EXTENSION_free(extension);
}

/* A certificate for NAMES ("": none), or of an authority if NAMES is NULL. Its common name is CN. */
static void make(struct identity *one, const char *cn, const struct identity *issuer,
		 const char *names)
{
	static long serial;
	X509_NAME *subject;

	one->key = EVP_EC_gen("P-256");
	one->certificate = X509_new();
	issuer = issuer ? issuer : one;
	X509_set_version(one->certificate, 2);
	ASN1_INTEGER_set(X509_get_serialNumber(one->certificate), ++serial);
	X509_gmtime_adj(X509_getm_notBefore(one->certificate), -3600);
	X509_gmtime_adj(X509_getm_notAfter(one->certificate), 3600);
	subject = X509_get_subject_name(one->certificate);
	X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)cn, -1, -1,
				   0);
	X509_set_issuer_name(one->certificate, X509_get_subject_name(issuer->certificate));
	X509_set_pubkey(one->certificate, one->key);
	extend(one->certificate, NID_basic_constraints, names ? "CA:FALSE" : "critical,CA:TRUE");
	if (names && *names)
		extend(one->certificate, NID_subject_alt_name, names);
	X509_sign(one->certificate, issuer->key, EVP_sha256());
}

static void make_all(void)
{
	make(&root, "root", NULL, NULL);
	make(&middle, "middle", &root, NULL);
	make(&address, "address", &middle, "IP:127.0.0.1");
	make(&name, "x", &root, "DNS:localhost");
	make(&nameless, "localhost", &root, "");
}

/* The certificate or key that is given, as PEM. */
static char *pem(X509 *certificate, EVP_PKEY *key)
{
	BIO *bytes = BIO_new(BIO_s_mem());
	char *all, *text;
	long n;

	if (key)
		PEM_write_bio_PrivateKey(bytes, key, NULL, NULL, 0, NULL, NULL);
	else
		PEM_write_bio_X509(bytes, certificate);
	n = BIO_get_mem_data(bytes, &all);
	text = strndup(all, (size_t)n);
	BIO_free(bytes);
	return text;
}

static void destroy(struct identity *one)
{
	EVP_PKEY_free(one->key);
	X509_free(one->certificate);
}

/* --- client and server ------------------------------------------------------------------------ */

static struct {
	const struct identity *server;
	bool skip_verify, no_http2, wants_certificate, hangs_up;
} how;

static int choose(SSL *ssl, const unsigned char **out, unsigned char *out_n,
		  const unsigned char *in, unsigned n, void *argument)
{
	(void)ssl, (void)argument;
	return SSL_select_next_proto((unsigned char **)(uintptr_t)out, out_n,
				     (const unsigned char *)"\2h2", 3, in,
				     n) == OPENSSL_NPN_NEGOTIATED
		       ? SSL_TLSEXT_ERR_OK
		       : SSL_TLSEXT_ERR_NOACK;
}

static SSL *serve(SSL_CTX *context, int fd)
{
	SSL *ssl;

	SSL_CTX_use_certificate(context, how.server->certificate);
	SSL_CTX_use_PrivateKey(context, how.server->key);
	if (!how.no_http2)
		SSL_CTX_set_alpn_select_cb(context, choose, NULL);
	if (how.wants_certificate) {
		SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT,
				   NULL);
		SSL_CTX_set_max_proto_version(context, TLS1_2_VERSION);
	}
	ssl = SSL_new(context);
	SSL_set_fd(ssl, fd);
	return ssl;
}

/* The result of a connection to HOST if CA is the authority. */
static enum failure shaken(const struct identity *ca, const char *host)
{
	struct tls_files files = { .names = { "ca", "cert", "key" } };
	enum failure failure = FAILURE_NONE;
	SSL_CTX *context = SSL_CTX_new(TLS_server_method());
	char *text = pem(ca->certificate, NULL), *why = NULL;
	struct tls *tls;
	SSL *ssl;
	int fds[2], r;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds))
		abort();
	files.bytes[TLS_CA] = text;
	files.lengths[TLS_CA] = strlen(text);
	tls = tls_engine.open(&files, how.skip_verify, host, fds[0], &failure, &why);
	ssl = serve(context, fds[1]);
	do {
		short events = 0;

		r = tls_engine.shake_hands(tls, &events, &failure, &why);
		if (how.hangs_up)
			shutdown(fds[1], SHUT_RDWR);
		else
			SSL_accept(ssl);
	} while (r == -EAGAIN);
	tls_engine.close(tls);
	SSL_free(ssl);
	SSL_CTX_free(context);
	close(fds[0]);
	close(fds[1]);
	free(text);
	free(why);
	return r ? failure : FAILURE_NONE;
}

/* --- tests ------------------------------------------------------------------------------------ */

static void names(void)
{
	how.server = &address;
	ok(shaken(&middle, "127.0.0.1") == FAILURE_NONE,
	   "an address, by an authority that is no root");
	ok(shaken(&middle, "127.0.0.2") == FAILURE_CERTIFICATE, "another address");
	ok(shaken(&name, "127.0.0.1") == FAILURE_CERTIFICATE, "another authority");
	how.server = &name;
	ok(shaken(&root, "localhost") == FAILURE_NONE, "a name");
	ok(shaken(&root, "localhost.") == FAILURE_NONE, "a name with its last dot");
	ok(shaken(&root, "elsewhere") == FAILURE_CERTIFICATE, "another name");
	how.server = &nameless;
	ok(shaken(&root, "localhost") == FAILURE_CERTIFICATE, "a common name does not count");
	how.skip_verify = true;
	ok(shaken(&middle, "elsewhere") == FAILURE_NONE, "nothing does if that is wanted");
	how.skip_verify = false;
}

static void ends(void)
{
	how.server = &name;
	how.no_http2 = true;
	ok(shaken(&root, "localhost") == FAILURE_PROTOCOL, "no HTTP/2");
	how.no_http2 = false;
	how.hangs_up = true;
	ok(shaken(&root, "localhost") == FAILURE_CLOSED, "it hangs up");
	how.hangs_up = false;
	how.wants_certificate = how.skip_verify = true;
	ok(shaken(&middle, "localhost") == FAILURE_TLS, "it wants a certificate");
	how.wants_certificate = how.skip_verify = false;
}

/* Our certificate with KEY. */
static void is_key(EVP_PKEY *key, const char *wanted, const char *what)
{
	char *cert = pem(name.certificate, NULL), *text = pem(NULL, key), *why = NULL;
	const struct tls_files files = { .bytes = { cert, cert, text },
					 .lengths = { strlen(cert), strlen(cert), strlen(text) },
					 .names = { "ca", "cert", "key" } };
	enum failure failure;
	struct tls *tls = tls_engine.open(&files, false, "localhost", 0, &failure, &why);

	is(why ? why : "", wanted, what);
	if (tls)
		tls_engine.close(tls);
	free(cert);
	free(text);
	free(why);
}

static void keys(void)
{
	EVP_PKEY *other = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");

	is_key(name.key, "", "the certificate's key");
	is_key(root.key, "the key key does not belong to the certificate cert", "another one");
	is_key(other, "the key key does not belong to the certificate cert", "one of another kind");
	EVP_PKEY_free(other);
}

int main(void)
{
	/* As for the helper. */
	(void)signal(SIGPIPE, SIG_IGN);
	make_all();
	names();
	ends();
	keys();
	destroy(&root);
	destroy(&middle);
	destroy(&address);
	destroy(&name);
	destroy(&nameless);
	return tap_done();
}
