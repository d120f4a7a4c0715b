"""Whether what is mounted is judged rightly: a path that the server leads elsewhere (links, referrals), a share that is there
and of no use, an automount at the mount point."""
import ctypes, json, os, re, shutil, subprocess, time
import tls
from rig import *
from scenarios_admin import hold
from scenarios_client import connected
from tls import EFS, Stunnel


def lead(link, to, shown=None):
    """A folder on the server, and a link to it; and the folder `shown`, which lies there too."""
    for folder in (f"/export/{to}", f"/export{shown or '/' + to}"):
        os.makedirs(folder, exist_ok=True)
        os.chmod(folder, 0o1777)
    os.makedirs(os.path.dirname(f"/export/{link}"), exist_ok=True)
    os.symlink(os.path.relpath(f"/export/{to}", os.path.dirname(f"/export/{link}")), f"/export/{link}")


# The link, where it leads, the path in the config, and the path that the kernel shows.
LINKS = [("current", "releases/1", "/current", "/releases/1"),
         ("courses/latest", "courses/2026", "/courses/latest/lab", "/courses/2026/lab")]


def is_known(path, shown, host=NAME, address=SERVER, made=True):
    """Every command takes the share, which is mounted, for its own; at the end it is gone."""
    share = rf"{NAME}:{path} on {POINT}"
    before = mounted()
    check([m["source"] for m in before] == [f"{host}:{shown}"], before)
    result = agent()
    expect(result, 0, rf"info    {POINT}: the server leads {path} to {host}:{shown}, which is what df and findmnt show; where it leads by now "
                      "counts from the next mount on", rf"already mounted: {share}, from ")
    check("instead of" not in result.out and mounted() == before, "taken for another mount, or mounted again")
    expect(agent("check"), 1, rf"(?m)^ok +mount point +{POINT}: mounted already, from {address}, as {host}:{shown} ",
           rf"(?m)^ok +trial mount +{POINT}: mounts \(the server leads {path} to {host}:{shown}\); its root has mode 1777",
           r"(?m)^ok +writing +", r"FAULT +AppStream")
    expect(agent("status"), 0, rf"{share}: mounted from {address} for .*; answers; .*\n  the server leads {path} to {host}:{shown}, which is what df "
                               "and findmnt show\n  options: ", "exit 0, 1 of 1 shares mounted")
    one = json.loads(agent("status", "--json").out)["shares"][0]
    check(one["mounted"] and one["responsive"] and one["usable"] and one["source"] == f"{host}:{shown}" and one["problem"] is None, one)
    expect(agent("unmount"), 0, rf"unmounted {share}; all that was written is on the server")
    check(not mounted() and os.path.lexists(POINT) != made, "left behind, or taken away")
    expect(agent("status"), 1, rf"{share}: NOT MOUNTED\n")


@scenario("a path that leads over a link on the server is the share: mounted, found again, and taken away")
def _():
    for link, to, path, shown in LINKS:
        lead(link, to, shown)
        config(path=f'"{path}"')
        result = agent()
        expect(result, 0, rf"info    {POINT}: the server leads {path} to {NAME}:{shown}, which is what df and findmnt show\n",
               rf"mounted {NAME}:{path} on {POINT} from {SERVER}, NFS 4.1, attempt 1")
        check("warning" not in result.out, result.out)
        check(as_user(f"echo x > {POINT}/x && cat {POINT}/x") == (0, "x\n") and os.path.exists(f"/export{shown}/x"), "not the folder")
        is_known(path, shown)
        expect(agent("check"), 1, rf"(?m)^ok +trial mount +{POINT}: mounts \(the server leads {path} to {NAME}:{shown}\)")
    # The link leads elsewhere since: what is mounted stays, and the next mount follows it.
    config(path='"/current"')
    expect(agent(), 0)
    os.unlink("/export/current")
    lead("current", "releases/2")
    expect(agent(), 0, f"leads /current to {NAME}:/releases/1, .*counts from the next mount on", "already mounted")
    expect(agent("unmount"), 0)
    expect(agent(), 0, f"leads /current to {NAME}:/releases/2, ")
    # A mount of the same server that somebody else has put there is not it, nor is it where ours has been.
    sh(f"umount {POINT}; mount -t nfs4 -o vers=4.1,noresvport {NAME}:/home {POINT}")
    for command, words in (("--once", r"is taken: \S+:/home \(nfs4\) is mounted there"), ("unmount", "which is not the share: left alone")):
        expect(agent(command), 69, words)
    sh(f"umount {POINT}")
    # What leads nowhere, to a file, or round in a circle is told at once.
    for target, code, words in (("nowhere", 69, "has no path /odd"), ("file", 69, "is not a folder"), ("odd", 69, r"leads through too many links or referrals \(ELOOP\)")):
        write("/export/file", "")
        os.symlink(target, "/export/odd")
        config(path='"/odd"')
        expect(agent(), code, words, within=5)
        os.unlink("/export/odd")


