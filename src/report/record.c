/* Ring of records and the thread that writes them.
 *
 * One producer (the event loop), one consumer (the writer): head and tail are the only shared
 * words, each written by one side. The loop must never wait here; the writer may wait for
 * anything. The writer touches nothing of the supervisor. */
#include "report/record.h"

#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include <systemd/sd-daemon.h>
#include <systemd/sd-journal.h>

#include "util/cleanup.h"

enum {
	N_RECORDS = 64,
	N_KEPT = 8, /* of them for what the service manager waits for */
	N_FIELDS = 28,
	TEXT_SIZE = 1536,
	N_OUTPUTS = 4096,  /* as many as there can be workers */
	LINE_SIZE = 4096,  /* longer lines of a worker are written in pieces */
	PIPE_SIZE = 65536, /* what a worker can have written before it ended */
	HOLD_SEC = 2,
};

struct record {
	int priority; /* -1: a notification for the service manager */
	enum event event;
	unsigned n_fields;
	size_t used;
	struct timespec when; /* CLOCK_REALTIME: shown, never used for a decision */
	struct {
		uint16_t offset, length;
	} fields[N_FIELDS];
	char text[TEXT_SIZE];
};

struct output {
	unsigned worker;
	size_t used;
	char line[LINE_SIZE];
};

static const struct {
	const char *name, *id;
} events[N_EVENTS] = {
#define EVENT(name, text, id) [EVENT_##name] = { text, id },
#include "report/events.def"
#undef EVENT
};

static struct {
	char pool[64];
	enum record_target target;
	_Atomic enum record_format format; /* read by the writer */
	int max_priority;
	pthread_t thread;
	bool open;
	int wake_fd; /* eventfd: there is something to do */

	struct record ring[N_RECORDS];
	_Atomic unsigned head; /* next to fill: written by the loop */
	_Atomic unsigned tail; /* next to write: written by the writer */
	_Atomic unsigned dropped;
	_Atomic bool stop;
	pthread_cond_t turn; /* hold has changed; with the lock */
	enum { WRITER_RUNS, WRITER_ASKED, WRITER_HELD } hold;

	/* Output pipes. The loop appends under the lock, the writer reads the count under it. */
	pthread_mutex_t lock;
	struct pollfd polls[N_OUTPUTS + 1];
	struct output *outputs[N_OUTPUTS];
	unsigned n_outputs;
} g = {
	.wake_fd = -1,
	.lock = PTHREAD_MUTEX_INITIALIZER,
	.turn = PTHREAD_COND_INITIALIZER,
};

/* ---- the loop's side ---- */

static void wake_writer(void)
{
	uint64_t one = 1;
	ssize_t n = write(g.wake_fd, &one, sizeof(one));

	(void)n; /* EAGAIN: the counter is far from empty, so the writer is awake */
}

/* NULL when so many wait already. */
static struct record *take_record(unsigned most)
{
	unsigned head = atomic_load_explicit(&g.head, memory_order_relaxed);

	if (head - atomic_load_explicit(&g.tail, memory_order_acquire) >= most) {
		atomic_fetch_add_explicit(&g.dropped, 1, memory_order_relaxed);
		return NULL;
	}

	struct record *r = &g.ring[head % N_RECORDS];

	r->n_fields = 0;
	r->used = 0;
	(void)clock_gettime(CLOCK_REALTIME, &r->when);
	return r;
}

static void add_field(struct record *r, const char *prefix, const char *format,
		      va_list args)
{
	size_t room = TEXT_SIZE - r->used, length = strlen(prefix);

	if (r->n_fields >= N_FIELDS || length + 2 > room)
		return;
	memcpy(r->text + r->used, prefix, length);

	int n = vsnprintf(r->text + r->used + length, room - length, format, args);

	if (n < 0)
		return;
	length += (size_t)n;
	if (length >= room)
		length = room - 1; /* cut, not lost: the start of a message says most */
	r->fields[r->n_fields].offset = (uint16_t)r->used;
	r->fields[r->n_fields].length = (uint16_t)length;
	r->n_fields++;
	r->used += length + 1;
}

__attribute__((format(printf, 3, 4))) static void
add_plain(struct record *r, const char *prefix, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	add_field(r, prefix, format, args);
	va_end(args);
}

struct record *record_begin(enum event event, int priority, const char *format, ...)
{
	va_list args;

