#include <stdlib.h>

#include "host/sha256.h"
#include "tap.h"

static void digest_of(const void *data, size_t size, const char *wanted, const char *what)
{
	uint8_t digest[SHA256_SIZE];
	char hex[2 * SHA256_SIZE + 1];

	sha256(data, size, digest);
	for (int i = 0; i < SHA256_SIZE; i++)
		sprintf(hex + 2 * i, "%02x", digest[i]);
	is(hex, wanted, what);
}

int main(void)
{
	char *million = malloc(1000000);

	/* FIPS 180-4's own examples, and the lengths around which the padding changes (checked with sha256sum). */
	digest_of("", 0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "nothing");
	digest_of("abc", 3, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", "one block");
	digest_of("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56,
		  "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1", "two blocks");
	memset(million, 'a', 1000000);
	digest_of(million, 1000000, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0", "a million");
	digest_of(million, 55, "9f4390f8d30c2dd92ec9f095b65e2b9ae9b0a925a5258e241c9f1e910f734318", "55 bytes");
	digest_of(million, 63, "7d3e74a05d7db15bce4ad9ec0658ea98e3f06eeecf16b4c6fff2da457ddc2f34", "63 bytes");
	digest_of(million, 64, "ffe054fe7ae0cb6dc65c3af9b61d5209f439851db43d0ba5997337df154668eb", "64 bytes");
	free(million);
	return tap_done();
}