@scenario("a path that leads over a link is the share to a second run at the same time, and to one after a run that was killed")
def _():
    lead("current", "releases/1")
    config(path='"/current"')
    for _ in range(5):
        both = [end(process) for process in [start(), start()]]
        for result in both:
            expect(result, 0, r"(already )?mounted:? ")
        check(len(mounted()) == 1, mounted())
        expect(agent("unmount"), 0, "unmounted ")
        expect_clean()
    # Beside another share of another name, which the kernel knows as the same server.
    other = "fs-2.efs.eu-west-1.amazonaws.com"
    dns([(SERVER, NAME), (SECOND, other)])
    for _ in range(3):
        write(CONFIG, f'[[share]]\nendpoint = "{NAME}"\npath = "/current"\n[[share]]\nendpoint = "{other}"\npath = "/current"\nmount_point = "/mnt/b"\n')
        expect(agent(), 0, "2 of 2 shares mounted")
        expect(agent(), 0, "2 of 2 shares mounted")
        expect(agent("status"), 0)
        expect(agent("unmount"), 0)
        expect_clean("/mnt/b")
        expect_clean()
    # The one share is up, and the run is killed while it waits for the other.
    config(path='"/current"', head=f'[[share]]\nendpoint = "{DEAD}"\nmount_point = "/mnt/other"')
    killed = start()
    until(mounted, "not mounted", 20)
    time.sleep(0.5)
    killed.kill()
    killed.communicate()
    until(lambda: not agents(), "left behind", 5)
    sh("rmdir /mnt/other", check_=False)
    config(path='"/current"')
    is_known("/current", "/releases/1")


@scenario("a path that leads over a link is the share too where somebody else has mounted it, or a run that could tell nobody")
def _():
    lead("current", "releases/1")
    config(path='"/current"')
    # By hand, with options of its own: for the kernel it is another file system.
    for options in ("vers=4.1,noresvport", "vers=4.1,noresvport,soft,timeo=100,nosharecache"):
        sh(f"mkdir -p {POINT}; mount -t nfs4 -o {options} {NAME}:/current {POINT}")
        expect(agent("check"), 1, rf"(?m)^ok +mount point +{POINT}: mounted already, from {SERVER}, as {NAME}:/releases/1 ")
        expect(agent(), 0, rf"already mounted: {NAME}:/current on {POINT}")
        expect(agent("unmount"), 0, "unmounted ")
        check(not mounted(), mounted())
    # What a run left that was killed at once, or its file is gone.
    expect(agent(), 0)
    sh("rm -r /run/efs-agent")
    expect(agent("unmount"), 69, "left alone")
    expect(agent(), 0, "already mounted: ")
    is_known("/current", "/releases/1", made=False)
    # Where the link leads elsewhere by now, it is another folder.
    expect(agent(), 0)
    sh("rm -r /run/efs-agent")
    os.unlink("/export/current")
    lead("current", "releases/2")
    expect(agent(), 69, rf"{POINT} is taken: {NAME}:/releases/1 \(nfs4\) is mounted there", within=5)
    check(len(mounted()) == 1, mounted())


@scenario("an encrypted path that leads over a link is the share, through its tunnel")
def _():
    for link, to, path, shown in LINKS:
        lead(link, to, shown)
    with Stunnel():
        for link, to, path, shown in LINKS:
            with tls.share(path=f'"{path}"', head='deadline = "50s"'):
                expect(agent(), 0, f"leads {path} to {NAME}:{shown}, which is what df and findmnt show\n", rf"mounted {NAME}:{path} on {POINT} from {EFS}, TLS")
                sh("rm /run/efs-agent/status.json")
                expect(agent(), 0, "already mounted: ")
                is_known(path, shown, address=r"127\.0\.0\.1", made=False)
                os.rmdir(POINT)


def refer(path, to):
    """The folder of the server is a referral."""
    folder = "/export" + path
    os.makedirs(folder, exist_ok=True)
    sh(f"mountpoint -q {folder} || mount -t tmpfs none {folder}")
    exports(EXPORTS + f"{folder} *(rw,sync,fsid=77,no_root_squash,insecure,no_subtree_check,refer={to})\n")


