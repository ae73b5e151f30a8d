/* The module etcd-tls.so: TLS by OpenSSL. */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "grpc/tls.h"

struct tls {
	SSL_CTX *context;
	SSL *ssl;
};

/* --- errors ----------------------------------------------------------------------------------- */

/* The reason of the last error, in OpenSSL's words. */
static const char *last_reason(void)
{
	const unsigned long error = ERR_peek_last_error();
	const char *reason = error ? ERR_reason_error_string(error) : NULL;

	return reason ? reason : "unknown error";
}

/* --- files ------------------------------------------------------------------------------------ */

/* Nobody is asked for a pass phrase: a job may have no terminal. */
// NOLINTNEXTLINE(readability-non-const-parameter): the type is OpenSSL's
static int no_password(char *password, int size, int writing, void *argument)
{
	bool *encrypted = argument;

	(void)password;
	(void)size;
	(void)writing;
	*encrypted = true;
	return -1;
}

static BIO *bytes_of(const struct tls_files *files, enum tls_file which)
{
	return BIO_new_mem_buf(files->bytes[which], (int)files->lengths[which]);
}

/* Adds all CAs in the file. */
static bool use_ca(SSL_CTX *context, const struct tls_files *files)
{
	X509_STORE *store = SSL_CTX_get_cert_store(context);
	BIO *bytes = bytes_of(files, TLS_CA);
	unsigned n = 0;
	X509 *one;

	while (bytes && (one = PEM_read_bio_X509(bytes, NULL, no_password, &(bool){ false }))) {
		n += X509_STORE_add_cert(store, one) == 1;
		X509_free(one);
	}
	BIO_free(bytes);
	return n > 0;
}

/* Our certificate and its chain. */
static bool use_certificate(SSL_CTX *context, const struct tls_files *files)
{
	BIO *bytes = bytes_of(files, TLS_CERT);
	X509 *one =
		bytes ? PEM_read_bio_X509_AUX(bytes, NULL, no_password, &(bool){ false }) : NULL;
	bool good = one && SSL_CTX_use_certificate(context, one) == 1;

	X509_free(one);
	while (good && (one = PEM_read_bio_X509(bytes, NULL, no_password, &(bool){ false })))
		if (SSL_CTX_add0_chain_cert(context, one) != 1)
			X509_free(one);
	BIO_free(bytes);
	return good;
}

/* Returns NULL or what is wrong. */
static char *use_key(SSL_CTX *context, const struct tls_files *files)
{
	const char *name = files->names[TLS_KEY];
	bool encrypted = false;
	BIO *bytes = bytes_of(files, TLS_KEY);
	EVP_PKEY *key =
		bytes ? PEM_read_bio_PrivateKey(bytes, NULL, no_password, &encrypted) : NULL;
	char *why = NULL;

	if (encrypted)
		why = memory_format("%s is encrypted: a key without a pass phrase is needed", name);
	else if (!key)
		why = memory_format("%s: %s", name, last_reason());
	/* SSL_CTX_use_PrivateKey() accepts a key of another type than the certificate's. */
	else if (SSL_CTX_use_PrivateKey(context, key) != 1 || !SSL_CTX_check_private_key(context))
		why = memory_format("the key %s does not belong to the certificate %s", name,
				    files->names[TLS_CERT]);
	EVP_PKEY_free(key);
	BIO_free(bytes);
	return why;
}

/* Whether the directory of the system's CAs is indexed, by files or links called HASH.0. */
static bool is_indexed(void)
{
	const char *path = getenv(X509_get_default_cert_dir_env());
	DIR *directory = opendir(path ? path : X509_get_default_cert_dir());
	const struct dirent *one = NULL;

	while (directory && (one = readdir(directory))) {
		const char *end = strrchr(one->d_name, '.');

		if (end && !strcmp(end, ".0"))
			break;
	}
	if (directory)
		closedir(directory);
	return one;
}

/*
 * The system's CAs. From an indexed directory only the one that is needed is read; a file with all
 * of them is read only once.
 */
static bool use_system_ca(SSL_CTX *context)
{
	static X509_STORE *system;
	bool good;

	if (system)
		return SSL_CTX_set1_cert_store(context, system), true;
	good = SSL_CTX_set_default_verify_dir(context) == 1;
	if (getenv(X509_get_default_cert_file_env()) || !is_indexed())
		good = SSL_CTX_set_default_verify_file(context) == 1 && good;
	system = SSL_CTX_get_cert_store(context);
	X509_STORE_up_ref(system);
	return good;
}

static char *use_files(SSL_CTX *context, const struct tls_files *files, bool skip_verify)
{
	SSL_CTX_set_verify(context, skip_verify ? SSL_VERIFY_NONE : SSL_VERIFY_PEER, NULL);
	/* A CA that is set replaces the system's. As with etcdctl, it need not be a root. */
	if (files->bytes[TLS_CA]) {
		X509_STORE_set_flags(SSL_CTX_get_cert_store(context), X509_V_FLAG_PARTIAL_CHAIN);
		if (!use_ca(context, files))
			return memory_format("%s: %s", files->names[TLS_CA], last_reason());
	} else if (!skip_verify && !use_system_ca(context)) {
		return memory_format("the system's CAs: %s", last_reason());
	}
	if (!files->bytes[TLS_CERT])
		return NULL;
	if (!use_certificate(context, files))
		return memory_format("%s: %s", files->names[TLS_CERT], last_reason());
	return use_key(context, files);
}

/* --- opening ---------------------------------------------------------------------------------- */

