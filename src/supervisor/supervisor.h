/* The supervisor: owns every object, and the only place where the layers meet.
 *
 * One event is followed like this: an sd-event callback (on_<event>) notes what happened and asks
 * for a step; the step, run once for everything that happened in this turn of the loop, is
 *
 *	observe.c  kernel figures and worker states -> struct snapshot
 *	policy/    decide(): snapshot -> actions
 *	apply.c    actions -> workers, leaves, trims; each reported to the journal
 *
 * crew.c holds the life of one worker from spawn to exit, watch.c what the kernel tells by itself,
 * template.c the process that forks workers and refork.c the worker that becomes it,
 * trim.c the one trim that may be under way, verbs.c what operators ask, reload.c signals that
 * change the pool, parting.c what comes before a planned restart, quarantine.c the worker that is kept
 * for a debugger, setup.c everything between "configured" and "running", upgrade.c the change of
 * program in place and carry.c what it takes along. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

#include "arguments.h"
#include "config/config.h"
#include "control/server.h"
#include "kernel/cgroup.h"
#include "kernel/pool.h"
#include "kernel/probe.h"
#include "launch.h"
#include "policy/decide.h"
#include "process/bell.h"
#include "process/cause.h"
#include "process/leaf.h"
#include "process/lifecycle.h"
#include "process/socket.h"
#include "process/spawn.h"
#include "process/trimpage.h"
#include "util/time.h"

struct state;
struct relaunch;
struct relaunch_result;
struct supervisor;
struct slot;

/* What came of the trims of one process. */
struct trim_story {
	unsigned n_trims, n_unanswered;
	bool skip_told; /* that max-pause keeps some from being asked for */
	bool late_due;	/* a collection may end after its trim was answered */
	bool answered;	/* answer is of the last trim */
	struct trim_answer answer;
	enum reason reason; /* of the last trim, if there was one; so are those below */
	usec_t plain_usec;  /* of the last that a plain signal asked for */
	usec_t at_usec, took_usec;
	uint64_t before_bytes, after_bytes;
};

/* A PSI trigger of a leaf, of the pool or of the host, and what it last reported. */
struct stall {
	struct supervisor *supervisor;
	struct worker *worker; /* whose leaf it is; NULL: the pool's or the host's */
	const char *scope;     /* as the journal calls it */
	int fd;		       /* -1: none */
	uint64_t total_usec;   /* stalled in all, at the last report */
	usec_t reported_usec;  /* when that was; 0: never */
	sd_event_source *source;
};

/* One process, from spawn to its end. What is added to this or to the structs below and must outlive
 * an upgrade goes into process/state.def and carry.c too (a test looks for it). */
struct worker {
	struct supervisor *supervisor;
	struct slot *slot;
	struct worker *next; /* all workers, in no order */

	pid_t pid;
	int pidfd;
	enum worker_state state;
	enum our_hand hand;   /* what we did to it, for the attribution of its end */
	unsigned generation;  /* of configuration and code */
	usec_t watchdog_usec; /* as its environment has it; 0: as the launch has it */
	usec_t started_usec, ready_usec, asked_usec;

	struct leaf *leaf;	   /* NULL without cgroups */
	int events_fd;		   /* memory.events of the leaf */
	struct stall stall;	   /* of the leaf, which owns the trigger */
	struct cgroup_events base; /* memory.events.local when it started */
	uint64_t pool_oom_base;
	uint64_t usage_bytes, charged_bytes; /* last seen */
	uint64_t high_events, scanned_pages, freed_pages;
	uint64_t tripwire_bytes; /* memory.high as last written */
	uint64_t limit_bytes;	 /* memory.max as last written */

	struct trimpage page;
	struct spawn_report *report;
	bool forking;	  /* the template was asked for it; there is no pid yet */
	bool hello;	  /* its library waits for requests */
	bool stays;	  /* its adapter stays behind when it is told to */
	usec_t kept_usec; /* since when it is in quarantine; 0: it is not */
	bool counted;	  /* it says how many requests it has served: */
	uint64_t n_requests;
	struct trim_story trims;
	int warm_fd; /* to ask it for the next template by; -1: it is not to be asked */
	bool warm;   /* it has answered as many requests as that takes */
	struct examination
		*examination; /* the operator's, before it is asked to go; or NULL */
	char status[128];     /* its own STATUS= */