@scenario("a referral is followed, and the share is known by it; one that leads out of a tunnel is refused and taken away")
def _():
    os.makedirs("/export/data")
    os.chmod("/export/data", 0o1777)
    other = Server(2)
    try:
        # To another address of the same server, and to another server.
        for number, to in enumerate((SECOND, other.address)):
            refer("/ref", f"/data@{to}")
            os.chmod("/export/data", 0o1777)
            config(path='"/ref"', root_mode='"0777"')
            told = agent()
            expect(told, 0, rf"{POINT}: the server leads /ref to \S+:/data, ", rf"mounted {NAME}:/ref on {POINT}")
            # Nobody has said that the mode of another server's root is to be changed.
            elsewhere = to == other.address
            check((f"root_mode 0777 of {POINT} is not set: the server has led /ref to" in told.out) == elsewhere, told.out)
            expect(agent(), 0, "already mounted")
            mode = os.stat("/export/data").st_mode & 0o7777
            check(mode == (0o1777 if elsewhere else 0o777), f"{to}: {mode:o}")
            os.chmod("/export/data", 0o1777)
            config(path='"/ref"')
            host = mounted()[0]["source"].split(":")[0]
            address = next(o[5:] for o in mounted()[0]["options"] if o.startswith("addr="))
            check(address in (SERVER, to), address)
            check(as_user(f"echo {number} > {POINT}/x") == (0, "") and open("/export/data/x").read() == f"{number}\n", "not the folder")
            is_known("/ref", "/data", host, address)
        with Stunnel(), tls.share(path='"/ref"', head='deadline = "50s"'):
            # The kernel finds the one server behind both addresses, and stays on the connection that it has.
            refer("/ref", f"/data@{SECOND}")
            expect(agent("--once"), 0, rf"{POINT}: the server leads /ref to \S+:/data, ", rf"mounted {NAME}:/ref on {POINT} from {EFS}, TLS")
            check(connected(POINT) == f"7f000001:{tls.port()}", connected(POINT))
            expect(agent("unmount"), 0)
            refer("/ref", f"/data@{other.address}")
            says = rf"{POINT} is to be encrypted, but the server refers /ref to \S+:/data at {other.address}:2049, which is not behind its tunnel: taken away again"
            expect(agent("--once"), 69, f"error: cannot mount {NAME}:/ref on {POINT}: {says}", "to mend it: write the file system that it leads to as `endpoint`")
            check(not mounted() and not [m for m in mounts() if m["type"] == "nfs4"], mounts())
            expect(agent("check"), 1, rf"(?m)^FAULT +trial mount +{POINT}: {says}")
            expect(agent("status"), 1, "NOT MOUNTED")
    finally:
        exports(EXPORTS)
        other.end()
        sh("umount /export/ref", check_=False)


def anew(folder="/export/ap1"):
    """The folder, as an access point or a file system that was made anew."""
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    os.chmod(folder, 0o1777)


