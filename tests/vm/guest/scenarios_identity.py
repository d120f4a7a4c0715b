"""The kernel's NFS client before anything was mounted, again and again: each of these needs its module unloaded. They come first
after a boot, since a client whose server went away in mid-call keeps the module for minutes."""
import contextlib, json, os, re
import tls
from client import *
from rig import *
from tls import Stunnel


def unload():
    """No NFS client in the kernel. (Mounts of before may linger.)"""
    unloaded = sh("for n in $(seq 500); do rmmod nfsv4 2> /dev/null; rmmod nfs 2> /dev/null; test -e /sys/module/nfs || { echo; exit; }; sleep 0.2; done")
    if not unloaded:
        print(sh("cat /proc/fs/nfsfs/*; grep -l ' - nfs4 ' /proc/[0-9]*/mountinfo; ps -eo pid,ppid,user,wchan:20,args | grep -v ']$'; dmesg | tail -n 5; true"))
        raise Failed("the NFS client is in use")


def forget():
    """As after a boot: the kernel's NFS client has no identity. What is in sysfs can be changed, but not taken back."""
    write(PARAMETER, "\0")
    if open(IDENTIFIER).read() != "(null)\n":
        unload()
        sh("modprobe nfsv4")
    check(open(IDENTIFIER).read() == "(null)\n" and open(PARAMETER).read() == "\n", "there is an identity")


@scenario("identity: the kernel's client has an identity of this boot before the first mount, and every later run, check and status find it")
def _():
    expire()
    for modules in (True, False):
        forget()
        if not modules:
            unload()
            check(not os.path.exists(IDENTIFIER), "still there")
        sh(f"rm -rf /run/efs-agent; rmdir {POINT}; true")
        expect(agent(), 0, "mounted ")
        for place in (IDENTIFIER, PARAMETER):
            print(place, repr(open(place).read()))
        check(open(IDENTIFIER).read().strip() == ours(), "not the identity of this boot")
        check(open(PARAMETER).read().strip() == "", "the other place was written too")
        seen = names()
        check(len(seen) == 1 and seen[0].startswith(f"{ours()}/efs-agent-"), seen)
        expect(agent(), 0, "already mounted")
        expect(agent("check"), 1, rf"(?m)^ok +client +the NFS client's identity is {ours()} \(set by efs-agent for this boot, in {IDENTIFIER}\); "
               r"that the host name is rig does not matter \(", r"(?m)^ok +trial mount")  # nothing is registered
        check(names() == seen, f"check came as another: {names()}")
        expect(agent("status"), 0, rf"(?m)^the NFS client's identity is {ours()} \(set by efs-agent for this boot, in {IDENTIFIER}\)")
        for told in (json.loads(agent("status", "--json").out), json.load(open("/run/efs-agent/status.json"))):
            check(told["client"] == {"identity": ours(), "set_by": "efs-agent", "place": IDENTIFIER}, told)
        expect(agent("unmount"), 0)
        expect(agent("--once"), 0, "mounted ")
        check(names()[-1:] == seen, f"the next run came as another: {names()}")
        sh(f"umount {POINT}")


@scenario("identity: an identity that an administrator has set is kept, wherever it stands")
def _():
    expire()
    for place in (IDENTIFIER, PARAMETER):
        forget()
        write(place, "lab-42")
        try:
            expect(agent(), 0, "mounted ")
            other = {IDENTIFIER: (PARAMETER, "\n"), PARAMETER: (IDENTIFIER, "(null)\n")}[place]
            check((open(place).read(), open(other[0]).read()) == ("lab-42\n", other[1]), "changed")
            check([name.split("/")[0] for name in names()] == ["lab-42"], names())
            expect(agent("check"), 1, rf"(?m)^ok +client +the NFS client's identity is lab-42 \(set by an administrator, in {place}: kept\); it must be another on each machine")
            sh(f"umount {POINT}")
        finally:
            forget()


@contextlib.contextmanager
def closed(*places):
    """Files that nobody can write, as a locked-down kernel has them."""
    write("/run/closed", "\n")
    try:
        for place in places:
            sh(f"mount --bind /run/closed {place}; mount -o remount,bind,ro {place}")
        yield
    finally:
        sh("".join(f"umount {place};" for place in places))


@scenario("identity: where no identity can be set the run goes on, warns of the risk, and its own shares are safe all the same")
def _():
    expire()
    forget()
    with closed(IDENTIFIER):
        expect(agent(), 0, "mounted ")
        check(open(PARAMETER).read().strip() == ours(), "the other place was not taken")
        sh(f"umount {POINT}")
    forget()
    risk = (rf"the kernel's NFS client has no identity \({IDENTIFIER}: read-only file system\): the shares of efs-agent have names of their own "
            "all the same, but what other programs mount over NFS is known to its server as rig alone, and another machine of that host name would take its locks")
    with closed(IDENTIFIER, PARAMETER):
        expect(agent(), 0, rf"warning {risk}\n", "mounted ")
        check(re.fullmatch("efs-agent-[0-9a-f]{32}", names()[0]), names())
        expect(agent("check"), 1, rf"(?m)^warning +client +{risk}.*\n +to mend it: let root write {IDENTIFIER}, or give each machine a host name of its own")
        sh(f"umount {POINT}")
    # And where no process may have a host name of its own: plain shares alone.
    limit = open("/proc/sys/user/max_uts_namespaces").read()
    refused = r"/mnt/efs_share cannot be kept apart from other mounts of its server: a host name of its own is refused to the process that mounts \(ENOSPC\)"
    mend = "if a unit starts it, let it have RestrictNamespaces=uts or none"
    try:
        write("/proc/sys/user/max_uts_namespaces", "0")
        expect(agent(), 0, rf"warning {refused}: {mend}", "mounted ")
        check(names() == [f"{ours()}/rig"], names())
        sh(f"umount {POINT}; rmdir {POINT}")
        write("/proc/sys/user/max_uts_namespaces", limit)
        with Stunnel(), tls.share():
            # As since boot: systemd starts no tunnel then, whose unit has a host name of its own.
            expect(agent("tunnel", "--all"), 0)
            until(tls.worker, "the tunnel does not begin", 20)
            write("/proc/sys/user/max_uts_namespaces", "0")
            expect(agent("--once"), 69, rf"error: cannot mount .*: {refused}", rf"to mend it: {mend}")
            check(not mounted(), mounted())
    finally:
        write("/proc/sys/user/max_uts_namespaces", limit)
