#include "base/message.h"
#include "tap.h"

static struct line line;

static void shows(const char *bytes, size_t n, const char *wanted, const char *what)
{
	line.length = 0;
	line_escape(&line, bytes, n, LINE_SIZE);
	line.text[line.length] = 0;
	is(line.text, wanted, what);
}

#define SHOWS(bytes, wanted, what) shows(bytes, sizeof(bytes) - 1, wanted, what)

int main(void)
{
	char many[2 * LINE_SIZE];

	SHOWS("/tmp/backup", "/tmp/backup", "plain text");
	SHOWS("gr\xc3\xbc\xc3\x9f" "e \xe2\x82\xac \xf0\x9f\x94\x92", "gr\xc3\xbc\xc3\x9f" "e \xe2\x82\xac \xf0\x9f\x94\x92", "UTF-8 of all lengths");
	SHOWS("a\nb\tc\033[31m", "a\\x0ab\\x09c\\x1b[31m", "control characters");
	SHOWS("\x7f", "\\x7f", "DEL");
	SHOWS("\0", "\\x00", "NUL");
	SHOWS("\xc2\x9b" "31m", "\\xc2\\x9b31m", "C1");
	SHOWS("\\x41", "\\\\x41", "a backslash");
	SHOWS("\xe2\x80\xae" "evil", "\\xe2\\x80\\xaeevil", "right-to-left override");
	SHOWS("\xe2\x81\xa6", "\\xe2\\x81\\xa6", "isolate");
	SHOWS("\xd8\x9c", "\\xd8\\x9c", "Arabic letter mark");
	SHOWS("\xe2\x80\xa8", "\\xe2\\x80\\xa8", "line separator");
	SHOWS("\xff\xfe", "\\xff\\xfe", "no UTF-8");
	SHOWS("\xc3", "\\xc3", "cut off");
	SHOWS("\xc3(", "\\xc3(", "no continuation");
	SHOWS("\x80", "\\x80", "a lone continuation");
	SHOWS("\xc0\xaf", "\\xc0\\xaf", "overlong");
	SHOWS("\xed\xa0\x80", "\\xed\\xa0\\x80", "a surrogate");
	SHOWS("\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80", "beyond Unicode");

	line.length = 0;
	line_escape(&line, "0123456789", 10, 8);
	line.text[line.length] = 0;
	is(line.text, "01234...", "what is too long ends with dots");

	memset(many, 'x', sizeof many - 1);
	many[sizeof many - 1] = 0;
	line_begin(&line);
	line_add(&line, many);
	ok(line.length == LINE_SIZE - 1, "a line has room for its end");
	line_add(&line, "more");
	ok(line.length == LINE_SIZE - 1, "what does not fit is left out");

	line_begin(&line);
	line_number(&line, UINT64_MAX);
	line_add(&line, " ");
	line_duration(&line, 61000000000);
	line.text[line.length] = 0;
	is(line.text, "me-only: 18446744073709551615 1m1s", "numbers and durations");
	return tap_done();
}
