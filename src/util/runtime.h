/* Where a pool's sockets are, agreed between trimtab and trimtabctl. */
#pragma once

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* The directory for sockets of this user's pools: $RUNTIME_DIRECTORY's first entry under a
 * service manager, /run/trimtab for root, $XDG_RUNTIME_DIR/trimtab, or /tmp/trimtab-UID. */
static inline void runtime_directory(char *path, size_t size)
{
	const char *given = getenv("RUNTIME_DIRECTORY"),
		   *user = getenv("XDG_RUNTIME_DIR");

	if (given && given[0] == '/') {
		size_t n = 0;

		while (given[n] && given[n] != ':')
			n++;
		(void)snprintf(path, size, "%.*s", (int)n, given);
	} else if (geteuid() == 0) {
		(void)snprintf(path, size, "/run/trimtab");
	} else if (user && user[0] == '/') {
		(void)snprintf(path, size, "%s/trimtab", user);
	} else {
		(void)snprintf(path, size, "/tmp/trimtab-%u", (unsigned)geteuid());
	}
}
