/* The pidfile: what is replaced, what is refused, what is removed. */
#include "process/pidfile.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char folder[] = "/tmp/test-pidfile-XXXXXX";
static char path[64];

static void setup(void)
{
	cr_assert_not_null(mkdtemp(folder));
	(void)snprintf(path, sizeof(path), "%s/pid", folder);
}

static void teardown(void)
{
	(void)unlink(path);
	cr_assert_eq(rmdir(folder), 0, "something else is left in %s", folder);
}

TestSuite(pidfile, .init = setup, .fini = teardown);

static void put(const char *text)
{
	FILE *f = fopen(path, "w");

	cr_assert_not_null(f);
	cr_assert_geq(fputs(text, f), 0);
	cr_assert_eq(fclose(f), 0);
}

static int written(void)
{
	FILE *f = fopen(path, "r");
	int pid = -1;
	char end = 0;

	cr_assert_not_null(f);
	cr_assert_eq(fscanf(f, "%d%c", &pid, &end), 2);
	cr_assert_eq(end, '\n');
	(void)fclose(f);
	return pid;
}

static pid_t dead_pid(void)
{
	pid_t pid = fork();

	if (pid == 0)
		_exit(0);
	cr_assert_eq(waitpid(pid, NULL, 0), pid);
	return pid;
}

Test(pidfile, is_made_for_everybody_to_read)
{
	struct stat st;
	pid_t other = 0;

	cr_assert_eq(pidfile_write(path, getpid(), &other), 0);
	cr_assert_eq(written(), getpid());
	cr_assert_eq(stat(path, &st), 0);
	cr_assert_eq(st.st_mode & 0777, 0644);
}

Test(pidfile, left_overs_are_replaced)
{
	char dead[16];
	pid_t other = 0;

	(void)snprintf(dead, sizeof(dead), "%d\n", (int)dead_pid());

	const char *const texts[] = {
		"", "\n", "garbage", "12x", "-1\n", "0\n", "99999999999999999999\n", dead
	};

	for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
		put(texts[i]);
		cr_assert_eq(pidfile_write(path, getpid(), &other), 0, "over %s",
			     texts[i]);
		cr_assert_eq(written(), getpid());
	}
}

Test(pidfile, a_living_process_keeps_it)
{
	pid_t other = 0;

	put("1\n");
	cr_assert_eq(pidfile_write(path, getpid(), &other), -EEXIST);
	cr_assert_eq(other, 1);
	cr_assert_eq(written(), 1);
	pidfile_remove(path, getpid());
	cr_assert_eq(written(), 1);
}

Test(pidfile, our_own_is_written_again_and_removed)
{
	pid_t other = 0;

	cr_assert_eq(pidfile_write(path, getpid(), &other), 0);
	cr_assert_eq(pidfile_write(path, getpid(), &other), 0);
	pidfile_remove(path, getpid());
	cr_assert_eq(access(path, F_OK), -1);
	pidfile_remove(path, getpid());
}

Test(pidfile, a_directory_that_is_not_there)
{
	pid_t other = 0;

	cr_assert_eq(pidfile_write("/nonexistent/folder/pid", getpid(), &other), -ENOENT);
}
