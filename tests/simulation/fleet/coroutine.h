/* Coroutines of one thread: each simulated process is one. */
#ifndef SIM_COROUTINE_H
#define SIM_COROUTINE_H

struct coroutine;

/* A coroutine that will run FUNCTION(ARGUMENT), which must not return but leave for good. */
struct coroutine *coroutine_new(void (*function)(void *argument), void *argument);

/* Runs it until it calls coroutine_leave(). */
void coroutine_enter(struct coroutine *coroutine);

/* Goes back to where the running coroutine was entered. FOR_GOOD: it is not entered again. */
void coroutine_leave(struct coroutine *coroutine, int for_good);

/* Its stack may be used by others. Not while it runs. */
void coroutine_free(struct coroutine *coroutine);

#endif