@scenario("a share whose folder was made anew on the server is told by check and status, and mounted anew by the next start")
def _():
    gone = r"its folder is gone from the server, or was made anew there \(ESTALE\)"
    for touched in (True, False):
        anew()
        config(path='"/ap1"', head='deadline = "8s"')
        expect(agent("--once"), 0, "mounted ")
        write(f"{POINT}/f", "hi")
        anew()
        if touched:
            sh(f"ls {POINT}; stat {POINT}", check_=False)
        expect(agent("status"), 1, rf"{NAME}:/ap1 on {POINT}: mounted from {SERVER} for .*; NOT USABLE: {gone}; to mend it: sudo efs-agent --once, which mounts it anew\n")
        one = json.loads(agent("status", "--json").out)["shares"][0]
        check(one["mounted"] and one["responsive"] and one["usable"] is False and re.fullmatch(gone, one["problem"]), one)
        expect(agent("check"), 1, rf"(?m)^FAULT +mount point +{POINT}: mounted already, from {SERVER}, but {gone} .*\n +to mend it: sudo efs-agent --once, which mounts it anew")
        result = agent()
        expect(result, 0, rf"warning {POINT} is mounted from {SERVER}, but {gone}: mounted anew\n", rf"mounted {NAME}:/ap1 on {POINT} from {SERVER}, NFS 4.1, attempt 1, ")
        check("in use" not in result.out, result.out)
        expect_mounted(source=f"{NAME}:/ap1")
        check(as_user(f"echo x > {POINT}/x && cat {POINT}/x") == (0, "x\n") and os.path.exists("/export/ap1/x"), "the users do not have their files")
        expect(agent(), 0, "already mounted")
        expect(agent("status"), 0, "answers; ")
        expect(agent("unmount"), 0, "unmounted ")
        expect_clean()
    # In use: who has something open is named, and keeps that; all others have the new one.
    anew()
    expect(agent(), 0)
    holder = hold("exec sleep 1000")
    anew()
    expect(agent(), 0, rf"warning {POINT} is in use by {holder.pid} \(sleep\): what they have open stays on the old mount until they close it\n", "mounted ")
    check(len(mounted()) == 1 and as_user(f"echo x > {POINT}/x && cat {POINT}/x") == (0, "x\n"), "not usable beside the old one")
    check(holder.poll() is None, "somebody was ended")
    holder.kill()
    holder.wait()
    expect(agent("unmount"), 0)
    expect_clean()
    # The folder is gone for good: said, and nothing is left into which somebody could write.
    anew()
    expect(agent(), 0)
    shutil.rmtree("/export/ap1")
    expect(agent(), 69, "but its folder is gone from the server", rf"server {SERVER} has no path /ap1 \(ENOENT\)", within=4)
    expect_clean()
    # unmount takes a stale one away, too.
    anew()
    expect(agent(), 0)
    anew()
    expect(agent("unmount"), 0, "unmounted ")
    expect_clean()
    # While the server cannot be reached, what is there stays.
    anew()
    expect(agent(), 0)
    anew()
    sh(f"ls {POINT}", check_=False)
    srv_nft("tcp dport 2049 drop")
    expect(agent(), 75, "attempt 1: ", within=10)
    check(len(mounted()) == 1, "taken away for nothing")


@scenario("an encrypted share whose folder was made anew on the server is mounted anew by the next start")
def _():
    anew()
    with Stunnel(), tls.share(path='"/ap1"', head='deadline = "50s"'):
        expect(agent(), 0, "mounted ")
        write(f"{POINT}/f", "hi")
        anew()
        expect(agent("status"), 1, r"NOT USABLE: its folder is gone from the server, or was made anew there \(ESTALE\)")
        expect(agent("check"), 1, r"(?m)^FAULT +mount point .*\(ESTALE\)")
        expect(agent(), 0, r"\(ESTALE\): mounted anew\n", rf"mounted {NAME}:/ap1 on {POINT} from {EFS}, TLS")
        check(as_user(f"echo x > {POINT}/x && cat {POINT}/x") == (0, "x\n"), "not usable")
        expect(agent(), 0, "already mounted")


@scenario("a share that root alone may not open is up, for its users have their files; a server that lets this machine in no more is told")
def _():
    os.makedirs("/export/own")
    os.chown("/export/own", 1001, 1001)
    os.chmod("/export/own", 0o700)
    try:
        exports(EXPORTS.replace("no_root_squash", "root_squash"))
        config(path='"/own"')
        for outcome in ("mounted ", "already mounted: "):
            result = agent()
            expect(result, 0, rf"info    root cannot open {POINT} \(EACCES\), as where the server squashes root: its root has mode 0700 and belongs to 1001:1001\n", outcome)
            check("warning" not in result.out and "anew" not in result.out, result.out)
            check(as_user(f"echo x > {POINT}/x && cat {POINT}/x") == (0, "x\n"), "the user cannot write")
            expect(agent("status"), 0, "answers; ")
            expect(agent("check"), 1, rf"(?m)^ok +mount point +{POINT}: mounted already", r"(?m)^ok +writing +.*: the streaming user could write")
        # Another user's: that nobody here can write is said, and mounting it anew would not help.
        os.chown("/export/own", 1002, 1002)
        sh("sleep 1; echo 3 > /proc/sys/vm/drop_caches")
        expect(agent(), 0, rf"warning {USER} cannot write to {POINT} \(its root has mode 0700 and belongs to 1002:1002\)", "already mounted: ")
        # A root that was squashed meanwhile, as by hand, and a client that is not let in any more.
        config(path='"/own"', head='deadline = "3s"')
        exports(EXPORTS.replace("*", "192.168.77.77"))
        result = agent()
        print(agent("status").out)
        expect(result, 69)
        check(not mounted() and not os.path.lexists(POINT), "left behind")
    finally:
        exports(EXPORTS)