	if (!g.open || priority > g.max_priority)
		return NULL;

	struct record *r = take_record(N_RECORDS - N_KEPT);

	if (!r)
		return NULL;
	r->event = event;
	r->priority = priority;
	va_start(args, format);
	add_field(r, "MESSAGE=", format, args);
	va_end(args);
	add_plain(r, "MESSAGE_ID=", "%s", events[event].id);
	add_plain(r, "PRIORITY=", "%i", priority);
	add_plain(r, "SYSLOG_IDENTIFIER=", "trimtab");
	add_plain(r, "TRIMTAB_EVENT=", "%s", events[event].name);
	add_plain(r, "TRIMTAB_POOL=", "%s", g.pool);
	return r;
}

void record_add(struct record *r, const char *format, ...)
{
	va_list args;

	if (!r)
		return;
	va_start(args, format);
	add_field(r, "", format, args);
	va_end(args);
}

void record_commit(struct record *r)
{
	if (!r)
		return;
	atomic_fetch_add_explicit(&g.head, 1, memory_order_release);
	wake_writer();
}

void record_notify_manager(const char *format, ...)
{
	va_list args;

	if (!g.open)
		return;

	/* A lost READY=1 would have us killed at the start's timeout; a lost status, nothing. */
	bool kept = strncmp(format, "STATUS=", strlen("STATUS=")) != 0;
	struct record *r = take_record(kept ? N_RECORDS : N_RECORDS - N_KEPT);

	if (!r)
		return;
	r->priority = -1;
	va_start(args, format);
	add_field(r, "", format, args);
	va_end(args);
	record_commit(r);
}

/* ---- the writer's side ---- */

static void write_all(const char *text, size_t length)
{
	while (length > 0) {
		ssize_t n = write(STDERR_FILENO, text, length);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN) {
			struct pollfd p = { .fd = STDERR_FILENO, .events = POLLOUT };

			(void)poll(&p, 1, 1000);
			continue;
		}
		if (n <= 0)
			return; /* nobody reads: there is no place left to complain */
		text += n;
		length -= (size_t)n;
	}
}

static void to_journal(const struct record *r)
{
	struct iovec iov[N_FIELDS];

	for (unsigned i = 0; i < r->n_fields; i++)
		iov[i] = (struct iovec){ (void *)(r->text + r->fields[i].offset),
					 r->fields[i].length };
	(void)sd_journal_sendv(iov, (int)r->n_fields);
}

static const char *message_of(const struct record *r)
{
	return r->text + r->fields[0].offset + strlen("MESSAGE=");
}

static const char *mark_of(int priority)
{
	if (priority <= LOG_ERR)
		return "error: ";
	return priority == LOG_WARNING ? "warning: " : "";
}

static void to_stderr_text(const struct record *r)
{
	char line[TEXT_SIZE + 64];
	struct tm tm;

	(void)localtime_r(&r->when.tv_sec, &tm);

	int n = snprintf(line, sizeof(line), "%02d:%02d:%02d.%03ld trimtab  | %s%s\n",
			 tm.tm_hour, tm.tm_min, tm.tm_sec, r->when.tv_nsec / 1000000,
			 mark_of(r->priority), message_of(r));

	if (n > 0)
		write_all(line, (size_t)n < sizeof(line) ? (size_t)n : sizeof(line) - 1);
}

static void write_json(struct json_object *object)
{
	size_t length;
	const char *text = json_object_to_json_string_length(
		object, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE, &length);

	if (text) {
		write_all(text, length);
		write_all("\n", 1);
	}
	json_object_put(object);
}

/* Length of the UTF-8 sequence at p, or 0 when it is none: overlong forms, surrogates and numbers
 * beyond U+10FFFF are none. */
static size_t sequence_length(const unsigned char *p, size_t n)
{
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	size_t length = *p < 0x80 ? 1 : *p >= 0xf0 ? 4 : *p >= 0xe0 ? 3 : 2;
	uint32_t c;

	if (length == 1)
		return 1;
	if (*p < 0xc2 || *p > 0xf4 || length > n)
		return 0;
	c = *p & (0x7fu >> length);
	for (size_t i = 1; i < length; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (p[i] & 0x3f);
	}
	return c >= least[length] && c <= 0x10ffff && (c < 0xd800 || c > 0xdfff) ? length
										 : 0;
}

/* A string of whatever bytes: one that is no UTF-8 becomes U+FFFD, or no strict reader would take
 * the line. */
