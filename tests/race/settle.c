/* In place of thread_settle(), by --wrap: the library's thread gives up its descriptors, and with them
 * what ThreadSanitizer would write a report of that thread to. */
#include <sys/prctl.h>

void __wrap_thread_settle(const char *name);

void __wrap_thread_settle(const char *name)
{
	(void)prctl(PR_SET_NAME, name);
}
