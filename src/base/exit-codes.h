/* me-only's own exit statuses; all others are the command's. --exit-base is added to them. */
#ifndef BASE_EXIT_CODES_H
#define BASE_EXIT_CODES_H

enum exit_code {
	EXIT_COMMAND = 1,     /* the command cannot be found or run */
	EXIT_USAGE = 2,	      /* wrong usage */
	EXIT_THIRD_PARTY = 3, /* locking failed; nothing was run */
	EXIT_HELD = 4,	      /* the lock is held */
	EXIT_LOST = 5,	      /* the lock was lost while the command ran */
};

#endif
