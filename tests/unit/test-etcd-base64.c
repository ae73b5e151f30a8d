#include <stdlib.h>

#include "etcd/base64.h"
#include "tap.h"

static void is_written(const char *bytes, const char *wanted)
{
	char *text = base64_encode(bytes, strlen(bytes));

	is(text, wanted, bytes);
	free(text);
}

static void is_read(const char *text, const char *wanted, size_t length)
{
	size_t n;
	char *bytes = base64_decode(text, &n);

	ok(bytes && n == length && !memcmp(bytes, wanted, n) && bytes[n] == 0, "'%s' is read", text);
	free(bytes);
}

static void is_refused(const char *text)
{
	size_t n;
	char *bytes = base64_decode(text, &n);

	ok(!bytes, "'%.4s', %zu bytes, is none", text, strlen(text));
	free(bytes);
}

/* All lengths, all bytes. */
static bool comes_back(void)
{
	unsigned char bytes[300];

	for (size_t i = 0; i < sizeof bytes; i++)
		bytes[i] = (unsigned char)(i * 37);
	for (size_t length = 0; length <= sizeof bytes; length++) {
		size_t n;
		char *text = base64_encode(bytes, length), *again = base64_decode(text, &n);
		bool same = strlen(text) == (length + 2) / 3 * 4 && again && n == length && !memcmp(again, bytes, n);

		free(text);
		free(again);
		if (!same)
			return false;
	}
	return true;
}

int main(void)
{
	/* RFC 4648, section 10. */
	is_written("", "");
	is_written("f", "Zg==");
	is_written("fo", "Zm8=");
	is_written("foo", "Zm9v");
	is_written("foob", "Zm9vYg==");
	is_written("fooba", "Zm9vYmE=");
	is_written("foobar", "Zm9vYmFy");
	is_written("\xfb\xff\xfe", "+//+");
	ok(comes_back(), "what is written is read again");

	is_read("", "", 0);
	is_read("Zm9vYg==", "foob", 4);
	is_read("AAAA", "\0\0\0", 3);
	is_read("/+8=", "\xff\xef", 2);
	is_refused("Z");
	is_refused("Zg");
	is_refused("Zg=");
	is_refused("Zm9vYg=");
	is_refused("=");
	is_refused("====");
	is_refused("Z===");
	is_refused("Zg==Zg==");
	is_refused("Zg=g");
	is_refused("Zm9v\n");
	is_refused(" Zm9");
	is_refused("Zm-_");
	is_refused("Zm\xc3\xa4");
	return tap_done();
}
