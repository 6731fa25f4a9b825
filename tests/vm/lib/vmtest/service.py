"""How many workers were in service, by two witnesses: the journal and the requests."""
from .journal import seconds


def most_away(pool, n_workers):
    """The most workers that were out of service at once, from the journal: from the TERM of a
    drain that came first, or from an exit nobody replaced yet, until the next ready."""
    steps = sorted(((seconds(r), r) for event in ("restart", "exit", "ready")
                    for r in pool.records(event)), key=lambda step: step[0])
    serving, worst = {}, 0
    for _, record in steps:
        worker, event = record["TRIMTAB_WORKER"], record["TRIMTAB_EVENT"]
        if event == "ready":
            serving[worker] = record["TRIMTAB_PID"]
        elif event == "exit" and serving.get(worker) == record["TRIMTAB_PID"]:
            serving[worker] = None
        elif event == "restart" and record.get("TRIMTAB_HOW") == "drain":
            serving[worker] = None
        if len(serving) == n_workers:
            worst = max(worst, list(serving.values()).count(None))
    return worst


def fewest_at_work(answers, key, slack):
    """The fewest workers that were at a request at any time, give or take slack seconds. Each
    answer has began and ended, as the worker itself saw it, and names the worker under key. A
    load that always keeps more requests waiting than there are workers has each worker at one
    whenever it is in service."""
    spans = sorted((a["began"] - slack, a["ended"] + slack, a[key]) for a in answers)
    # Before the first and after the last full round nobody knows.
    first, last = spans[0][0] + 3 * slack, max(end for _, end, _ in spans) - 3 * slack
    fewest, moment = None, first
    while moment <= last:
        at_work = len({name for began, ended, name in spans if began <= moment <= ended})
        fewest = at_work if fewest is None else min(fewest, at_work)
        moment += 0.5
    return fewest
