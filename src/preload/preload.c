/* libtrimtab-preload.so: a guest in every process that the supervisor starts, and in whatever
 * those start in turn. Owns the constructor.
 *
 * It comes alive only in the process that $TRIMTAB_PAGE names and does nothing anywhere else.
 * It must never make its host fail: no output, no exit, no changed errno, signal mask,
 * disposition, environment or descriptor; what does not fit leaves the process as it was. */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "preload/allocator.h"
#include "preload/helper.h"
#include "preload/leave.h"
#include "preload/notify.h"
#include "preload/page.h"
#include "preload/pymalloc.h"
#include "preload/python.h"
#include "trimtab/preload.h"

static void come_alive(const char *page_variable)
{
	struct page_name name;
	struct trimtab_page *page;

	/* The cheap question first: children of a worker end here. */
	if (!page_parse_name(page_variable, &name) || name.pid != getpid())
		return;
	page = page_open(&name);
	if (!page)
		return;
	notify_capture();
	python_detect();
	pymalloc_watch();
	if (helper_start(page, allocator_detect()) == 0)
		leave_prepare();
}

__attribute__((constructor)) static void preload_init(void)
{
	int saved_errno = errno;
	const char *page_variable = getenv(TRIMTAB_PAGE_ENV);

	if (page_variable)
		come_alive(page_variable);
	errno = saved_errno;
}
