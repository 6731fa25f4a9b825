/* Owns the conversation with CPython: function pointers found by name, one pending call, and
 * one short-lived thread that takes the GIL.
 *
 * It must never make the helper wait without bound, never run Python code on a thread of ours,
 * and never be inside the interpreter while that is taken down: asking for the GIL then ends the
 * thread at best and reads freed memory at worst. So before the first use an atexit function is
 * registered, which says that the end begins and waits for our thread to be out. What is left
 * is the very first use in a process that ends within the same microseconds.
 *
 * Facts about CPython 3.10 to 3.13 (3.9 lacks PyGC_Disable and counts as no interpreter):
 * - Py_AddPendingCall works from any thread without the GIL. Up to 3.12 such a call is not seen
 *   by a main thread that is busy and alone (python/cpython issue 95820): taking the GIL once
 *   makes it look. A main thread that sleeps in a system call looks when it wakes.
 * - Up to 3.11 a thread state is entered into a list under a lock that os.fork() does not hold and its
 *   child takes before it renews it (HEAD_LOCK in _PyThreadState_DeleteExcept): a child forked at
 *   that moment waits for ever. Threads of Python's own enter theirs with the GIL, which os.fork()
 *   has; ours cannot, so it is made behind a gate (gate.h), by the steps of PyGILState_Ensure.
 * - The object and function signatures below are in the stable ABI (PEP 384), but for
 *   PyThreadState_DeleteCurrent and PyInterpreterState_Main, which have been there since 3.7. */
#include "preload/python.h"

#include <dlfcn.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "preload/allocator.h"
#include "preload/gate.h"
#include "preload/self.h"

enum {
	NUDGE_AFTER_MSEC = 20,
	/* Registering the atexit function may import a frozen module. */
	STACK_BYTES = 512 * 1024,
	METH_VARARGS = 1,
};

typedef struct python_object python_object;
typedef struct python_thread_state python_thread_state;
typedef struct python_interpreter python_interpreter;

struct python_method {
	const char *name;
	python_object *(*function)(python_object *self, python_object *arguments);
	int flags;
	const char *doc;
};

/* Every function that must be there. */
#define API                                                                           \
	FUNCTION(int, Py_IsInitialized, (void))                                       \
	FUNCTION(const char *, Py_GetVersion, (void))                                 \
	FUNCTION(int, Py_AddPendingCall, (int (*function)(void *), void *argument))   \
	FUNCTION(ssize_t, PyGC_Collect, (void))                                       \
	FUNCTION(int, PyGC_Disable, (void))                                           \
	FUNCTION(int, PyGC_Enable, (void))                                            \
	FUNCTION(python_interpreter *, PyInterpreterState_Main, (void))               \
	FUNCTION(python_thread_state *, PyThreadState_New,                            \
		 (python_interpreter * interpreter))                                  \
	FUNCTION(void, PyThreadState_Clear, (python_thread_state * state))            \
	FUNCTION(void, PyThreadState_DeleteCurrent, (void))                           \
	FUNCTION(python_thread_state *, PyEval_SaveThread, (void))                    \
	FUNCTION(void, PyEval_RestoreThread, (python_thread_state * state))           \
	FUNCTION(python_interpreter *, PyInterpreterState_Head, (void))               \
	FUNCTION(python_interpreter *, PyInterpreterState_Next,                       \
		 (python_interpreter * one))                                          \
	FUNCTION(python_object *, PyImport_ImportModuleLevel,                         \
		 (const char *name, python_object *globals, python_object *locals,    \
		  python_object *from, int level))                                    \
	FUNCTION(python_object *, PyCFunction_NewEx,                                  \
		 (struct python_method * method, python_object * self,                \
		  python_object * module))                                            \
	FUNCTION(python_object *, PyObject_CallMethod,                                \
		 (python_object * object, const char *name, const char *format, ...)) \
	FUNCTION(python_object *, Py_BuildValue, (const char *format, ...))           \
	FUNCTION(void, Py_DecRef, (python_object * object))                           \
	FUNCTION(void, PyErr_Clear, (void))

static struct {
	bool complete;
	int (*is_finalizing)(void);
#define FUNCTION(type, name, arguments) type(*name) arguments;
	API
#undef FUNCTION
} api;

/* Bumped, as a futex, by whatever a waiter here may be waiting for. */
static _Atomic uint32_t events;

static _Atomic uint32_t n_collections_asked, n_collections_ended;

typedef void work_fn(void);

