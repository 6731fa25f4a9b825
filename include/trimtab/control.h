/* The control protocol between the supervisor and trimtabctl: typeable by hand.
 *
 * A unix stream socket. The client sends one line, "VERB [WORKER [MINUTES]]\n"; the server answers
 * with one line holding one JSON object, and the next request may follow. {"ok":true, ...} or
 * {"ok":false,"error":"..."}. Verbs that start something answer when it has ended. The server
 * takes connections of root and of the user it runs as, and nobody else (SO_PEERCRED).
 *
 *   $ echo status | socat - UNIX-CONNECT:/run/trimtab/shop.sock
 *
 * Default path: /run/trimtab/POOL.sock for root, $XDG_RUNTIME_DIR/trimtab/POOL.sock for others,
 * $RUNTIME_DIRECTORY/POOL.sock where the service manager gives one. */
#pragma once

#define TRIMTAB_CONTROL_REQUEST_MAX 256 /* bytes, newline included */
#define TRIMTAB_CONTROL_REPLY_MAX   (8u << 20)
