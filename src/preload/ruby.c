/* Owns the conversation with Ruby: function pointers found by name, and one postponed job.
 *
 * It must never wait for Ruby without bound, never run Ruby code on a thread of ours, never
 * register a job with a virtual machine that is not up yet or being taken down, and never collect
 * while source is being loaded: interrupts are looked for there too, when a file has been read,
 * and Ruby 3.1 then died of objects that its parser had not made known ("try to mark T_NONE
 * object", seen in require, 1 of 60 starts).
 *
 * Facts about Ruby 2.7 to 3.4 (vm_trace.c, include/ruby/debug.h):
 * - A postponed job runs with the GVL when the interpreter next looks for interrupts, and may be
 *   registered by any thread, a signal handler included. A Ruby that sleeps looks when it wakes.
 *   rb_postponed_job_register_one is there in all of them, deprecated since 3.3, which has
 *   rb_postponed_job_preregister and rb_postponed_job_trigger instead.
 * - rb_stdout is set while the interpreter starts, after the queue of jobs was made.
 * - No frame is pushed for a job: the current method is the one that it interrupts. There is none
 *   at the top level of a script, nor while the script itself is read.
 * - ruby_vm_at_exit wants the GVL; what it registers is called before the machine is freed. */
#include "preload/ruby.h"

#include <dlfcn.h>
#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "preload/self.h"

#define NO_HANDLE UINT_MAX

typedef void job_fn(void *data);

static struct {
	unsigned long *stdout_object;
	unsigned long (*gc_start)(void);
	int (*register_one)(unsigned flags, job_fn *job, void *data);
	unsigned (*preregister)(unsigned flags, job_fn *job, void *data);
	void (*trigger)(unsigned handle);
	void (*at_exit)(void (*function)(void *machine));
	unsigned long (*this_method)(void);
	const char *(*name_of)(unsigned long id);
} api;

static struct {
	_Atomic pid_t pid; /* of the process that we call it in */
	bool preregistered, guarded;
	unsigned handle;
	atomic_bool inside;  /* we are calling it */
	atomic_bool ending;  /* it is on its way out: stay away */
	atomic_bool refused; /* it was a bad moment: to be asked for again */
	_Atomic uint32_t n_asked, n_ended;
} ruby;

void ruby_detect(void)
{
	api.gc_start = dlsym(RTLD_DEFAULT, "rb_gc_start");
	if (!api.gc_start)
		return; /* the usual case, for one failed look-up */
	api.stdout_object = dlsym(RTLD_DEFAULT, "rb_stdout");
	api.register_one = dlsym(RTLD_DEFAULT, "rb_postponed_job_register_one");
	api.preregister = dlsym(RTLD_DEFAULT, "rb_postponed_job_preregister");
	api.trigger = dlsym(RTLD_DEFAULT, "rb_postponed_job_trigger");
	api.at_exit = dlsym(RTLD_DEFAULT, "ruby_vm_at_exit");
	api.this_method = dlsym(RTLD_DEFAULT, "rb_frame_this_func");
	api.name_of = dlsym(RTLD_DEFAULT, "rb_id2name");
}

bool ruby_is_there(void)
{
	return api.gc_start && api.stdout_object && api.at_exit && api.this_method &&
	       api.name_of && ((api.preregister && api.trigger) || api.register_one);
}

static void machine_ends(void *machine)
{
	(void)machine;
	atomic_store(&ruby.ending, true);
	/* For as long as it takes to put a job into a queue. A forked child has our flags but not our
	 * thread. */
	while (atomic_load(&ruby.inside) && atomic_load(&ruby.pid) == getpid())
		(void)sched_yield();
}

static bool is_loading_source(void)
{
	static const char *const loaders[] = {
		"require",    "require_relative", "load",
		"eval",	      "instance_eval",	  "compile",
		"class_eval", "module_eval",	  "compile_file",
	};
	unsigned long method = api.this_method();
	const char *name = method ? api.name_of(method) : NULL;

	if (!name)
		return true; /* perhaps the script itself */
	for (size_t i = 0; i < sizeof loaders / sizeof *loaders; i++)
		if (strcmp(name, loaders[i]) == 0)
			return true;
	return false;
}

/* With the GVL, between two instructions. A forked child inherits the queue: then this is harmless,
 * and nobody waits. */
static void collect_here(void *unused)
{
	(void)unused;
	if (is_loading_source()) {
		atomic_store(&ruby.refused, true);
		return;
	}
	if (!ruby.guarded) {
		ruby.guarded = true;
		api.at_exit(machine_ends);
	}
	(void)api.gc_start();
	atomic_store(&ruby.n_ended, atomic_load(&ruby.n_asked));
	(void)syscall(SYS_futex, &ruby.n_ended, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL,
		      0);
}

static bool post_by_handle(void)
{
	/* The table is small and never shrinks, so once. */
	if (!ruby.preregistered)
		ruby.handle = api.preregister(0, collect_here, NULL);
	ruby.preregistered = true;
	if (ruby.handle == NO_HANDLE)
		return false;
	api.trigger(ruby.handle);
	return true;
}

static bool post(void)
{
	bool posted = false;

	atomic_store(&ruby.pid, getpid());
	atomic_store(&ruby.inside, true);
	if (!atomic_load(&ruby.ending) &&
	    *(volatile unsigned long *)api.stdout_object != 0)
		posted = api.preregister && api.trigger
				 ? post_by_handle()
				 : api.register_one(0, collect_here, NULL) != 0;
	atomic_store(&ruby.inside, false);
	return posted;
}

static bool has_ended(void)
{
	return atomic_load(&ruby.n_ended) == atomic_load(&ruby.n_asked);
}

bool ruby_collection_is_due(void)
{
	if (has_ended())
		return false;
	if (atomic_exchange(&ruby.refused, false))
		(void)post();
	return true;
}

static void wait_until(uint64_t deadline)
{
	uint64_t now;

	while (!has_ended() && (now = self_now_nsec()) < deadline) {
		const struct timespec left = {
			.tv_sec = (time_t)((deadline - now) / 1000000000u),
			.tv_nsec = (long)((deadline - now) % 1000000000u),
		};
		uint32_t seen = atomic_load(&ruby.n_ended);

		if (!has_ended())
			(void)syscall(SYS_futex, &ruby.n_ended, FUTEX_WAIT_PRIVATE, seen,
				      &left, NULL, 0);
	}
}

enum trimtab_gc_result ruby_collect(unsigned wait_msec)
{
	/* One that is still due will do for this request as well. */
	if (!ruby_collection_is_due()) {
		atomic_fetch_add(&ruby.n_asked, 1);
		if (!post()) {
			atomic_fetch_sub(&ruby.n_asked, 1);
			return TRIMTAB_GC_REFUSED;
		}
	}
	wait_until(self_now_nsec() + (uint64_t)wait_msec * 1000000u);
	return has_ended() ? TRIMTAB_GC_DONE : TRIMTAB_GC_TIMEOUT;
}
