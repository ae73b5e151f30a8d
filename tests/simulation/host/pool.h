/* Objects of the simulated kernel: they live until the run ends, and are then all free again at
 * once. */
#ifndef POOL_H
#define POOL_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* pool_take_NAME(), pool_give_NAME() and pool_reset_NAME() for at most N structs NAME, which have a
 * member NEXT. The first SIZE bytes are cleared. */
#define POOL(name, n, size) \
	static struct name name##_pool[n]; \
	static int name##_used; \
	static struct name *name##_unused; \
	static void pool_reset_##name(void) \
	{ \
		name##_used = 0; \
		name##_unused = NULL; \
	} \
	static struct name *pool_take_##name(void) \
	{ \
		struct name *object = name##_unused; \
\
		if (object) { \
			name##_unused = object->next; \
		} else if (name##_used < (n)) { \
			object = &name##_pool[name##_used++]; \
		} else { \
			fprintf(stderr, "the simulator is out of objects: " #name "\n"); \
			abort(); \
		} \
		memset(object, 0, size); \
		return object; \
	} \
	static void pool_give_##name(struct name *object) \
	{ \
		object->next = name##_unused; \
		name##_unused = object; \
	}

#endif