@scenario("a soft mount whose server is dead is called dead, not faulty, and is left alone")
def _():
    config(head='deadline = "5s"', options='"soft,timeo=5,retrans=1"')
    expect(agent(), 0)
    srv_nft("tcp dport 2049 drop")
    expect(agent("status"), 1, rf"NOT RESPONDING: its server {SERVER} does not answer")
    expect(agent(), 75, rf"{POINT} is mounted already, but its server {SERVER} does not answer", within=7)
    check(len(mounted()) == 1, "taken away")
    nft_flush()
    # The kernel repeats what was lost less and less often.
    config(head='deadline = "40s"', options='"soft,timeo=5,retrans=1"')
    expect(agent(), 0, "already mounted")


class Automount:
    """An automount at a path, as systemd has it (or another program), that nobody serves."""

    def __init__(self, point, source="systemd-1"):
        self.point = point
        sh("modprobe autofs4 || modprobe autofs", check_=False)
        os.makedirs(point, exist_ok=True)
        self.pipe = os.pipe()
        # Whoever is in this process group is the automounter to the kernel, and waits for nobody.
        self.server = subprocess.Popen(["sleep", "1000"], process_group=0)
        libc = ctypes.CDLL(None, use_errno=True)
        data = f"fd={self.pipe[1]},pgrp={self.server.pid},minproto=5,maxproto=5,direct"
        check(libc.mount(source.encode(), point.encode(), b"autofs", 0, data.encode()) == 0, f"no automount: {os.strerror(ctypes.get_errno())}")

    def mount(self, *arguments):
        subprocess.run(["mount", *arguments, self.point], process_group=self.server.pid, check=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        sh(f"umount -l {self.point}", check_=False)
        self.server.kill()
        self.server.wait()
        for end_ in self.pipe:
            os.close(end_)


@scenario("an automount at the mount point is called one, with what helps for longer than a boot; below a share it is no error")
def _():
    is_there = r"an automount of systemd \(systemd-1, autofs\) is there"
    cure = (rf"take the line out of /etc/fstab that has {POINT} \(or disable mnt-efs_share.automount\), then sudo systemctl daemon-reload and "
            "sudo systemctl stop 'mnt-efs_share.automount', or give the share another mount_point")
    with Automount(POINT) as automount:
        expect(agent("--once"), 69, rf"error: cannot mount {NAME}:/ on {POINT}: {POINT} is taken: {is_there}\n  to mend it: {cure}\n  exit 69", within=2)
        expect(agent(), 69, rf"is taken: {is_there}; to mend it: {cure} \(exit 69\)", within=2)
        expect(agent("status"), 1, rf"NOT USABLE: {is_there}\n", within=2)
        expect(agent("check"), 1, rf"(?m)^FAULT +mount point +{POINT}: {POINT} is taken: {is_there} .*\n +to mend it: {cure}$", within=5)
        expect(agent("unmount"), 69, rf"{is_there}, which is not the share: left alone \(exit 69\)", within=2)
        # A mount point below it: whoever looks there waits for nobody.
        config(mount_point=f'"{POINT}/sub"')
        expect(agent(), 69, rf"{POINT}/sub lies on systemd-1 \(autofs\)", within=2)
        config()
        check([m["type"] for m in mounted()] == ["autofs"], mounted())
        # The share is on it, as systemd leaves it once somebody has looked.
        automount.mount("-t", "nfs4", "-o", "vers=4.1,noresvport", f"{NAME}:/")
        check([m["type"] for m in mounted()] == ["autofs", "nfs4"], mounted())
        expect(agent(), 0, "already mounted: ", within=3)
        expect(agent("status"), 0, "answers; ")
        result = agent("unmount")
        expect(result, 0, rf"unmounted {NAME}:/ on {POINT}", rf"info    {POINT}: {is_there}, below the share: left as it is", within=5)
        check("error" not in result.out and [m["type"] for m in mounted()] == ["autofs"], mounted())
    with Automount(POINT, "/etc/auto.nfs"):
        expect(agent(), 69, rf"an automount of autofs \(/etc/auto.nfs, autofs\) is there; to mend it: take {POINT} out of /etc/auto.master or the map /etc/auto.nfs, "
               "then sudo systemctl reload autofs", within=2)
    # Whatever else is below the share is none either.
    os.makedirs(POINT, exist_ok=True)
    sh(f"mount -t tmpfs mine {POINT}; mount -t nfs4 -o vers=4.1,noresvport {NAME}:/ {POINT}")
    expect(agent("unmount"), 0, rf"{POINT}: mine \(tmpfs\) is mounted there, below the share: left as it is")
    check([m["source"] for m in mounted()] == ["mine"], mounted())
