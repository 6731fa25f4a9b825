/* The datagrams that workers send: sd_notify(3) messages and the preload library's own. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* What the template has found that no fork survives: X_TRIMTAB_HAZARD=, STATUS= names it. */
enum notify_hazard {
	HAZARD_NONE,
	HAZARD_THREADS,
	HAZARD_CONNECTIONS,
	HAZARD_EVENT_LOOPS,
};

/* What one message says. Strings point into the text that was parsed. */
struct notify {
	bool ready, stopping, watchdog, watchdog_trigger;
	bool hello, done, late, plain, max_requests, boot_error, kept; /* X_TRIMTAB= */
	bool stays;	     /* X_TRIMTAB_STAYS=1 */
	const char *status;  /* STATUS=, NULL when absent */
	bool counted;	     /* X_TRIMTAB_REQUESTS= */
	uint64_t n_requests; /* that it has served, as it says */
	enum notify_hazard hazard;
};

/* Parses "KEY=VALUE" lines; unknown keys are skipped. text is cut at its newlines. Cannot fail:
 * a message that says nothing we know gives an empty result. */
void notify_parse(char *text, struct notify *ret);

/* Copies what a sender says for people to read: cut where it does not fit, and without anything that
 * could disturb a terminal. size > 0. */
void notify_copy_text(char *to, size_t size, const char *text);

/* Binds a datagram socket at path (replacing a stale one), mode 0600, owner as given ((uid_t)-1:
 * leave), with SO_PASSCRED. Returns the descriptor or -errno. */
int notify_open(const char *path, uid_t uid, gid_t gid);

/* Receives one message: text (NUL-terminated, at most size - 1 bytes; longer ones are dropped)
 * and the sender's pid as the kernel vouches for it. Descriptors that came along are closed.
 * Returns its length, -EAGAIN when there is none, -EBADMSG for one to ignore, or -errno. */
ssize_t notify_receive(int fd, char *text, size_t size, pid_t *ret_pid);