static struct json_object *json_text(const char *text, size_t n)
{
	char valid[3 * LINE_SIZE];
	size_t used = 0;

	for (size_t i = 0; i < n && used + 4 <= sizeof(valid);) {
		size_t length = sequence_length((const unsigned char *)text + i, n - i);

		memcpy(valid + used, length ? text + i : "\xef\xbf\xbd",
		       length ? length : 3);
		used += length ? length : 3;
		i += length ? length : 1;
	}
	return json_object_new_string_len(valid, (int)used);
}

static void to_stderr_json(const struct record *r)
{
	struct json_object *object = json_object_new_object();
	char when[64];
	struct tm tm;

	if (!object)
		return;
	(void)gmtime_r(&r->when.tv_sec, &tm);
	(void)snprintf(when, sizeof(when), "%04d-%02d-%02dT%02d:%02d:%02d.%06ldZ",
		       tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour,
		       tm.tm_min, tm.tm_sec, r->when.tv_nsec / 1000);
	json_object_object_add(object, "TIME", json_object_new_string(when));
	for (unsigned i = 0; i < r->n_fields; i++) {
		const char *field = r->text + r->fields[i].offset;
		const char *equals = strchr(field, '=');
		char key[64];

		if (!equals || (size_t)(equals - field) >= sizeof(key))
			continue;
		memcpy(key, field, (size_t)(equals - field));
		key[equals - field] = '\0';
		json_object_object_add(object, key,
				       json_text(equals + 1, strlen(equals + 1)));
	}
	write_json(object);
}

static void write_record(const struct record *r)
{
	if (r->priority < 0)
		(void)sd_notify(/* unset_environment= */ false, r->text);
	else if (g.target == RECORD_JOURNAL)
		to_journal(r);
	else if (g.format == RECORD_JSON)
		to_stderr_json(r);
	else
		to_stderr_text(r);
}

static void report_dropped(void)
{
	unsigned n = atomic_exchange(&g.dropped, 0);
	struct record r = { .event = EVENT_DROPPED, .priority = LOG_WARNING };

	if (n == 0)
		return;
	(void)clock_gettime(CLOCK_REALTIME, &r.when);
	add_plain(&r,
		  "MESSAGE=", "%u records were dropped because the log could not keep up",
		  n);
	add_plain(&r, "MESSAGE_ID=", "%s", events[EVENT_DROPPED].id);
	add_plain(&r, "PRIORITY=", "%i", LOG_WARNING);
	add_plain(&r, "SYSLOG_IDENTIFIER=", "trimtab");
	add_plain(&r, "TRIMTAB_EVENT=", "%s", events[EVENT_DROPPED].name);
	add_plain(&r, "TRIMTAB_POOL=", "%s", g.pool);
	write_record(&r);
}

/* One line of a worker, without its newline. */
static void write_line(unsigned worker, const char *text, size_t length)
{
	char name[32];

	if (g.format == RECORD_JSON) {
		struct json_object *object = json_object_new_object();

		if (!object)
			return;
		(void)snprintf(name, sizeof(name), "%u", worker);
		json_object_object_add(object, "TRIMTAB_WORKER",
				       json_object_new_string(name));
		json_object_object_add(object, "MESSAGE", json_text(text, length));
		write_json(object);
		return;
	}

	char line[LINE_SIZE + 32];
	int n = worker > 0 ? snprintf(name, sizeof(name), "worker-%-2u| ", worker)
			   : snprintf(name, sizeof(name), "template | ");

	memcpy(line, name, (size_t)n);
	memcpy(line + n, text, length);
	line[(size_t)n + length] = '\n';
	write_all(line, (size_t)n + length + 1);
}

/* What stands there without a newline, when no more is to follow. */
static void flush_output(struct output *o)
{
	if (o->used > 0)
		write_line(o->worker, o->line, o->used);
	o->used = 0;
}

/* Under the lock: the loop may be looking for the pipes that are left. */
static void end_output(struct output *o, struct pollfd *p)
{
	pthread_mutex_lock(&g.lock);
	p->fd = close_fd(p->fd); /* poll skips negative descriptors */
	pthread_mutex_unlock(&g.lock);
	flush_output(o);
}

