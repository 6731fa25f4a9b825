/* Owns the mapping of the shared page and the question whether it is meant for this process.
 *
 * It must never write to a page that it has not verified, and must leave a process that is not
 * the one named without any trace: all children of a worker inherit the variable. */
#include "preload/page.h"

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "preload/self.h"

static bool expect(const char **text, char c)
{
	if (**text != c)
		return false;
	(*text)++;
	return true;
}

bool page_parse_name(const char *text, struct page_name *ret)
{
	uint64_t fd, pid, cookie;
	const char *digits;

	if (!self_parse_number(&text, 10, &fd) || fd > INT_MAX || !expect(&text, ':') ||
	    !self_parse_number(&text, 10, &pid) || pid == 0 || pid > INT_MAX ||
	    !expect(&text, ':'))
		return false;
	digits = text;
	if (!self_parse_number(&text, 16, &cookie) || text - digits != 16 || *text)
		return false;
	*ret = (struct page_name){ .fd = (int)fd, .pid = (pid_t)pid, .cookie = cookie };
	return true;
}

/* Only signals that nothing but a person's choice gives a meaning: waiting for SIGTERM, say,
 * could take it from the application. */
static bool signal_allowed(uint32_t number)
{
	return number == SIGUSR1 || number == SIGUSR2 ||
	       (number >= (uint32_t)SIGRTMIN && number <= (uint32_t)SIGRTMAX);
}

static bool page_is_named(const struct trimtab_page *page, const struct page_name *name)
{
	return page->magic == TRIMTAB_PAGE_MAGIC &&
	       page->version == TRIMTAB_PAGE_VERSION && page->size == TRIMTAB_PAGE_SIZE &&
	       page->cookie == name->cookie;
}

static bool page_is_ours(const struct trimtab_page *page, const struct page_name *name)
{
	uint64_t start = self_start_ticks();

	return page_is_named(page, name) && page->worker_pid == name->pid && start != 0 &&
	       page->worker_start == start &&
	       (page->wake == TRIMTAB_WAKE_FUTEX ||
		(page->wake == TRIMTAB_WAKE_SIGNAL &&
		 signal_allowed(page->signal_number)));
}

static struct trimtab_page *page_map(int fd)
{
	int seals = fcntl(fd, F_GET_SEALS); /* fails on all but a memfd */
	const int needed = F_SEAL_SHRINK | F_SEAL_GROW;
	struct stat st;
	void *page;

	if (seals < 0 || (seals & needed) != needed || fstat(fd, &st) < 0 ||
	    st.st_size != TRIMTAB_PAGE_SIZE)
		return NULL;
	page = mmap(NULL, TRIMTAB_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	return page == MAP_FAILED ? NULL : page;
}

static struct trimtab_page *page_accept(struct trimtab_page *page,
					const struct page_name *name)
{
	if (page && page_is_ours(page, name) &&
	    madvise(page, TRIMTAB_PAGE_SIZE, MADV_DONTFORK) == 0)
		return page;
	if (page)
		(void)munmap(page, TRIMTAB_PAGE_SIZE);
	return NULL;
}

struct trimtab_page *page_open(const struct page_name *name)
{
	return page_accept(page_map(name->fd), name);
}

struct trimtab_page *page_claim(const struct page_name *name)
{
	struct trimtab_page *page = page_map(name->fd);

	if (page && page_is_named(page, name) && page->worker_pid == 0) {
		page->worker_pid = name->pid;
		page->worker_start = self_start_ticks();
	}
	return page_accept(page, name);
}
