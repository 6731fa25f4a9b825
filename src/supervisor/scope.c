/* StartTransientUnit over D-Bus. Blocks on the bus: never called from the loop. */
#include "supervisor/scope.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <systemd/sd-bus.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/time.h"

static void cleanup_bus(sd_bus **bus)
{
	sd_bus_flush_close_unref(*bus);
}

static void cleanup_message(sd_bus_message **m)
{
	sd_bus_message_unref(*m);
}

struct job {
	char path[256];
	char result[32]; /* "" until the job was removed */
};

static int on_job_removed(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct job *job = userdata;
	const char *path, *unit, *result;
	uint32_t id;

	(void)error;
	if (sd_bus_message_read(m, "uoss", &id, &path, &unit, &result) < 0)
		return 0;
	if (strcmp(path, job->path) == 0)
		(void)snprintf(job->result, sizeof(job->result), "%s", result);
	return 0;
}

static int append_properties(sd_bus_message *m, const char *pool)
{
	char description[128];
	int r;

	(void)snprintf(description, sizeof(description), "trimtab pool %s", pool);
	r = sd_bus_message_open_container(m, 'a', "(sv)");
	if (r >= 0)
		r = sd_bus_message_append(m, "(sv)", "Description", "s", description);
	if (r >= 0)
		r = sd_bus_message_append(m, "(sv)", "Delegate", "b", 1);
	if (r >= 0)
		r = sd_bus_message_append(m, "(sv)", "CollectMode", "s",
					  "inactive-or-failed");
	if (r >= 0)
		r = sd_bus_message_append(m, "(sv)", "PIDs", "au", 1, (uint32_t)getpid());
	if (r >= 0)
		r = sd_bus_message_close_container(m);
	if (r >= 0)
		r = sd_bus_message_append(m, "a(sa(sv))", 0);
	return r;
}

static int start_unit(sd_bus *bus, const char *pool, struct job *job)
{
	CLEANUP(cleanup_message) sd_bus_message *call = NULL;
	CLEANUP(cleanup_message) sd_bus_message *reply = NULL;
	const char *path;
	char unit[128];
	int r;

	(void)snprintf(unit, sizeof(unit), "trimtab-%s-%d.scope", pool, (int)getpid());
	r = sd_bus_message_new_method_call(
		bus, &call, "org.freedesktop.systemd1", "/org/freedesktop/systemd1",
		"org.freedesktop.systemd1.Manager", "StartTransientUnit");
	if (r >= 0)
		r = sd_bus_message_append(call, "ss", unit, "fail");
	if (r >= 0)
		r = append_properties(call, pool);
	if (r >= 0)
		r = sd_bus_call(bus, call, 5 * USEC_PER_SEC, NULL, &reply);
	if (r >= 0)
		r = sd_bus_message_read(reply, "o", &path);
	if (r >= 0)
		(void)snprintf(job->path, sizeof(job->path), "%s", path);
	return r;
}

static int wait_for_job(sd_bus *bus, const struct job *job, unsigned timeout_sec)
{
	usec_t deadline = usec_add(time_now_usec(), timeout_sec * USEC_PER_SEC);

	while (job->result[0] == '\0') {
		usec_t left = usec_sub(deadline, time_now_usec());
		int r;

		if (left == 0)
			return -ETIMEDOUT;
		r = sd_bus_process(bus, NULL);
		if (r == 0)
			r = sd_bus_wait(bus, left);
		if (r < 0)
			return r;
	}
	return strcmp(job->result, "done") == 0 ? 0 : -EIO;
}

int scope_enter(const char *pool, unsigned timeout_sec)
{
	CLEANUP(cleanup_bus) sd_bus *bus = NULL;
	struct job job = { "", "" };
	int r;

	r = geteuid() == 0 ? sd_bus_open_system(&bus) : sd_bus_open_user(&bus);
	if (r < 0)
		return r;
	/* Before the call, or the signal may be gone before anybody listens. */
	r = sd_bus_match_signal(
		bus, NULL, "org.freedesktop.systemd1", "/org/freedesktop/systemd1",
		"org.freedesktop.systemd1.Manager", "JobRemoved", on_job_removed, &job);
	if (r >= 0)
		r = sd_bus_call_method(
			bus, "org.freedesktop.systemd1", "/org/freedesktop/systemd1",
			"org.freedesktop.systemd1.Manager", "Subscribe", NULL, NULL, "");
	if (r >= 0)
		r = start_unit(bus, pool, &job);
	if (r >= 0)
		r = wait_for_job(bus, &job, timeout_sec);
	return r < 0 ? r : 0;
}
