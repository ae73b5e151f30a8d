/*
 * In place of libjansson, as far as the helper uses it: the same functions, in the same header, on
 * small lists instead of hash tables. The library took four fifths of a run's time. Not checked:
 * UTF-8, real numbers, keys that are there twice.
 */
#include <inttypes.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway.h"
#include "../task.h"

struct member {
	struct member *next;
	json_t *value;
	char key[];
};

struct node {
	json_t base;
	union {
		struct {
			struct member *first, **last;
		} object;
		struct {
			json_t **all;
			size_t n, room;
		} array;
		struct {
			size_t length;
			char text[];
		} string;
		json_int_t integer;
	};
};

static struct node *node_of(const json_t *json)
{
	return (struct node *)(uintptr_t)json;
}

static struct node *new_node(json_type type, size_t more)
{
	struct node *node = sim_malloc(sizeof *node + more);

	node->base.type = type;
	node->base.refcount = 1;
	return node;
}

/* --- values ----------------------------------------------------------------------------------- */

json_t *json_object(void)
{
	struct node *node = new_node(JSON_OBJECT, 0);

	node->object.first = NULL;
	node->object.last = &node->object.first;
	return &node->base;
}

json_t *json_array(void)
{
	struct node *node = new_node(JSON_ARRAY, 0);

	node->array.all = NULL;
	node->array.n = node->array.room = 0;
	return &node->base;
}

json_t *json_stringn(const char *text, size_t n)
{
	struct node *node = new_node(JSON_STRING, n + 1);

	memcpy(node->string.text, text, n);
	node->string.text[n] = 0;
	node->string.length = n;
	return &node->base;
}

json_t *json_string(const char *text)
{
	return text ? json_stringn(text, strlen(text)) : NULL;
}

json_t *json_integer(json_int_t n)
{
	struct node *node = new_node(JSON_INTEGER, 0);

	node->integer = n;
	return &node->base;
}

static json_t constants[] = { { JSON_TRUE, (size_t)-1 },
			      { JSON_FALSE, (size_t)-1 },
			      { JSON_NULL, (size_t)-1 } };

json_t *json_true(void)
{
	return &constants[0];
}

json_t *json_false(void)
{
	return &constants[1];
}

json_t *json_null(void)
{
	return &constants[2];
}

void json_delete(json_t *json)
{
	struct node *node = node_of(json);

	if (json->type == JSON_OBJECT)
		for (struct member *member = node->object.first, *next; member; member = next) {
			next = member->next;
			json_decref(member->value);
			sim_free(member);
		}
	if (json->type == JSON_ARRAY) {
		for (size_t i = 0; i < node->array.n; i++)
			json_decref(node->array.all[i]);
		sim_free(node->array.all);
	}
	sim_free(node);
}

const char *json_string_value(const json_t *json)
{
	return json_is_string(json) ? node_of(json)->string.text : NULL;
}

json_int_t json_integer_value(const json_t *json)
{
	return json_is_integer(json) ? node_of(json)->integer : 0;
}

/* --- objects and arrays ----------------------------------------------------------------------- */

json_t *json_object_get(const json_t *json, const char *key)
{
	if (!json_is_object(json))
		return NULL;
	for (struct member *member = node_of(json)->object.first; member; member = member->next)
		if (*member->key == *key && !strcmp(member->key, key))
			return member->value;
	return NULL;
}

static int add_member(json_t *json, const char *key, size_t n, json_t *value)
{
	struct node *node = node_of(json);
	struct member *member = sim_malloc(sizeof *member + n + 1);

	member->next = NULL;
	member->value = value;
	memcpy(member->key, key, n);
	member->key[n] = 0;
	*node->object.last = member;
	node->object.last = &member->next;
	return 0;
}

int json_object_set_new(json_t *json, const char *key, json_t *value)
{
	if (value && json_is_object(json))
		return add_member(json, key, strlen(key), value);
	json_decref(value);
	return -1;
}