static bool is_address(const char *host)
{
	unsigned char bytes[16];

	return inet_pton(AF_INET, host, bytes) == 1 || inet_pton(AF_INET6, host, bytes) == 1;
}

/* Sets whose certificate is expected. As with etcdctl, only subjectAltName counts. */
static bool set_host(SSL *ssl, const char *host, bool verify)
{
	X509_VERIFY_PARAM *parameters = SSL_get0_param(ssl);
	const size_t n = strlen(host);
	char *name;
	bool good;

	if (is_address(host))
		return !verify || X509_VERIFY_PARAM_set1_ip_asc(parameters, host) == 1;
	X509_VERIFY_PARAM_set_hostflags(parameters, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS |
							    X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
	/* A dot at the end is only for the resolver. */
	name = memory_text(host, n > 0 && host[n - 1] == '.' ? n - 1 : n);
	good = SSL_set_tlsext_host_name(ssl, name) == 1 &&
	       (!verify || X509_VERIFY_PARAM_set1_host(parameters, name, 0) == 1);
	free(name);
	return good;
}

static void tls_close(struct tls *tls)
{
	SSL_free(tls->ssl);
	SSL_CTX_free(tls->context);
	free(tls);
}

static struct tls *tls_open(const struct tls_files *files, bool skip_verify, const char *host,
			    int fd, enum failure *failure, char **why)
{
	static const unsigned char protocol[] = { 2, 'h', '2' };
	struct tls *tls = memory_get(sizeof *tls);

	ERR_clear_error();
	*failure = FAILURE_FILES;
	tls->context = SSL_CTX_new(TLS_client_method());
	*why = tls->context ? use_files(tls->context, files, skip_verify)
			    : memory_string(last_reason());
	if (!*why) {
		/* HTTP/2 requires it. */
		SSL_CTX_set_min_proto_version(tls->context, TLS1_2_VERSION);
		/* HTTP/2 frames its messages, so a missing close_notify does no harm. */
		SSL_CTX_set_options(tls->context,
				    SSL_OP_IGNORE_UNEXPECTED_EOF | SSL_OP_NO_RENEGOTIATION);
		SSL_CTX_set_mode(tls->context, SSL_MODE_ENABLE_PARTIAL_WRITE |
						       SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
						       SSL_MODE_RELEASE_BUFFERS);
		tls->ssl = SSL_new(tls->context);
		if (!tls->ssl || !set_host(tls->ssl, host, !skip_verify) ||
		    SSL_set_alpn_protos(tls->ssl, protocol, sizeof protocol) != 0 ||
		    SSL_set_fd(tls->ssl, fd) != 1) {
			*failure = FAILURE_TLS;
			*why = memory_string(last_reason());
		}
	}
	if (!*why)
		return tls;
	tls_close(tls);
	return NULL;
}

/* --- bytes ------------------------------------------------------------------------------------ */

/* What R, the result of a failed call, means: a negative errno; 0: the end. */
static int meaning(struct tls *tls, int r, int error, short *events)
{
	switch (SSL_get_error(tls->ssl, r)) {
	case SSL_ERROR_WANT_READ: *events |= POLLIN; return -EAGAIN;
	case SSL_ERROR_WANT_WRITE: *events |= POLLOUT; return -EAGAIN;
	case SSL_ERROR_ZERO_RETURN: return 0;
	case SSL_ERROR_SYSCALL: return error ? -error : -ECONNRESET;
	default: return -EPROTO;
	}
}

static int tls_shake_hands(struct tls *tls, short *events, enum failure *failure, char **why)
{
	int r, error;

	ERR_clear_error();
	errno = 0;
	r = SSL_connect(tls->ssl);
	error = errno;
	if (r == 1) {
		const unsigned char *protocol;
		unsigned n;

		SSL_get0_alpn_selected(tls->ssl, &protocol, &n);
		if (n == 2 && !memcmp(protocol, "h2", 2))
			return 0;
		*failure = FAILURE_PROTOCOL;
		*why = memory_string("it does not offer HTTP/2");
		return -EPROTO;
	}
	r = meaning(tls, r, error, events);
	if (r == -EAGAIN)
		return r;
	if (r == -ECONNREFUSED || r == -EHOSTUNREACH || r == -ENETUNREACH || r == -ETIMEDOUT) {
		*failure = FAILURE_CONNECT;
	} else if (r != -EPROTO) {
		*failure = FAILURE_CLOSED;
	} else if (ERR_GET_REASON(ERR_peek_last_error()) == SSL_R_CERTIFICATE_VERIFY_FAILED) {
		*failure = FAILURE_CERTIFICATE;
		*why = memory_string(
			X509_verify_cert_error_string(SSL_get_verify_result(tls->ssl)));
	} else {
		*failure = FAILURE_TLS;
		*why = memory_string(last_reason());
	}
	return r ? r : -ECONNRESET;
}

static ssize_t tls_read(struct tls *tls, void *bytes, size_t n, short *events)
{
	int r;

	ERR_clear_error();
	errno = 0;
	r = SSL_read(tls->ssl, bytes, (int)n);
	return r > 0 ? r : meaning(tls, r, errno, events);
}

static ssize_t tls_write(struct tls *tls, const void *bytes, size_t n, short *events)
{
	int r;

	ERR_clear_error();
	errno = 0;
	r = SSL_write(tls->ssl, bytes, (int)n);
	return r > 0 ? r : meaning(tls, r, errno, events);
}

extern const struct tls_engine tls_engine __attribute__((visibility("default")));
const struct tls_engine tls_engine = {
	.open = tls_open,
	.close = tls_close,
	.shake_hands = tls_shake_hands,
	.read = tls_read,
	.write = tls_write,
};
