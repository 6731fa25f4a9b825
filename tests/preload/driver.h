/* The supervisor's side of include/trimtab/preload.h, small enough to play it in a test: makes
 * the page, starts a program with the library preloaded, hears its datagrams, asks and waits.
 *
 * Nothing here sleeps: each wait ends with an event, or fails when patience is at its end. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/un.h>

#include "trimtab/preload.h"

enum {
	DRIVER_PATIENCE_MSEC = 60000,
};

/* What the page or the environment says wrongly, to see the library stay inert. */
enum driver_fault {
	FAULT_NONE,
	FAULT_PID,
	FAULT_COOKIE,
	FAULT_START,
	FAULT_NO_SEAL,
	FAULT_SIZE,
	FAULT_SIZE_FIELD,
	FAULT_VERSION,
	FAULT_MAGIC,
	FAULT_WAKE,
	FAULT_SIGNAL,
	FAULT_TEXT,
	FAULT_NO_VARIABLE,
	FAULT_CLOSED,
	N_FAULTS,
};

/* Zero is a good answer for each. */
struct driver_setup {
	enum trimtab_wake wake; /* default: by signal */
	int signal_number;	/* default: SIGUSR2 */
	enum driver_fault fault;
	bool abstract_socket;
	bool own_streams;    /* the program keeps our standard input and output */
	bool exec_pid;	     /* SYSTEMD_EXEC_PID names the program */
	bool template;	     /* the page names nobody: the guest's "adopt" takes it */
	const char *library; /* default: $TRIMTAB_PRELOAD_LIBRARY */
	const char *preload_before; /* another library in LD_PRELOAD */
	const char *preload_after;
	const char *const *environment; /* more variables, NULL at the end */
};

struct driver {
	struct trimtab_page *page;
	pid_t pid;
	int page_fd;
	int notify_fd;
	int in_fd; /* the program's standard input and output */
	int out_fd;
	struct sockaddr_un address;
	socklen_t address_length;
	bool ended;
	int status; /* as waitpid(2) says, once ended */
	unsigned
		patience_msec; /* DRIVER_PATIENCE_MSEC, unless a test expects no answer */
	bool heard_hello;
	bool heard_done;
	bool heard_late;
	bool heard_plain;
};

/* Starts a program. It must be ended with driver_stop. Returns 0 or -errno. */
int driver_start(struct driver *driver, const struct driver_setup *setup,
		 char *const arguments[]);

/* Kills the program if it still runs, and releases everything. */
void driver_stop(struct driver *driver);

/* Wait for the datagram; false when the program ends first. */
bool driver_await_hello(struct driver *driver);
bool driver_await_done(struct driver *driver);
bool driver_await_late(struct driver *driver);
bool driver_await_plain(struct driver *driver);

/* Asks as the contract says, without waiting. Returns 0, or -errno of the signal. */
int driver_request(struct driver *driver, uint32_t operations);

/* Request and wait for the result. */
bool driver_trim(struct driver *driver, uint32_t operations);

/* rt_tgsigqueueinfo to any thread with any value; 0 or -errno. */
int driver_queue_signal(const struct driver *driver, pid_t tid, int number,
			uint32_t value);

/* A line to the program's standard input; one line of its output without the newline, in a
 * static buffer, or NULL at its end. */
void driver_say(const struct driver *driver, const char *line);
const char *driver_hear(const struct driver *driver);

/* Says a line and answers with the number that the program prints in return. */
long driver_ask(const struct driver *driver, const char *line);

/* Waits for the program's end: its exit code, or -signal. */
int driver_await_end(struct driver *driver);

/* Waits until the program's main thread sleeps in read(2) on its standard input. */
bool driver_await_reading(const struct driver *driver);

/* Waits until the library's thread waits for a signal. */
bool driver_await_idle(const struct driver *driver);

uint64_t driver_rss_bytes(const struct driver *driver);