/* Returns whether there was something to read. */
static bool carry_output(struct output *o, struct pollfd *p)
{
	ssize_t n = read(p->fd, o->line + o->used, sizeof(o->line) - o->used);

	if (n <= 0) {
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return false;
		end_output(o, p);
		return false;
	}
	o->used += (size_t)n;

	size_t start = 0;
	char *newline;

	while ((newline = memchr(o->line + start, '\n', o->used - start))) {
		size_t end = (size_t)(newline - o->line);

		write_line(o->worker, o->line + start, end - start);
		start = end + 1;
	}
	if (start == 0 && o->used == sizeof(o->line)) {
		write_line(o->worker, o->line, o->used);
		start = o->used;
	}
	memmove(o->line, o->line + start, o->used - start);
	o->used -= start;
	return true;
}

static unsigned count_outputs(void)
{
	pthread_mutex_lock(&g.lock);

	unsigned n = g.n_outputs;

	pthread_mutex_unlock(&g.lock);
	return n;
}

/* A worker's last words come before the record of its end, and do not run into the first ones of
 * its successor. Bounded, as the successor may be writing already. */
static void finish_output(unsigned worker)
{
	unsigned n = count_outputs();

	for (unsigned i = 0; i < n; i++) {
		if (g.outputs[i]->worker != worker)
			continue;
		for (size_t got = 0;
		     got < PIPE_SIZE && carry_output(g.outputs[i], &g.polls[i + 1]);)
			got += LINE_SIZE;
		flush_output(g.outputs[i]);
	}
}

static unsigned worker_of(const struct record *r)
{
	unsigned worker = 0;

	for (unsigned i = 0; i < r->n_fields; i++)
		if (sscanf(r->text + r->fields[i].offset, "TRIMTAB_WORKER=%u", &worker) ==
		    1)
			break;
	return worker;
}

static void write_records(void)
{
	for (;;) {
		unsigned tail = atomic_load_explicit(&g.tail, memory_order_relaxed);

		if (tail == atomic_load_explicit(&g.head, memory_order_acquire))
			break;

		const struct record *r = &g.ring[tail % N_RECORDS];

		if (r->priority >= 0 && r->event == EVENT_EXIT)
			finish_output(worker_of(r));
		write_record(r);
		atomic_store_explicit(&g.tail, tail + 1, memory_order_release);
	}
	report_dropped();
}

static bool carry_outputs(unsigned n)
{
	bool carried = false;

	for (unsigned i = 0; i < n; i++)
		if (g.polls[i + 1].revents) {
			g.polls[i + 1].revents = 0;
			carry_output(g.outputs[i], &g.polls[i + 1]);
			carried = true;
		}
	return carried;
}

static bool is_asked_to_hold(void)
{
	pthread_mutex_lock(&g.lock);

	bool asked = g.hold == WRITER_ASKED;

	pthread_mutex_unlock(&g.lock);
	return asked;
}

static bool ring_is_empty(void)
{
	return atomic_load(&g.tail) == atomic_load(&g.head);
}

/* Where all is written: nothing of ours is lost when the process is replaced now. */
static void hold_if_asked(void)
{
	if (!is_asked_to_hold() || !ring_is_empty())
		return;
	/* Not under the lock: it may block, and whoever asked gives up after a while. */
	for (unsigned i = 0, n = count_outputs(); i < n; i++)
		flush_output(g.outputs[i]);
	pthread_mutex_lock(&g.lock);
	if (g.hold == WRITER_ASKED) {
		g.hold = WRITER_HELD;
		pthread_cond_signal(&g.turn);
	}
	while (g.hold == WRITER_HELD)
		pthread_cond_wait(&g.turn, &g.lock);
	pthread_mutex_unlock(&g.lock);
}

static void *writer(void *unused)
{
	(void)unused;
	g.polls[0] = (struct pollfd){ .fd = g.wake_fd, .events = POLLIN };
	for (;;) {
		bool last = atomic_load(&g.stop);
		unsigned n = count_outputs();
		int r = poll(g.polls, n + 1, last ? 0 : -1);

		if (r > 0 && g.polls[0].revents) {
			uint64_t count;
			ssize_t got = read(g.wake_fd, &count, sizeof(count));

			(void)got;
		}
		write_records();

		bool carried = r > 0 && carry_outputs(n);

		if (last && !carried)
			break;
		hold_if_asked();
	}
	for (unsigned i = 0, n = count_outputs(); i < n; i++)
		flush_output(g.outputs[i]);
	return NULL;
}

/* ---- opening and closing ---- */