size_t json_array_size(const json_t *json)
{
	return json_is_array(json) ? node_of(json)->array.n : 0;
}

json_t *json_array_get(const json_t *json, size_t i)
{
	return i < json_array_size(json) ? node_of(json)->array.all[i] : NULL;
}

int json_array_insert_new(json_t *json, size_t at, json_t *value)
{
	struct node *node = node_of(json);

	if (!value || !json_is_array(json)) {
		json_decref(value);
		return -1;
	}
	if (node->array.n == node->array.room) {
		json_t **all = node->array.all;

		node->array.room = node->array.room ? node->array.room * 2 : 4;
		node->array.all = sim_malloc(node->array.room * sizeof *all);
		if (all)
			memcpy(node->array.all, all, node->array.n * sizeof *all);
		sim_free(all);
	}
	memmove(&node->array.all[at + 1], &node->array.all[at],
		(node->array.n++ - at) * sizeof value);
	node->array.all[at] = value;
	return 0;
}

int json_array_append_new(json_t *json, json_t *value)
{
	return json_array_insert_new(json, json_array_size(json), value);
}

int json_array_extend(json_t *json, json_t *other)
{
	for (size_t i = 0; i < json_array_size(other); i++)
		json_array_append_new(json, json_incref(json_array_get(other, i)));
	return 0;
}

/* --- json_pack() ------------------------------------------------------------------------------ */

static json_t *pack(const char **format, va_list *list)
{
	json_t *json;

	*format += strspn(*format, " ,:");
	switch (*(*format)++) {
	case 's': return json_string(va_arg(*list, const char *));
	case 'o': return va_arg(*list, json_t *);
	case 'i': return json_integer(va_arg(*list, int));
	case 'I': return json_integer(va_arg(*list, json_int_t));
	case 'b': return va_arg(*list, int) ? json_true() : json_false();
	case '{':
		json = json_object();
		while (*(*format += strspn(*format, " ,")) != '}') {
			const char *key = va_arg(*list, const char *);

			(*format)++;
			json_object_set_new(json, key, pack(format, list));
		}
		(*format)++;
		return json;
	default: abort();
	}
}

json_t *json_pack(const char *format, ...)
{
	va_list list;
	json_t *json;

	va_start(list, format);
	json = pack(&format, &list);
	va_end(list);
	return json;
}

/* --- text ------------------------------------------------------------------------------------- */

static void dump(struct text *text, const json_t *json)
{
	const struct node *node = node_of(json);

	switch (json->type) {
	case JSON_OBJECT:
		text_add(text, "{");
		for (const struct member *member = node->object.first; member;
		     member = member->next) {
			text_quoted(text, member->key);
			text_add(text, ":");
			dump(text, member->value);
			if (member->next)
				text_add(text, ",");
		}
		text_add(text, "}");
		break;
	case JSON_ARRAY:
		text_add(text, "[");
		for (size_t i = 0; i < node->array.n; i++) {
			if (i > 0)
				text_add(text, ",");
			dump(text, node->array.all[i]);
		}
		text_add(text, "]");
		break;
	case JSON_STRING: text_quoted(text, node->string.text); break;
	case JSON_INTEGER: text_number(text, node->integer); break;
	default:
		text_add(text, json->type == JSON_TRUE	  ? "true"
			       : json->type == JSON_FALSE ? "false"
							  : "null");
	}
}

char *json_dumps(const json_t *json, size_t flags)
{
	static struct text text;

	(void)flags;
	if (!json)
		return NULL;
	text_begin(&text);
	dump(&text, json);
	return sim_strdup(text.text);
}

static json_t *parse(const char **at, const char *end);

static void skip(const char **at, const char *end)
{
	while (*at < end && (**at == ' ' || **at == '\n' || **at == '\t' || **at == '\r'))
		++*at;
}

static bool next_is(const char **at, const char *end, char c)
{
	skip(at, end);
	if (*at == end || **at != c)
		return false;
	++*at;
	return true;
}

