/* Pressure stall information: triggers and averages.
 * Source: Documentation/accounting/psi.rst. */
#pragma once

#include <stdint.h>

#include "util/time.h"

struct psi {
	uint32_t some_avg10_permyriad, full_avg10_permyriad;
	uint64_t some_total_usec, full_total_usec;
};

/* Arms a trigger `some STALL WINDOW` on a pressure file relative to dir_fd (AT_FDCWD and an
 * absolute path for /proc/pressure/memory). Wait for EPOLLPRI; never read to consume. EPOLLPRI
 * alone is an event; EPOLLPRI|EPOLLERR means that the trigger died with its cgroup.
 * Without CAP_SYS_RESOURCE the kernel takes only windows that are a multiple of 2 s: the window
 * is rounded up to that when the first try gives EINVAL, the stall in proportion, and
 * ret_window_usec says what was armed.
 * Returns 0 or -errno: -EOPNOTSUPP or -ENOENT without PSI, -EACCES, -EPERM. */
int psi_arm(int dir_fd, const char *file, usec_t stall_usec, usec_t window_usec,
	    int *ret_fd, usec_t *ret_window_usec);

/* Reads the figures of a pressure file. Returns 0 or -errno (-ENODEV: the cgroup is gone). */
int psi_read(int dir_fd, const char *file, struct psi *ret);

/* Reads them from the trigger's own descriptor, by pread at 0. Returns 0 or -errno. */
int psi_read_fd(int fd, struct psi *ret);