	sd_event_source *child, *deadline, *silence, *events, *warmth;
};

/* A place for one worker. Numbers start at 1 and are what operators see. */
struct slot {
	struct supervisor *supervisor;
	unsigned number;
	struct worker
		*worker; /* serves, or is on its way out with nothing to replace it */
	struct worker *incoming; /* boots */
	enum wish wish;
	bool retire;
	enum reason start_reason; /* why the last start or restart was decided */
	enum reason planned;	  /* last reported plan */
	usec_t planned_usec;
	bool held; /* last reported */
	char **env;
	int output_fd;
	struct bell *bell;
	struct control_client *recycle_client, *trim_client;
	pid_t recycled_pid; /* whom recycle_client wants replaced */
};

enum phase { PHASE_STARTING, PHASE_RUNNING, PHASE_EMPTYING, PHASE_STOPPING };

struct notify;

/* The process that forks workers, while there is one (preload = server or app). */
struct template
{
	struct supervisor *supervisor;
	pid_t pid;
	int pidfd, fd;	  /* fd: our end of its socket */
	bool ready;	  /* it can fork now */
	bool served;	  /* it could, once */
	bool ended;	  /* it was told that there are no workers any more */
	bool aborted;	  /* it hangs, and was asked where */
	unsigned hazards; /* bits of enum notify_hazard that were told of it */
	bool warm;	  /* a worker forked it: */
	unsigned origin;  /* that worker's slot */
	pid_t origin_pid;
	struct spawn_report *report;
	usec_t started_usec;
	sd_event_source *child, *answers, *deadline;
};

/* The gunicorn that started us as its successor. */
struct predecessor {
	sd_event_source *end; /* NULL: there is none, or it has ended */
	bool gave_sockets;
};

struct trim_under_way {
	struct worker *worker; /* NULL: none */
	enum reason reason;
	uint64_t before_bytes;
	usec_t asked_usec;
	sd_event_source *timer;
};

/* The worker that is wanted in quarantine, or is there: kept_usec tells which. */
struct quarantine {
	struct worker *worker;	       /* NULL: none */
	usec_t keep_usec;	       /* how long, from when it is out of service */
	enum wish wish;		       /* its slot's, before */
	bool drained;		       /* it had finished its requests */
	bool released;		       /* an operator has seen enough */
	struct control_client *client; /* waits for it to be kept, or to be gone */
};

/* The next program in our place, while it is tried out. */
struct upgrade {
	pid_t pid; /* of the trial; 0: none */
	int pidfd, answer_fd;
	usec_t asked_usec;
	bool reload; /* was asked for: the upgrade comes first */
	struct control_client *client;
	dev_t device; /* the file that was tried */
	ino_t inode;
	struct timespec changed;
	unsigned generation; /* whose configuration was tried */
	sd_event_source *child, *deadline, *turn;
};

/* What a generation of workers and its template are made with. */
struct outfit {
	struct config *config;
	struct launch *launch;
	struct socket *sockets; /* some may be the present generation's too */
	size_t n_sockets;
	char *socket_names; /* LISTEN_FDNAMES */
};

/* A socket that the configuration no longer names. */
struct leaving {
	struct socket socket;
	unsigned generation; /* the last one that has it */
	bool quiet;	     /* nothing new is let in */
};

struct supervisor {
	const struct arguments *arguments;
	struct config *config;
	struct launch *launch;
	sd_event *event;
	enum phase phase;
	int exit_status;
	unsigned generation;

	struct capability_state capabilities[N_CAPABILITIES];
	struct pool root; /* the pool's cgroup; root.dir_fd -1: none */
	struct leaves leaves;
	bool memory;		/* leaves have memory.* files */
	bool managed;		/* a service manager cleans up after us */
	char oom_score_adj[16]; /* what we were started with */

	struct socket *sockets;
	size_t n_sockets;
	char *socket_names; /* LISTEN_FDNAMES */
	struct leaving *leaving;
	size_t n_leaving;

	struct relaunch *relaunch; /* a reload is being prepared */
	sd_event_source *relaunch_done;
	struct outfit *pending; /* it is, and its template boots */

	char runtime[88]; /* directory of the pool's sockets: "/pressure-N"
					 * fits behind it in a sun_path */
	char notify_path[108];
	int notify_fd;
	struct control_server *control;
	struct control_client *stop_client;
	usec_t stop_deadline_usec; /* the queue is served no longer than this */