/* A string, behind its first quote; without escapes it is read where it is. */
static const char *parse_text(const char **at, const char *end, size_t *n)
{
	static char room[1 << 16];
	const char *from = *at;
	size_t used = 0;

	while (*at < end && **at != '"' && **at != '\\')
		++*at;
	*n = (size_t)(*at - from);
	if (*at < end && **at == '"') {
		++*at;
		return from;
	}
	*at = from;
	while (*at < end && **at != '"' && used < sizeof room - 1) {
		static const char letters[] = "nrtbf", meant[] = "\n\r\t\b\f";
		char c = *(*at)++;

		if (c == '\\' && *at < end) {
			c = *(*at)++;
			if (c == 'u') {
				c = (char)strtol((char[]) { (*at)[2], (*at)[3], 0 }, NULL, 16);
				*at += 4;
			} else if (strchr(letters, c)) {
				c = meant[strchr(letters, c) - letters];
			}
		}
		room[used++] = c;
	}
	*n = used;
	return next_is(at, end, '"') ? room : NULL;
}

static json_t *parse_object(const char **at, const char *end)
{
	json_t *json = json_object();

	if (next_is(at, end, '}'))
		return json;
	do {
		const char *key;
		char name[128];
		json_t *value;
		size_t n;

		if (!next_is(at, end, '"') || !(key = parse_text(at, end, &n)) || n >= sizeof name)
			goto wrong;
		memcpy(name, key, n);
		if (!next_is(at, end, ':') || !(value = parse(at, end)))
			goto wrong;
		add_member(json, name, n, value);
	} while (next_is(at, end, ','));
	if (next_is(at, end, '}'))
		return json;
wrong:
	json_decref(json);
	return NULL;
}

static json_t *parse_array(const char **at, const char *end)
{
	json_t *json = json_array();

	if (next_is(at, end, ']'))
		return json;
	do {
		if (json_array_append_new(json, parse(at, end))) {
			json_decref(json);
			return NULL;
		}
	} while (next_is(at, end, ','));
	if (next_is(at, end, ']'))
		return json;
	json_decref(json);
	return NULL;
}

static json_t *parse_number(const char **at, const char *end)
{
	const bool negative = **at == '-';
	json_int_t n = 0;

	*at += negative;
	if (*at == end || **at < '0' || **at > '9')
		return NULL;
	while (*at < end && **at >= '0' && **at <= '9')
		n = n * 10 + (*(*at)++ - '0');
	return json_integer(negative ? -n : n);
}

static json_t *parse_word(const char **at, const char *end)
{
	static const char *const words[] = { "true", "false", "null" };

	for (size_t i = 0; i < 3; i++)
		if ((size_t)(end - *at) >= strlen(words[i]) &&
		    !strncmp(*at, words[i], strlen(words[i]))) {
			*at += strlen(words[i]);
			return &constants[i];
		}
	return NULL;
}

static json_t *parse(const char **at, const char *end)
{
	const char *text;
	size_t n;

	skip(at, end);
	if (*at == end)
		return NULL;
	switch (**at) {
	case 't':
	case 'f':
	case 'n': return parse_word(at, end);
	case '{': ++*at; return parse_object(at, end);
	case '[': ++*at; return parse_array(at, end);
	case '"':
		++*at;
		text = parse_text(at, end, &n);
		return text ? json_stringn(text, n) : NULL;
	default: return parse_number(at, end);
	}
}

json_t *json_read(const char **at, const char *end)
{
	return parse(at, end);
}

json_t *json_loadb(const char *text, size_t n, size_t flags, json_error_t *error)
{
	const char *at = text, *end = text + n;
	json_t *json = parse(&at, end);

	(void)error;
	skip(&at, end);
	if (json && at < end && !(flags & JSON_DISABLE_EOF_CHECK)) {
		json_decref(json);
		return NULL;
	}
	return json;
}