static struct {
	_Atomic pid_t pid;
	_Atomic(work_fn *) work; /* asked for, not begun */
	atomic_bool busy;	 /* there is a thread */
	atomic_bool inside;	 /* the thread is in the interpreter, or about to be */
	atomic_bool ending;	 /* the interpreter is on its way out: stay away */
	bool guarded;		 /* the atexit function is registered */
} gil;

static void futex_wait_until(_Atomic uint32_t *word, uint32_t value, uint64_t deadline)
{
	uint64_t now = self_now_nsec();
	uint64_t left = deadline > now ? deadline - now : 0;
	const struct timespec timeout = {
		.tv_sec = (time_t)(left / 1000000000u),
		.tv_nsec = (long)(left % 1000000000u),
	};

	(void)syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, &timeout, NULL, 0);
}

static void announce(void)
{
	atomic_fetch_add(&events, 1);
	(void)syscall(SYS_futex, &events, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

static bool wait_until(bool (*is_so)(void), uint64_t deadline)
{
	for (;;) {
		uint32_t seen = atomic_load(&events);

		if (is_so())
			return true;
		if (self_now_nsec() >= deadline)
			return false;
		futex_wait_until(&events, seen, deadline);
	}
}

static uint64_t after_msec(unsigned msec)
{
	return self_now_nsec() + (uint64_t)msec * 1000000u;
}

void python_detect(void)
{
	bool complete = dlsym(RTLD_DEFAULT, "Py_IsInitialized");

	if (!complete)
		return; /* the usual case, for one failed look-up */
#define FUNCTION(type, name, arguments)                           \
	api.name = (type(*) arguments)dlsym(RTLD_DEFAULT, #name); \
	complete &= api.name != NULL;
	API
#undef FUNCTION
		/* Public since 3.13. */
		api.is_finalizing = dlsym(RTLD_DEFAULT, "Py_IsFinalizing");
	if (!api.is_finalizing)
		api.is_finalizing = dlsym(RTLD_DEFAULT, "_Py_IsFinalizing");
	api.complete = complete && api.is_finalizing;
	if (api.complete)
		gate_prepare();
}

bool python_is_there(void)
{
	return api.complete;
}

bool python_is_running(void)
{
	return api.complete && !atomic_load(&gil.ending) && api.Py_IsInitialized() &&
	       !api.is_finalizing();
}

const char *python_version(void)
{
	return api.Py_GetVersion();
}

unsigned python_count_interpreters(void)
{
	unsigned n = 0;

	for (python_interpreter *one = api.PyInterpreterState_Head(); one;
	     one = api.PyInterpreterState_Next(one))
		n++;
	return n;
}

/* In the main thread of Python, with the GIL, between two bytecodes. A forked child inherits
 * the queue of pending calls: then this is harmless, and nobody waits. */
static int collect_here(void *unused)
{
	(void)unused;
	(void)api.PyGC_Collect();
	allocator_release_own_thread();
	atomic_store(&n_collections_ended, atomic_load(&n_collections_asked));
	announce();
	return 0;
}

bool python_collection_is_due(void)
{
	return atomic_load(&n_collections_ended) != atomic_load(&n_collections_asked);
}

static bool collection_has_ended(void)
{
	return !python_collection_is_due();
}

/* Our thread in the interpreter */

/* Called by Python as the first of its atexit functions, before anything is torn down. */
static python_object *interpreter_ends(python_object *self, python_object *arguments)
{
	(void)self;
	(void)arguments;
	atomic_store(&gil.ending, true);
	/* A forked child has our flags but not our thread. */
	if (gil.pid == getpid()) {
		python_thread_state *state = api.PyEval_SaveThread();

		while (atomic_load(&gil.inside)) {
			uint32_t seen = atomic_load(&events);

			if (atomic_load(&gil.inside))
				futex_wait_until(&events, seen, after_msec(1000));
		}
		api.PyEval_RestoreThread(state);
	}
	return api.Py_BuildValue("");
}

static bool register_atexit(void)
{
	static struct python_method method = {
		.name = "trimtab_interpreter_ends",
		.function = interpreter_ends,
		.flags = METH_VARARGS,
	};
	python_object *module, *function = NULL, *result = NULL;

	/* Not by the import statement's function, which an application may have replaced. */
	module = api.PyImport_ImportModuleLevel("atexit", NULL, NULL, NULL, 0);
	if (module)
		function = api.PyCFunction_NewEx(&method, NULL, NULL);
	if (function)
		result = api.PyObject_CallMethod(module, "register", "O", function);
	if (!result)
		api.PyErr_Clear();
	api.Py_DecRef(result);
	api.Py_DecRef(function);
	api.Py_DecRef(module);
	return result;
}

static void guard_the_end(void)
{
	/* Objects are made: before 3.12 that may start a collection on the spot, and with it
	 * finalizers on this thread. */
	int enabled = api.PyGC_Disable();

	gil.guarded = register_atexit();
	if (enabled)
		(void)api.PyGC_Enable();
}

static void be_inside(void)
{
	work_fn *work = atomic_exchange(&gil.work, NULL);
	python_thread_state *state;

	if (!python_is_running())
		return;
	gate_enter();
	state = api.PyThreadState_New(api.PyInterpreterState_Main());
	gate_leave();
	if (!state)
		return;
	api.PyEval_RestoreThread(state);
	if (!gil.guarded)
		guard_the_end();
	if (gil.guarded && work)
		work();
	api.PyThreadState_Clear(state);
	api.PyThreadState_DeleteCurrent();
}

/* What is asked for while the thread is on its way out makes it turn round. */
static void *gil_thread(void *unused)
{
	(void)unused;
	(void)prctl(PR_SET_NAME, "trimtab-gil");
	do {
		/* In this order: python_is_running asks whether the end has begun. */
		atomic_store(&gil.inside, true);
		be_inside();
		atomic_store(&gil.inside, false);
		atomic_store(&gil.busy, false);
		announce();
	} while (atomic_load(&gil.work) && !atomic_exchange(&gil.busy, true));
	return NULL;
}

/* Asked for first, then busy: the thread is busy from before it takes the work until that is done. The
 * other way round it may turn round in between, and be at the work that it has just taken. */
static bool gil_thread_is_done(void)
{
	return !atomic_load(&gil.work) && !atomic_load(&gil.busy);
}

/* The thread inherits the helper's mask: every signal blocked. */
static bool create_gil_thread(void)
{
	pthread_attr_t attributes;
	pthread_t thread;
	int r;

	if (pthread_attr_init(&attributes) != 0)
		return false;
	(void)pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	(void)pthread_attr_setstacksize(&attributes, STACK_BYTES);
	r = pthread_create(&thread, &attributes, gil_thread, NULL);
	(void)pthread_attr_destroy(&attributes);
	return r == 0;
}

/* A template looks the functions up for its children, and one that was a worker before has been in
 * the interpreter: a forked child has its flags, but not its thread. */
static void begin_anew_after_fork(void)
{
	pid_t pid = getpid();

	if (atomic_exchange(&gil.pid, pid) == pid)
		return;
	atomic_store(&gil.work, NULL);
	atomic_store(&gil.inside, false);
	atomic_store(&gil.busy, false);
}

/* Without work the thread takes the GIL and lets it go. */
static bool want_gil_thread(work_fn *work)
{
	begin_anew_after_fork();
	if (work)
		atomic_store(&gil.work, work);
	if (atomic_exchange(&gil.busy, true))
		return true; /* it is there, and will see */
	if (create_gil_thread())
		return true;
	atomic_store(&gil.work, NULL);
	atomic_store(&gil.busy, false);
	return false;
}

bool python_run_with_gil(void (*work)(void), unsigned wait_msec)
{
	if (!python_is_running() || !want_gil_thread(work))
		return false;
	return wait_until(gil_thread_is_done, after_msec(wait_msec));
}

bool python_yield_gil(void)
{
	python_thread_state *state = api.PyEval_SaveThread();

	api.PyEval_RestoreThread(state);
	return !atomic_load(&gil.ending);
}

enum trimtab_gc_result python_collect(unsigned wait_msec)
{
	uint64_t deadline = after_msec(wait_msec);
	unsigned patience = wait_msec < NUDGE_AFTER_MSEC ? wait_msec : NUDGE_AFTER_MSEC;

	if (!python_is_running())
		return TRIMTAB_GC_REFUSED;
	/* One that is still due will do for this request as well. */
	if (!python_collection_is_due()) {
		atomic_fetch_add(&n_collections_asked, 1);
		if (api.Py_AddPendingCall(collect_here, NULL) != 0) {
			atomic_fetch_sub(&n_collections_asked, 1);
			return TRIMTAB_GC_REFUSED;
		}
	}
	if (wait_until(collection_has_ended, after_msec(patience)))
		return TRIMTAB_GC_DONE;
	if (python_is_running())
		(void)want_gil_thread(NULL);
	return wait_until(collection_has_ended, deadline) ? TRIMTAB_GC_DONE
							  : TRIMTAB_GC_TIMEOUT;
}