	struct limits limits;
	usec_t limits_read_usec; /* 0: they may have changed since */
	int limitwatch_fd;
	sd_event_source *limit_changes;
	struct policy *policy;
	struct slot_seen *seen;
	struct decision decision;

	struct template
		*template; /* forks now, or boots first; NULL: workers are executed */
	struct template *successor; /* of a reload, until it is ready */
	struct template *heir;	    /* a worker's child, until it is ready */
	bool refork_given_up;	    /* none is to be, before a reload */
	struct leaf *template_leaf;
	int template_output_fd;
	unsigned template_failures; /* in a row */
	sd_event_source *template_retry;

	struct slot *slots;
	unsigned n_slots; /* slots in use */
	unsigned capacity;
	unsigned target; /* workers wanted */
	struct worker *workers;
	struct trim_under_way trim;
	struct quarantine quarantine;
	struct predecessor predecessor;
	enum trimtab_allocator trim_allocator; /* of the last worker that answered */
	struct upgrade upgrade;

	struct stall pool_stall, host_stall;
	uint64_t own_stall_total_usec; /* the pool's, when the host last reported */

	sd_event_source *step, *timer, *notify, *stop_timer;
	sd_event_source *orphans;
	bool futile_told;
	unsigned infeasible_told; /* bits of enum infeasible, with these settings: */
	struct limits infeasible_limits;
	unsigned infeasible_target;
	unsigned told_serving, told_target; /* last STATUS= */
};

/* Event priorities: what the kernel says of memory comes before the exit that it explains. */
enum {
	PRIORITY_MEMORY = SD_EVENT_PRIORITY_NORMAL - 8,
	PRIORITY_NOTIFY = SD_EVENT_PRIORITY_NORMAL - 6,
	PRIORITY_CHILD = SD_EVENT_PRIORITY_NORMAL - 4,
	PRIORITY_STEP = SD_EVENT_PRIORITY_NORMAL + 5,
	PRIORITY_TURN = SD_EVENT_PRIORITY_IDLE + 100, /* of an upgrade */
	PRIORITY_FLOOD =
		SD_EVENT_PRIORITY_IDLE + 200, /* messages, while there are too many */
};

/* Runs a pool until it is told to stop. Takes config and launch over; arguments make the
 * configuration anew on reload. state: of the supervisor whose place it takes, or NULL; emptied
 * once that is done. Returns the exit status. */
int supervisor_run(const struct arguments *arguments, struct config *config,
		   struct launch *launch, struct state *state);

/* ---- supervisor.c ---- */

/* Has a step run at the end of this turn of the loop. */
void supervisor_wake(struct supervisor *s);
usec_t supervisor_now(struct supervisor *s);
/* One-shot timer, made on first use: fires at usec, USEC_NEVER disarms. */
void supervisor_arm(struct supervisor *s, sd_event_source **timer, usec_t usec,
		    sd_event_time_handler_t handler, void *userdata);

/* ---- setup.c ---- */

/* Everything from the first record to the first worker's start. Returns 0 or -errno, reported. */
int setup(struct supervisor *s);
/* Says what is odd about what is to run. */
void setup_tell_launch(const struct supervisor *s);
/* What [log] level comes to. */
int setup_log_priority(const struct config *c);
void teardown(struct supervisor *s);
/* Resolves the configuration to numbers, again whenever it or the host's limits change; reports
 * what is new. */
void setup_limits(struct supervisor *s);
/* Its parts, for carry.c. They return 0 or -errno. */
int setup_records(struct supervisor *s);
int setup_notify(struct supervisor *s);
int setup_capacity(struct supervisor *s, unsigned capacity);
void setup_protection(struct supervisor *s);
/* Prepares what a slot keeps for all its workers. Returns 0 or -errno. */
int setup_slot(struct supervisor *s, struct slot *slot);
/* (Re)builds the environment that the slot's next worker gets. Returns 0 or -ENOMEM. */
int setup_environment(struct slot *slot);

/* ---- predecessor.c ---- */

/* Finds out whether a gunicorn started us as its successor. Returns 0 or -errno, reported. */
int predecessor_find(struct supervisor *s);
/* Takes the sockets that it handed over: how many, 0 without it, or -errno, reported. */
int predecessor_adopt_sockets(struct supervisor *s);
void predecessor_forget(struct supervisor *s);
/* Writes the pidfile where gunicorn's settings name one; with ".2" behind its name while that
 * gunicorn lives. Returns 0 or -errno, reported. */
