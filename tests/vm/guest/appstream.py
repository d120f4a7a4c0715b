#!/usr/bin/env python3
"""A stand-in for AppStream 2.0's session script runner (fake: the real one is to be had in AWS alone).

    appstream.py start|end [--config FILE] [--logs FOLDER] [--user NAME]

Does what the documentation says, no more: reads config.json with its keys in any letter case, starts
the system executable as root and the user's as the streaming user with a bare environment, captures
standard output into a log for each, waits for at most waitingTime, kills what still runs then, and
reports each exit on standard output as a line of JSON. Ends with 2 only if config.json is unreadable.
"""
import json, os, pwd, shlex, signal, subprocess, sys, time


def option(name, default):
    return sys.argv[sys.argv.index(name) + 1] if name in sys.argv else default


def lower(value):
    """The same JSON with every key in lower case."""
    if isinstance(value, dict):
        return {key.lower(): lower(item) for key, item in value.items()}
    return [lower(item) for item in value] if isinstance(value, list) else value


def tell(**event):
    print(json.dumps(event), flush=True)


def start(entry, user, logs, phase):
    """Starts one executable; None where there is nothing to start."""
    context, path = entry.get("context", "").lower(), entry.get("filename") or ""
    if not path:
        return None
    log = os.path.join(logs, f"{phase}_{context}.log")
    environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"}
    become = {}
    if context == "user":
        account = pwd.getpwnam(user)
        become = dict(user=account.pw_uid, group=account.pw_gid, extra_groups=[])
        environment.update(HOME=account.pw_dir, USER=user, LOGNAME=user)
    try:
        with open(log, "ab") as out:
            process = subprocess.Popen(
                [path] + shlex.split(entry.get("arguments") or ""), stdin=subprocess.DEVNULL, stdout=out,
                stderr=subprocess.DEVNULL, env=environment, cwd="/", start_new_session=True, **become)
    except OSError as error:
        tell(event="error", context=context, filename=path, error=str(error))
        return None
    return dict(context=context, filename=path, process=process, log=log, began=time.monotonic())


def main():
    phase = sys.argv[1]
    logs = option("--logs", "/var/log/appstream/SessionScripts")
    try:
        with open(option("--config", "/opt/appstream/SessionScripts/config.json"), encoding="utf-8-sig") as file:
            config = lower(json.load(file))
    except (OSError, ValueError) as error:
        tell(event="config-error", error=str(error))
        sys.exit(2)
    event = config.get("sessionstart" if phase == "start" else "sessiontermination") or {}
    waiting = max(0, min(60, int(event.get("waitingtime", 30))))
    os.makedirs(logs, exist_ok=True)
    end = time.monotonic() + waiting
    # The system's side first, then the user's: what the user's script needs must be there.
    for wanted in ("system", "user"):
        for entry in event.get("executables") or []:
            if entry.get("context", "").lower() != wanted:
                continue
            job = start(entry, option("--user", "as2-streaming-user"), logs, phase)
            if not job:
                continue
            described = {key: job[key] for key in ("context", "filename", "log")}
            try:
                code = job["process"].wait(timeout=max(0, end - time.monotonic()))
                took = round(time.monotonic() - job["began"], 3)
                tell(event="exit" if code == 0 else "error", code=code, seconds=took, **described)
            except subprocess.TimeoutExpired:
                os.killpg(job["process"].pid, signal.SIGKILL)
                job["process"].wait()
                tell(event="error", error=f"stopped: still running after waitingTime ({waiting} s)", **described)


main()
