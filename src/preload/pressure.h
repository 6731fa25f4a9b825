/* Trims without a supervisor: by systemd's memory pressure protocol, which any service manager
 * may speak (MEMORY_PRESSURE_WATCH and MEMORY_PRESSURE_WRITE, systemd.io/MEMORY_PRESSURE). */
#pragma once

/* From the constructor, in a process that no page was made for. Starts a thread that waits for
 * pressure where the environment names a file, FIFO or socket for that and the allocator can
 * give anything back; does nothing else. Where the service manager says which process it
 * started (SYSTEMD_EXEC_PID), programs that this one executes in turn stay inert; processes
 * forked from it, such as the workers of a prefork server, do as it does. */
void pressure_start(void);