bool record_stderr_is_journal(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	unsigned long device, inode;
	struct stat st;

	if (!stream || sscanf(stream, "%lu:%lu", &device, &inode) != 2)
		return false;
	if (fstat(STDERR_FILENO, &st) < 0)
		return false;
	return st.st_dev == device && st.st_ino == inode;
}

bool record_is_journal(void)
{
	return g.target == RECORD_JOURNAL;
}

int record_open(const char *pool, enum record_target target, enum record_format format,
		int max_priority)
{
	sigset_t all, old;

	(void)snprintf(g.pool, sizeof(g.pool), "%s", pool);
	g.target = target;
	g.format = format;
	g.max_priority = max_priority;
	g.wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (g.wake_fd < 0)
		return -errno;

	/* Read from the environment here, while the writer is not there to meet a change of it. */
	tzset();

	/* Signals belong to the event loop. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);

	int r = pthread_create(&g.thread, NULL, writer, NULL);

	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (r != 0) {
		g.wake_fd = close_fd(g.wake_fd);
		return -r;
	}
	(void)pthread_setname_np(g.thread, "writer");
	g.open = true;
	return 0;
}

void record_change(enum record_format format, int max_priority)
{
	g.format = format;
	g.max_priority = max_priority;
}

void record_close(void)
{
	struct timespec until;

	if (!g.open)
		return;
	g.open = false;
	atomic_store(&g.stop, true);
	wake_writer();
	(void)clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += 2;
	(void)pthread_clockjoin_np(g.thread, NULL, CLOCK_MONOTONIC, &until);
}

int record_hold(void)
{
	struct timespec until;
	int r = 0;

	if (!g.open)
		return 0;
	(void)clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += HOLD_SEC;
	pthread_mutex_lock(&g.lock);
	g.hold = WRITER_ASKED;
	wake_writer();
	while (r == 0 && g.hold == WRITER_ASKED)
		r = pthread_cond_clockwait(&g.turn, &g.lock, CLOCK_MONOTONIC, &until);
	if (g.hold == WRITER_ASKED)
		g.hold = WRITER_RUNS;
	else
		r = 0;
	pthread_mutex_unlock(&g.lock);
	return -r;
}

void record_release(void)
{
	pthread_mutex_lock(&g.lock);
	g.hold = WRITER_RUNS;
	pthread_cond_signal(&g.turn);
	pthread_mutex_unlock(&g.lock);
	if (g.open)
		wake_writer();
}

bool record_each_output(unsigned i, unsigned *ret_worker, int *ret_fd)
{
	pthread_mutex_lock(&g.lock);

	bool there = i < g.n_outputs;

	if (there) {
		*ret_worker = g.outputs[i]->worker;
		*ret_fd = g.polls[i + 1].fd;
	}
	pthread_mutex_unlock(&g.lock);
	return there;
}

int record_adopt_output(unsigned worker, int fd)
{
	auto_free struct output *o = calloc(1, sizeof(*o));

	if (!o)
		return -ENOMEM;
	o->worker = worker;
	pthread_mutex_lock(&g.lock);

	bool full = g.n_outputs >= N_OUTPUTS;

	if (!full) {
		g.polls[g.n_outputs + 1] = (struct pollfd){ .fd = fd, .events = POLLIN };
		g.outputs[g.n_outputs] = TAKE(o);
		g.n_outputs++;
	}
	pthread_mutex_unlock(&g.lock);
	if (full)
		return -EMFILE;
	wake_writer();
	return 0;
}

static int open_output_pipe(unsigned worker)
{
	int fds[2], r;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	/* Only our end is non-blocking: a worker that writes faster than the terminal waits. */
	(void)fcntl(fds[0], F_SETFL, O_NONBLOCK);
	r = record_adopt_output(worker, fds[0]);
	if (r < 0) {
		close(fds[0]);
		close(fds[1]);
		return r;
	}
	return fds[1];
}

int record_open_output(unsigned worker)
{
	char identifier[128];

	if (g.target == RECORD_STDERR)
		return open_output_pipe(worker);
	if (worker > 0)
		(void)snprintf(identifier, sizeof(identifier), "%s/worker-%u", g.pool,
			       worker);
	else
		(void)snprintf(identifier, sizeof(identifier), "%s/template", g.pool);
	return sd_journal_stream_fd(identifier, LOG_INFO, /* level_prefix= */ true);
}
