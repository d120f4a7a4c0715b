"""A fresh instance of a fleet: booted from the image that builder.py's machine has left. The file `number`
says which; two of them run side by side."""
import os, re
import rig
from rig import NAME, POINT, agent, as_user, check, expect, mounted, scenario, sh
from run import run

NUMBER = int(open("/rig/number").read())


def named(numbers, text):
    """A scenario of some of the machines; 3 is number 2, booted again."""
    return scenario(text) if str(NUMBER) in numbers.split() else lambda function: function


@named("1 2", "the NFS client is loaded at boot, and nothing is mounted before the session")
def fresh():
    check("nfsv4 " in sh("lsmod"), "the module is not loaded")
    check(not mounted() and not os.path.exists(POINT), "mounted before the session")


@named("1 2", "the image builder's shutdown sent all to the server and unmounted")
def shutdown():
    out = sh("journalctl --no-pager -o cat -b -1 -u efs-agent | tail -n 4")
    check(re.search(rf"unmounted {NAME}:/ on {POINT}; all that was written is on the server", out), out)


@named("1 2", "a session start mounts the share, and the other session's file is seen")
def session():
    log = rig.appstream("start")
    check(re.search(rf"mounted {NAME}:/ on {POINT} from 10\.0\.1\.1, NFS 4\.1", log), log)
    check(re.search(rf"(?m){NAME}:/ .* {POINT}$", as_user("df -h")[1]), as_user("df -h")[1])
    code, out = as_user(f"echo from {NUMBER} > {POINT}/from_{NUMBER}")
    check(code == 0, out)
    other = 3 - NUMBER
    rig.until(lambda: as_user(f"ls {POINT} > /dev/null; cat {POINT}/from_{other}") == (0, f"from {other}\n"),
              "the other session's file is not seen", 300)


@named("1 2", "a session end unmounts, and the log of AppStream has it")
def session_end():
    log = rig.appstream("end")
    check("unmounted" in log and not mounted(), log)


@named("2", "the unit is enabled for the next boot")
def enable():
    sh("systemctl enable efs-agent")


@named("3", "the enabled unit has mounted the share before anybody could log in; a session start finds it")
def at_boot():
    check(len(mounted()) == 1, "not mounted at boot")
    expect(agent("status"), 0)
    when = dict(line.split("=") for line in sh(
        "systemctl show -p ActiveEnterTimestampMonotonic efs-agent; "
        "systemctl show -p InactiveExitTimestampMonotonic systemd-user-sessions | sed s/^Inactive/Login/").splitlines())
    mounted_at, login = int(when["ActiveEnterTimestampMonotonic"]), int(when["LoginExitTimestampMonotonic"])
    check(0 < mounted_at <= login, f"mounted at {mounted_at} us, log-in allowed from {login} us")
    log = rig.appstream("start")
    check(f"already mounted: {NAME}:/ on {POINT}" in log and len(mounted()) == 1, log)
    code, out = as_user(f"cat {POINT}/from_1 {POINT}/from_2")
    check((code, out) == (0, "from 1\nfrom 2\n"), out)


if __name__ == "__main__":
    os.chmod("/rig", 0o755)
    sh("systemctl is-system-running --wait; true")
    run(lambda: None)
