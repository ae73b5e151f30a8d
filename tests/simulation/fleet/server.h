/* What a member does with a request, and its streams of events. */
#ifndef SIM_SERVER_H
#define SIM_SERVER_H

#include "network.h"

void server_process(struct call *call);

/* What ASK asks for, for the trace. */
const char *server_words(enum ask ask);

/* Whether CALL's user may do this now. */
bool server_lets_in(const struct call *call);

/* If not: WHY, in etcd's words. */
enum status server_refusal(const struct call *call, const char **why);

struct header server_header(int m);
struct reply *server_reply(struct call *call);

/* --- streams (stream.c) ----------------------------------------------------------------------- */

enum end_of_stream { STREAM_NO_LEADER, STREAM_CLOSING, STREAM_CUT };

void server_watch(struct call *call);

/* Whether JOB has an open stream that tells of KEY. */
bool stream_listens(int job, const char *key);

/* Tells the streams of M what it has applied meanwhile. */
void server_flush(int m);
void server_end_streams(int m, enum end_of_stream how);
/* All events that WHAT asks for, into REPLY. */
void stream_tell(const struct watch *what, struct reply *reply);
void stream_reset(void);

void server_reset(void);

/* For conform.py: does at once what REQUEST asks for. */
struct reply *server_do(struct request *request);

#endif