int setup_pidfile(struct supervisor *s);
/* Removes the one of this launch, if it is ours. */
void remove_pidfile(const struct supervisor *s, const struct launch *launch);

/* ---- observe.c ---- */

void observe(struct supervisor *s, struct snapshot *ret);
enum slot_phase slot_phase(const struct slot *slot);
/* Reads one worker's figures into it. */
void observe_worker(struct worker *w);

/* ---- apply.c ---- */

void apply(struct supervisor *s, const struct decision *decision);
/* Reports plans that are new or have moved. */
void report_plans(struct supervisor *s);

/* ---- feasible.c ---- */

/* Reports settings that contradict each other or what was learned of the workers: each once, and
 * again when the settings have changed. */
void report_feasibility(struct supervisor *s);

/* ---- crew.c ---- */

/* Starts a worker in the slot; beside the serving one when there is one. 0 or -errno. */
int worker_start(struct slot *slot, enum reason reason);
/* Feeds the lifecycle table. */
void worker_event(struct worker *w, enum worker_event event, enum our_hand hand);
/* The worker that a message of this process belongs to, or NULL. */
struct worker *worker_of_pid(struct supervisor *s, pid_t pid);
void worker_send_signal(const struct worker *w, int signal_number);
/* For a worker that was asked to go: SIGINT, and no more than graceful_usec from now. */
void worker_hurry(struct worker *w);
void worker_free(struct worker *w);
int on_notify(sd_event_source *source, int fd, uint32_t events, void *userdata);
int on_orphan(sd_event_source *source, const struct signalfd_siginfo *si, void *userdata);

/* What remains to be done once the worker's process exists. 0 or -errno: it was killed. */
int worker_born(struct worker *w);
/* The template will not make this worker after all. */
void worker_unborn(struct worker *w, int error);
/* Watches a worker of the supervisor before us; its timers fire when that one's would have. 0 or
 * -errno. */
int worker_resume(struct worker *w, usec_t deadline_usec, usec_t silence_usec);

/* ---- parting.c ---- */

/* Asks a worker to go for a planned restart, once its figures are in the journal and the operator's
 * command, if there is one, has seen it. */
void worker_part(struct worker *w, enum reason reason);
/* Its figures to the journal. alive: there is a process to look at; else as last seen. */
void worker_black_box(struct worker *w, const char *reason, bool alive);
/* The worker is going anyway: ends the command. */
void examination_abandon(struct worker *w);
bool examination_is_of(const struct worker *w, pid_t pid);
struct examination *examination_free(struct examination *e);

/* ---- quarantine.c ---- */

/* The replies to `quarantine` and `release`; NULL: the client is kept and answered later. */
struct json_object *quarantine_begin(struct supervisor *s, unsigned number,
				     unsigned minutes, struct control_client *client);
struct json_object *quarantine_release(struct supervisor *s, unsigned number,
				       struct control_client *client);
/* What `status` says of it; NULL: there is none. */
struct json_object *quarantine_describe(struct supervisor *s);
/* When it ends; USEC_NEVER: it has not begun, or is ending. */
usec_t quarantine_until(const struct worker *w);
/* Whether it is this worker that is kept, or is to be. */
bool quarantine_is_of(const struct worker *w);
/* Before its slot's restart: whether that may go on. One that has no room for both is off. */
bool quarantine_admits(const struct slot *slot, enum reason reason);
/* It will not be kept after all; nothing where it is already. */
void quarantine_cancel(struct worker *w, const char *why);
/* Its adapter says that it has drained, and stays. */
void quarantine_heard(struct worker *w);
/* The steps of the lifecycle: it is nobody's worker any more; it will be sent SIGTERM. */
void quarantine_keep(struct worker *w);
void quarantine_ends(struct worker *w);
/* It met its tripwire, with so much charged. */
void quarantine_crossed(struct worker *w, uint64_t charged_bytes);
/* What it uses, while it is kept; 0: there is none. */
uint64_t quarantine_bytes(struct supervisor *s);
/* Its memory is needed: kills it. */
void quarantine_evict(struct supervisor *s, const char *why);
/* Its process has ended. */
void quarantine_gone(struct worker *w);

/* ---- template.c ---- */

