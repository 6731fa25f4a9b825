"""What becomes of each of gunicorn's settings under trimtab: the one place that says so.

    trimtab_settings.py --scdoc         the table of trimtab-gunicorn(7)

judge() compares it with the settings that the installed gunicorn has and with what the user changed,
so that no setting is ignored in silence: neither one of this table that trimtab does not honour, nor
one of a gunicorn that is newer than the table. It must import nothing of gunicorn's.
"""
import sys

TRIMTAB = "trimtab"     # the supervisor does it
TEMPLATE = "template"   # hooks of gunicorn's master: the template runs them
WORKER = "worker"       # gunicorn's own code in the worker does it
REPLACED = "replaced"   # trimtab has its own for it; who sets it is told
UNUSED = "unused"       # it has no effect; who sets it is told
REFUSED = "refused"     # who sets it is told, and nothing starts

HEADINGS = {
    TRIMTAB: "Honoured by trimtab itself",
    TEMPLATE: "Hooks of gunicorn's master, run by the template",
    WORKER: "Honoured in the worker, by gunicorn's own code",
    REPLACED: "Replaced by what trimtab has for it; setting it gives a warning",
    UNUSED: "Without effect; setting it gives a warning",
    REFUSED: "Refused; setting it ends the start with a message",
}

# name: what becomes of it, and how (a sentence; the heading says it all where there is none)
SETTINGS = {
    # -- the supervisor's
    "config": (TRIMTAB, "Read by gunicorn's own code at the start, by each new template, and by "
                        "each worker that is executed."),
    "print_config": (TRIMTAB, "gunicorn prints it; nothing starts."),
    "check_config": (TRIMTAB, "gunicorn loads the application and says what is wrong; nothing "
                              "starts. See also trimtab check."),
    "bind": (TRIMTAB, "Unless [pool] bind or inherited sockets say otherwise."),
    "backlog": (TRIMTAB, "Unless [pool] backlog says otherwise. ASGI workers do not change it."),
    "workers": (TRIMTAB, "Unless [pool] workers says otherwise; WEB_CONCURRENCY counts."),
    "timeout": (TRIMTAB, "As the watchdog, unless [restart] watchdog says otherwise: ABRT, the "
                         "stacks of all threads in the log, and after abort-grace KILL of all "
                         "that the worker started. A worker that boots has boot-timeout instead, "
                         "one that drains graceful-timeout."),
    "graceful_timeout": (TRIMTAB, "Unless [restart] graceful-timeout says otherwise."),
    "max_requests": (TRIMTAB, "The worker counts, asks, and goes on serving until it is its turn "
                              "to be replaced."),
    "max_requests_jitter": (TRIMTAB, "Added to max_requests, though the plan keeps restarts apart "
                                     "without it."),
    "preload_app": (TRIMTAB, "Means [pool] preload = app; the application is loaded anew by a "
                             "reload."),
    "reuse_port": (TRIMTAB, "Set on the sockets, which all workers share, as in gunicorn before "
                            "24: what waits in a queue outlives the worker."),
    "umask": (TRIMTAB, "Taken off the mode of unix sockets; in the worker, off its temporary "
                       "file."),
    "pidfile": (TRIMTAB, "Written anew at a reload; there is no .2 during an upgrade, as the pid "
                         "stays."),
    "raw_env": (TRIMTAB, "In the template before the application is loaded, and in each worker."),
    "enable_stdio_inheritance": (TRIMTAB, "Always so."),
    # -- the template's
    "on_starting": (TEMPLATE, "Before when_ready, at the first start."),
    "when_ready": (TEMPLATE, "When the first template has loaded, before there is a worker."),
    "on_reload": (TEMPLATE, "In the new template, once it has loaded."),
    "nworkers_changed": (TEMPLATE, "At TTIN and TTOU, and once at the start, with None for the "
                                   "old number."),
    "child_exit": (TEMPLATE, "The worker is an object with pid, age, cfg and log."),
    "on_exit": (TEMPLATE, "After the last worker; it has five seconds."),
    # -- the worker's
    "pre_fork": (WORKER, "In the new worker, before anything else of it."),
    "post_fork": (WORKER, ""),
    "post_worker_init": (WORKER, ""),
    "worker_int": (WORKER, ""),
    "worker_abort": (WORKER, ""),
    "pre_request": (WORKER, ""),
    "post_request": (WORKER, ""),
    "worker_exit": (WORKER, ""),
    "ssl_context": (WORKER, ""),
    "wsgi_app": (WORKER, "Or in the template, with preload = app."),
    "paste": (WORKER, ""),
    "raw_paste_global_conf": (WORKER, ""),
    "chdir": (WORKER, "In the template as well. [pool] chdir comes first."),
    "pythonpath": (WORKER, "In the template as well."),
    "worker_class": (WORKER, ""),
    "threads": (WORKER, ""),
    "worker_connections": (WORKER, ""),
    "keepalive": (WORKER, ""),
    "user": (WORKER, "The supervisor stays who it is, and gives unix sockets to the user."),
    "group": (WORKER, "As user."),
    "initgroups": (WORKER, ""),
    "worker_tmp_dir": (WORKER, "The file is there and beats; the supervisor does not look at it."),
    "reload": (WORKER, "The worker ends when a file has changed, and is replaced at once."),
    "reload_engine": (WORKER, ""),
    "reload_extra_files": (WORKER, ""),
    "spew": (WORKER, ""),
    "sendfile": (WORKER, ""),
    "tmp_upload_dir": (WORKER, ""),
    "proc_name": (WORKER, "The supervisor remains trimtab."),
    "default_proc_name": (WORKER, ""),
    "accesslog": (WORKER, ""),
    "access_log_format": (WORKER, ""),
    "disable_redirect_access_to_syslog": (WORKER, ""),
    "errorlog": (WORKER, "What the supervisor has to say goes to the journal or standard error, "
                         "see [log]."),
    "loglevel": (WORKER, "Of the workers; [log] level is the supervisor's."),
    "capture_output": (WORKER, ""),
    "logger_class": (WORKER, ""),
    "logconfig": (WORKER, "Read again by a reload; one that does not load leaves the old workers."),
    "logconfig_dict": (WORKER, "As logconfig."),
    "logconfig_json": (WORKER, "As logconfig."),
    "syslog": (WORKER, ""),
    "syslog_addr": (WORKER, ""),
    "syslog_prefix": (WORKER, ""),
    "syslog_facility": (WORKER, ""),
    "statsd_host": (WORKER, "The template sends gunicorn.workers, the workers all else."),
    "statsd_prefix": (WORKER, ""),
    "dogstatsd_tags": (WORKER, ""),
    "limit_request_line": (WORKER, ""),
    "limit_request_fields": (WORKER, ""),
    "limit_request_field_size": (WORKER, ""),
    "secure_scheme_headers": (WORKER, ""),
    "forwarded_allow_ips": (WORKER, ""),
    "forwarder_headers": (WORKER, ""),
    "header_map": (WORKER, ""),
    "strip_header_spaces": (WORKER, ""),
    "tolerate_dangerous_framing": (WORKER, ""),
    "permit_obsolete_folding": (WORKER, ""),
    "permit_unconventional_http_method": (WORKER, ""),
    "permit_unconventional_http_version": (WORKER, ""),
    "casefold_http_method": (WORKER, ""),
    "proxy_protocol": (WORKER, ""),
    "proxy_allow_ips": (WORKER, ""),
    "protocol": (WORKER, ""),
    "uwsgi_allow_ips": (WORKER, ""),
    "http_parser": (WORKER, ""),
    "http_protocols": (WORKER, ""),
    "http2_cleartext": (WORKER, ""),
    "http2_max_concurrent_streams": (WORKER, ""),
    "http2_initial_window_size": (WORKER, ""),
    "http2_max_frame_size": (WORKER, ""),
    "http2_max_header_list_size": (WORKER, ""),
    "keyfile": (WORKER, ""),
    "certfile": (WORKER, ""),
    "ssl_version": (WORKER, ""),
    "cert_reqs": (WORKER, ""),
    "ca_certs": (WORKER, ""),
    "suppress_ragged_eofs": (WORKER, ""),
    "do_handshake_on_connect": (WORKER, ""),
    "ciphers": (WORKER, ""),
    "asgi_loop": (WORKER, ""),
    "asgi_lifespan": (WORKER, "A worker is ready after its startup."),
    "asgi_disconnect_grace_period": (WORKER, ""),
    "root_path": (WORKER, ""),
    # -- nobody's
    "control_socket": (REPLACED, "trimtabctl and [control] socket."),
    "control_socket_mode": (REPLACED, "trimtabctl; the socket is its user's alone."),
    "control_socket_disable": (REPLACED, "[control] socket = off."),
    "enable_backlog_metric": (REPLACED, "trimtabctl status shows what is queued."),
    "pre_exec": (UNUSED, "There is no second master that it could run in."),
    "dirty_workers": (UNUSED, "See dirty_apps."),
    "dirty_timeout": (UNUSED, "See dirty_apps."),
    "dirty_threads": (UNUSED, "See dirty_apps."),
    "dirty_graceful_timeout": (UNUSED, "See dirty_apps."),
    "on_dirty_starting": (UNUSED, "See dirty_apps."),
    "dirty_post_fork": (UNUSED, "See dirty_apps."),
    "dirty_worker_init": (UNUSED, "See dirty_apps."),
    "dirty_worker_exit": (UNUSED, "See dirty_apps."),
    "dirty_apps": (REFUSED, "trimtab runs no dirty workers; run them under gunicorn, beside the "
                            "pool"),
    "daemon": (REFUSED, "trimtab does not go to the background; leave --daemon out and let "
                        "systemd start it (trimtab@.service)"),
}


