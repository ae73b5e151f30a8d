#include "file/waiter.h"

/* In a source of its own, so that each process of the simulator can have its own. */
struct file_waiter *file_waiter(void)
{
	static struct file_waiter waiter;

	return &waiter;
}
