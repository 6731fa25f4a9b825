/* A worker that says what it finds: one line for each thing, on standard output, then ends. With
 * the word "wait" it stays until a signal ends it. */
#include <dirent.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

extern char **environ;

static void say_descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	struct dirent *e;

	while (dir && (e = readdir(dir))) {
		char path[64], target[PATH_MAX];
		ssize_t n;

		if (e->d_name[0] == '.' || atoi(e->d_name) == dirfd(dir))
			continue;
		(void)snprintf(path, sizeof(path), "/proc/self/fd/%.20s", e->d_name);
		n = readlink(path, target, sizeof(target) - 1);
		target[n > 0 ? n : 0] = '\0';
		(void)printf("fd %s %s\n", e->d_name, target);
	}
	if (dir)
		(void)closedir(dir);
}

static void say_file(const char *path, const char *prefix, const char *name)
{
	FILE *f = fopen(path, "re");
	char line[4096];

	while (f && fgets(line, sizeof(line), f))
		if (strncmp(line, prefix, strlen(prefix)) == 0)
			(void)printf("%s%s", name, line);
	if (f)
		(void)fclose(f);
}

int main(int argc, char **argv)
{
	char directory[PATH_MAX] = "";
	int death_signal = 0;

	(void)prctl(PR_GET_PDEATHSIG, &death_signal);
	(void)printf("pid %d\nsession %d\nparent %d\n", getpid(), getsid(0), getppid());
	(void)printf("death-signal %d\n", death_signal);
	(void)printf("directory %s\n",
		     getcwd(directory, sizeof(directory)) ? directory : "?");
	for (int i = 0; i < argc; i++)
		(void)printf("argument %s\n", argv[i]);
	for (char **e = environ; *e; e++)
		(void)printf("env %s\n", *e);
	say_descriptors();
	say_file("/proc/self/status", "Sig", "status ");
	say_file("/proc/self/status", "Threads", "status ");
	say_file("/proc/self/oom_score_adj", "", "oom ");
	say_file("/proc/self/cgroup", "0::", "cgroup ");
	(void)puts("end");
	(void)fflush(stdout);
	while (argc > 1 && strcmp(argv[1], "wait") == 0)
		(void)pause();
	return 0;
}