def judge(version, known, changed):
    """Of the names that this gunicorn knows, and those that the user changed: what is to be said.

    Returns (hooks for the template, sentences of warning, one of refusal or None)."""
    def those(*fates):
        return [name for name in SETTINGS if name in changed and SETTINGS[name][0] in fates]

    warnings = ["gunicorn's %s has no effect here: %s" % (name, SETTINGS[name][1])
                for name in those(UNUSED)]
    warnings += ["gunicorn's %s is replaced: %s" % (name, SETTINGS[name][1])
                 for name in those(REPLACED)]
    strange = sorted(set(known) - set(SETTINGS))
    if strange:
        warnings.append("gunicorn %s has settings that are new to this trimtab; workers get them, "
                        "nobody else does: %s" % (version, ", ".join(strange)))
    refused = [SETTINGS[name][1] for name in those(REFUSED)]
    return those(TEMPLATE), warnings, refused[0] if refused else None


def write_scdoc(out):
    for fate, heading in HEADINGS.items():
        out.write("## %s\n\n" % heading)
        names = [name for name in SETTINGS if SETTINGS[name][0] == fate]
        for name in names:
            if SETTINGS[name][1]:
                # "[" at the beginning of a line would be a table.
                text = SETTINGS[name][1].rstrip(".").replace("[", "\\[")
                out.write("*%s*\n\t%s.\n\n" % (name, text))
        plain = ["*%s*" % name for name in names if not SETTINGS[name][1]]
        if plain:
            out.write("%s: as ever.\n\n" % ", ".join(plain))


if __name__ == "__main__":
    if sys.argv[1:] != ["--scdoc"]:
        sys.exit("usage: trimtab_settings.py --scdoc")
    write_scdoc(sys.stdout)
