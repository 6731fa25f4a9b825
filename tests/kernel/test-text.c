/* Reading without heap: pieces, long lines, missing newlines, files that do not fit. */
#include "kernel/text.h"

#include <errno.h>
#include <sys/mman.h>

#include "fixture.h"

static int file_with(const char *bytes, size_t length)
{
	int fd = memfd_create("text", MFD_CLOEXEC);

	cr_assert_geq(fd, 0, "%m");
	cr_assert_eq(write(fd, bytes, length), (ssize_t)length);
	cr_assert_eq(lseek(fd, 0, SEEK_SET), 0);
	return fd;
}

Test(text, whole_or_not_at_all)
{
	auto_close int fd = file_with("12345", 5);
	char six[6], five[5];

	cr_assert_eq(text_read_fd(fd, six, sizeof(six)), 0);
	cr_assert_str_eq(six, "12345");
	cr_assert_eq(text_read_fd(fd, six, sizeof(six)), 0, "reading starts at 0 again");
	cr_assert_eq(text_read_fd(fd, five, sizeof(five)), -EMSGSIZE);
	cr_assert_eq(text_read(AT_FDCWD, "/nonexistent", six, sizeof(six)), -ENOENT);
	cr_assert_eq(text_read(AT_FDCWD, "/", six, sizeof(six)), -EISDIR);
}

Test(text, lines_with_and_without_a_last_newline)
{
	auto_close int fd = file_with("a\n\nbc", 5);
	struct text_lines lines;
	char *line;

	text_lines_init(&lines, fd);
	cr_assert_eq(text_lines_next(&lines, &line), 1);
	cr_assert_str_eq(line, "a");
	cr_assert_eq(text_lines_next(&lines, &line), 1);
	cr_assert_str_eq(line, "");
	cr_assert_eq(text_lines_next(&lines, &line), 1);
	cr_assert_str_eq(line, "bc");
	cr_assert_eq(text_lines_next(&lines, &line), 0);
	cr_assert_eq(text_lines_next(&lines, &line), 0);
}

Test(text, an_empty_file_has_no_line)
{
	auto_close int fd = file_with("", 0);
	struct text_lines lines;
	char *line;

	text_lines_init(&lines, fd);
	cr_assert_eq(text_lines_next(&lines, &line), 0);
}

Test(text, a_line_that_does_not_fit_is_cut)
{
	const size_t fits = sizeof(((struct text_lines *)0)->buffer) - 1;

	/* Around the size of the buffer, and around its multiples. */
	for (size_t length = fits - 2; length <= 3 * fits + 2;
	     length += length == fits + 2 ? 2 * fits - 4 : 1) {
		auto_free char *bytes = malloc(length + 3);
		auto_close int fd = -1;
		struct text_lines lines;
		char *line;

		memset(bytes, 'x', length);
		memcpy(bytes + length, "\nyz", 3);
		fd = file_with(bytes, length + 3);

		text_lines_init(&lines, fd);
		cr_assert_eq(text_lines_next(&lines, &line), 1);
		cr_expect_eq(strlen(line), length < fits ? length : fits);
		cr_assert_eq(text_lines_next(&lines, &line), 1);
		cr_expect_str_eq(line, "yz", "after %zu bytes", length);
		cr_assert_eq(text_lines_next(&lines, &line), 0);
	}
}

Test(text, a_file_of_many_pieces)
{
	struct text_lines lines;
	auto_close int fd = -1;
	int pipe_fds[2], n = 0;
	char *line;

	/* A pipe hands out what was written at once, however little. */
	cr_assert_eq(pipe2(pipe_fds, O_CLOEXEC), 0);
	fd = pipe_fds[0];
	cr_assert_eq(dprintf(pipe_fds[1], "10"), 2);
	text_lines_init(&lines, fd);
	if (fork() == 0) {
		for (int i = 1; i < 5000; i++)
			(void)dprintf(pipe_fds[1], "%d\n1%d", i % 10, i);
		_exit(0);
	}
	(void)close_fd(pipe_fds[1]);
	while (text_lines_next(&lines, &line) > 0)
		n++;
	cr_assert_eq(n, 5000);
}

Test(text, errors_come_through)
{
	auto_close int fd = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct text_lines lines;
	char *line;

	text_lines_init(&lines, fd);
	cr_assert_eq(text_lines_next(&lines, &line), -EISDIR);
}
