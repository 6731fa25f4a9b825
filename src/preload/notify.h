/* Datagrams to the supervisor in the sd_notify(3) format, without libsystemd and the heap. */
#pragma once

/* Remembers $NOTIFY_SOCKET: the application may unset it, or overwrite its environment. */
void notify_capture(void);

/* Sends one message, never waits, ignores every error: the supervisor also watches the page.
 * Opens and closes a socket each time, so it has none that the application could close. */
void notify_send(const char *message);