/* Starts the template where the configuration wants one. 0 or -errno. */
int template_start(struct supervisor *s);
/* Whether starts should wait: the first template is still loading. */
bool template_is_awaited(const struct supervisor *s);
/* Asks it for this worker. 0, or -errno: the worker is to be executed instead. */
int template_fork(struct worker *w);
/* A message to the notification socket. Returns whether a template, or its successor, sent it. */
bool template_heard(struct supervisor *s, pid_t pid, const struct notify *n);
/* It does not make a worker that it was asked for: it is aborted, and killed when that does not help.
 * The worker ends with it. */
void template_give_up(struct supervisor *s);
/* Hears what it says and when it ends, and kills it at the deadline. 0 or -errno. */
int template_watch(struct template *t, usec_t deadline_usec);
/* The whole session, without waiting for its end. */
void template_kill(const struct template *t);
/* The kernel's word that it is a child of ours, dead or alive. */
bool template_is_child(pid_t pid);
/* Whether workers of this launch are to be forked from one. */
bool template_is_wanted(const struct launch *launch);
/* Starts the successor, for what is pending; reload_done() follows. 0 or -errno. */
int template_renew(struct supervisor *s);
/* Gives the successor up. */
void template_forget_successor(struct supervisor *s);
/* The new generation is executed: there is no template any more. */
void template_drop(struct supervisor *s);
/* The pool stops: ends it, unless hooks of gunicorn's master are to hear of each worker's end. */
void template_dismiss(struct supervisor *s);
/* Ends one that was spared: the last worker is gone. Its own exit follows. */
void template_end(struct supervisor *s);
/* What hooks of gunicorn's master, and statsd, are told. status: negative for a signal. */
void template_scaled(struct supervisor *s, unsigned before);
void template_worker_ended(const struct worker *w, int status);
void template_serving(struct supervisor *s, unsigned n_serving);
struct template *template_free(struct template *t);

/* ---- refork.c ---- */

/* Prepares what the worker may be asked by to make the next template. Returns the descriptor that it
 * is to get, the caller's, or -1: it is not to be asked. */
int refork_offer(struct worker *w);
/* Hears whether it is warm. 0 or -errno. */
int refork_watch(struct worker *w);
/* It will not be asked any more. */
void refork_withdraw(struct worker *w);
/* Asks a warm worker, or puts the template that came of it in its place, when the time is right. */
void refork_consider(struct supervisor *s);
/* Gives up what is under way, without a word. */
void refork_forget(struct supervisor *s);
/* The same; and a new generation may try again. */
void refork_reset(struct supervisor *s);

/* ---- watch.c ---- */

/* Arms memory.events and PSI of a started worker's leaf; what is missing is left out. */
void watch_worker(struct worker *w);
/* Arms PSI of the pool and the host, has a step follow whenever a limit of the pool, or one above
 * it, is written, and lets go of both. */
void watch_pool(struct supervisor *s);
void unwatch_pool(struct supervisor *s);
/* The same for what the supervisor before us has armed. */
void watch_worker_again(struct worker *w);
void watch_pool_again(struct supervisor *s);
/* Write memory.high, memory.max, and remember it. */
void set_tripwire(struct worker *w, uint64_t bytes);
void set_limit(struct worker *w, uint64_t bytes);

/* ---- trim.c ---- */

/* Asks the worker to trim. Returns 0 or -errno: -EBUSY while another one is trimming. */
int trim_ask(struct worker *w, enum reason reason);
/* Has its library look at what there is, once both are up: for status alone. */
void trim_look(struct worker *w);
/* Its library said that it is done. */
void trim_answered(struct worker *w);
/* Its library said that a collection, given up waiting for, ended and was followed by a trim. */
void trim_came_late(struct worker *w);
/* ... that somebody's plain signal was followed by one. */
void trim_came_plain(struct worker *w);
/* The worker is gone or will not answer. */
void trim_forget(struct worker *w);
/* Waits on for the answer to a trim that the supervisor before us asked for. */
void trim_resume(struct supervisor *s, usec_t deadline_usec);

/* ---- verbs.c ---- */

struct json_object *handle_request(void *userdata, const struct request *request,
				   struct control_client *client);
void forget_client(void *userdata, struct control_client *client);
/* Answers whoever waits for this slot's replacement. */
void answer_recycle(struct slot *slot, const char *error);
void answer_trim(struct slot *slot, const char *error, uint64_t before_bytes,
		 uint64_t after_bytes, usec_t took_usec);

