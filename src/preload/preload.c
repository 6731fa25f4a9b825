/* libtrimtab-preload.so: a guest in every process that the supervisor starts, and in whatever
 * those start in turn. Owns the constructor.
 *
 * It comes alive only in the process that $TRIMTAB_PAGE names, or, without that variable, where
 * a service manager announces memory pressure, and does nothing anywhere else.
 * It must never make its host fail: no output, no exit, no changed errno, signal mask,
 * environment or descriptor, and no disposition but one that would kill (plain.c); what does not
 * fit leaves the process as it was. */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "preload/allocator.h"
#include "preload/helper.h"
#include "preload/leave.h"
#include "preload/notify.h"
#include "preload/page.h"
#include "preload/pressure.h"
#include "preload/pymalloc.h"
#include "preload/python.h"
#include "preload/ruby.h"
#include "trimtab/preload.h"

static int start(struct trimtab_page *page)
{
	if (!page)
		return -1;
	notify_capture();
	leave_prepare();
	if (helper_start(page, allocator_detect()) == 0)
		return 0;
	leave_not_needed();
	return -1;
}

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
	python_detect();
	ruby_detect();
	pymalloc_watch();
	(void)start(page);
}

/* A template serves nobody and is never trimmed on request, but what it loads is its children's. */
static void prepare_template(void)
{
	python_detect();
	pymalloc_watch();
}

__attribute__((visibility("default"))) int
trimtab_preload_adopt(const char *page_variable)
{
	int saved_errno = errno, r = -1;
	struct page_name name;

	if (page_parse_name(page_variable, &name) && name.pid == getpid())
		r = start(page_claim(&name));
	errno = saved_errno;
	return r;
}

__attribute__((constructor)) static void preload_init(void)
{
	int saved_errno = errno;
	const char *page_variable = getenv(TRIMTAB_PAGE_ENV);

	if (page_variable)
		come_alive(page_variable);
	else if (getenv(TRIMTAB_TEMPLATE_ENV))
		prepare_template();
	else
		pressure_start();
	errno = saved_errno;
}
