"""Runs scenarios in this lane, one after another, and tells of each in lines that the harness on the
host reads: `@@begin NAME`, its log, `@@end ok|failed SECONDS NAME`. What is to be done the lanes take
from each other's reach by a folder for each scenario that one of them has begun."""
import contextlib, fcntl, io, os, sys, time, traceback
import rig
import scenarios_session, scenarios_faults, faults  # noqa: F401  (they register themselves)

TAKEN = "/rig/taken"


def take(names):
    """The scenarios that no other lane has begun, one by one."""
    os.makedirs(TAKEN, exist_ok=True)
    for number, (name, function) in enumerate(names):
        with contextlib.suppress(FileExistsError):
            os.mkdir(f"{TAKEN}/{number}")
            yield name, function


def carry_out(name, function):
    """One scenario; what it says, and its outcome."""
    out, began, outcome = io.StringIO(), time.monotonic(), "ok"
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            rig.clean()
            function()
            if rig.agents():
                raise rig.Failed(f"processes were left behind: {rig.agents()}")
        except rig.Failed as error:
            outcome = "failed"
            print(f"FAILED: {error}")
            traceback.print_exc(limit=-2)
        except Exception:
            outcome = "failed"
            traceback.print_exc()
        if outcome == "failed":
            for pid in rig.agents():
                print(f"--- where process {pid} is\n" + rig.sh(f"cat /proc/{pid}/wchan /proc/{pid}/stack; true"))
            print("--- mounts\n" + rig.sh("grep -e nfs -e /mnt /proc/self/mountinfo; dmesg | tail -n 5; true"))
    return out.getvalue(), outcome, time.monotonic() - began


def main(alone):
    wanted = None
    if os.path.exists("/rig/wanted"):
        wanted = set(open("/rig/wanted").read().splitlines())
    mine = [(name, function) for name, function, by_itself in rig.SCENARIOS
            if by_itself == alone and (wanted is None or name in wanted)]
    if not mine:
        return
    if alone:
        os.rename(TAKEN, TAKEN + ".beside") if os.path.exists(TAKEN) else None
    rig.set_up()
    for name, function in take(mine):
        said, outcome, took = carry_out(name, function)
        # A lane's lines come in one piece.
        with open("/rig/run.py") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            print(f"@@begin {name}\n{said}\n@@end {outcome} {took:.1f} {name}", flush=True)
    rig.tear_down()


main(sys.argv[1] == "alone")