/* ---- explain.c ---- */

/* The reply to `explain`, of one worker, or of all and the pool (0). */
struct json_object *explain(struct supervisor *s, unsigned number);
/* Why trims give nothing back here, as far as can be told: static. */
const char *explain_futility(const struct supervisor *s);

/* ---- listeners.c ---- */

/* Names for LISTEN_FDNAMES: the addresses, with what would end a name replaced. NULL without
 * memory. */
char *listeners_names(const struct socket *sockets, size_t n_sockets);
/* Whether somebody passed the sockets down, and addresses of the configuration mean nothing. */
bool listeners_are_given(const struct supervisor *s);
/* A copy of those that a reload may keep; the array is the caller's. 0 or -ENOMEM. */
int listeners_known(const struct supervisor *s, struct socket **ret, size_t *ret_n);
/* Fills in the sockets of o, whose config and launch are there: those that stay, and those that
 * were bound for it, which move over. 0, CONFIG_BAD with err->text, or -ENOMEM; then too,
 * listeners_drop() is the caller's. */
int listeners_gather(const struct supervisor *s, struct relaunch_result *found,
		     struct outfit *o, struct config_error *err);
/* Closes those of them that are not in use. */
void listeners_drop(const struct supervisor *s, struct outfit *o);
/* Makes them the ones in use; what is not among them leaves. 0 or -ENOMEM: nothing has changed. */
int listeners_change(struct supervisor *s, struct outfit *o);
/* Closes those that leave and that no worker has any more. */
void listeners_settle(struct supervisor *s);
/* Lets nothing new in anywhere. */
void listeners_quiet(struct supervisor *s);
/* Connections that wait to be accepted. */
unsigned listeners_queued(const struct supervisor *s);
void listeners_done(struct supervisor *s);

/* ---- reload.c ---- */

int watch_signals(struct supervisor *s);
void reload(struct supervisor *s);
/* By the program that runs, whatever is installed. */
void reload_now(struct supervisor *s);
/* The new generation is known to load (error NULL), or does not. */
void reload_done(struct supervisor *s, const char *error);
/* Gives up a reload that is under way. wait: for what it runs to end, a second at most. */
void reload_forget(struct supervisor *s, bool wait);
/* graceful: serve the queue, then drain; else end as fast as workers can. */
void stop(struct supervisor *s, bool graceful, const char *why);
/* Ends the loop once the last worker is gone. */
void stop_if_empty(struct supervisor *s);

/* ---- upgrade.c ---- */

/* Tries the program that is installed now, and has it take our place when it passes. client: waits
 * for the outcome, or NULL. Returns NULL, or why not (static). */
const char *upgrade_begin(struct supervisor *s, struct control_client *client,
			  bool reload);
/* Whether the program that runs is no longer the one that is installed. */
bool upgrade_is_due(const struct supervisor *s);
/* No more: the pool stops. */
void upgrade_forget(struct supervisor *s);
/* We are the new program, and all of state is in place: says so to whoever waits. */
void upgrade_done(struct supervisor *s, const struct state *state);

/* The other side, for main. upgrade_receive() takes the state that was left for this very process:
 * 1 and *ret, 0 when there is none, or -errno with err->text. upgrade_read() takes one to try. Both
 * leave every descriptor in it CLOEXEC. */
int upgrade_receive(struct state *ret, struct config_error *err);
int upgrade_read(int fd, struct state *ret, struct config_error *err);
/* Configuration and launch as the old program had them. 0, CONFIG_BAD with err->text, or -errno. */
int upgrade_configure(const struct state *state, struct config **ret_config,
		      struct launch **ret_launch, struct config_error *err);
/* What a trial says when it has passed; anything else is a failure. */
#define UPGRADE_PASSED "trimtab takes this state: "

/* ---- carry.c ---- */

/* Fills *ret with everything that the next program needs. final: the writer is held, and what it reads
 * goes along. Files made for it are ret's to close: carry_close(). Returns 0 or -errno. */
int carry_out(struct supervisor *s, bool final, struct state *ret);
void carry_close(struct state *state);
/* Whether it can be taken here, config and launch being the ones it names. 0, or -errno with
 * err->text. */
int carry_check(const struct state *state, struct config_error *err);
/* Takes it, in place of setup(). 0 or -errno, reported. */
int carry_in(struct supervisor *s, const struct state *state);
