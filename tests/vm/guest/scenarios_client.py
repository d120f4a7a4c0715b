"""Who the machine is to its servers: clones of one image lose no lock to each other, and each way to a server (plain, a
tunnel) has a connection of its own. Instances here are network, mount and host name spaces with a boot id of their own."""
import contextlib, itertools, json, os, re, socket, subprocess, threading, time, uuid
import tls
from client import *
from rig import *
from tls import ACCESS_KEY, ACCESS_POINT, EFS, OTHER, SECRET, Stunnel, make_key

SECOND_POINT = "fsap-0fedcba9876543210"


def connected(point):
    """The server's end of the connection that a mount is on, in hexadecimal, as the kernel has it."""
    device = mounted(point)[0]["device"]
    lines = [line.split() for line in open("/proc/fs/nfsfs/volumes")]
    return next(f"{line[1]}:{int(line[2], 16)}" for line in lines if line[3] == device)


# In the process of an instance, with its mount point: has an exclusive lock on FILE and writes there every tenth of a second for
# SECONDS, each time to the server's disk. Tells of the lock, and of the end.
HOLDS = """
import fcntl, os, sys, time
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o666)
fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
print("locked", flush=True)
end, n = time.monotonic() + float(sys.argv[2]), 0
while time.monotonic() < end:
    os.write(fd, b"line %d\\n" % n); os.fsync(fd); n += 1
    time.sleep(0.1)
print("wrote", n, flush=True)
"""
# Asks for that lock without waiting.
ASKS = """
import fcntl, os, sys
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o666)
try:
    fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB); print("got it")
except OSError as error:
    print(error.errno)
"""
EAGAIN = "11\n"


class Instance:
    """A machine of a fleet: number N, at 10.3.N.2. Its kernel is this one's, its boot id and its host name are its own."""

    def __init__(self, number, host="clone", boot=None):
        self.number, self.point, self.boot = number, f"/mnt/clone{number}", boot or str(uuid.uuid4())
        self.net = f"clone{number}"
        n = number
        sh("sysctl -qw net.ipv4.ip_forward=1")
        srv(f"ip route replace 10.3.{n}.0/30 via {CLIENT}")
        sh(f"ip netns add {self.net}; ip link add c{n} type veth peer name e0 netns {self.net}; ip addr add 10.3.{n}.1/30 dev c{n};"
           f"ip link set c{n} up; ip -n {self.net} addr add 10.3.{n}.2/30 dev e0; ip -n {self.net} link set e0 up;"
           f"ip -n {self.net} link set lo up; ip -n {self.net} route add default via 10.3.{n}.1")
        self.file = f"/etc/efs-agent/{self.net}.toml"
        config(file=self.file, mount_point=f'"{self.point}"', root_mode='"1777"')
        write(f"/run/{self.net}.boot", self.boot + "\n")
        self.holder = subprocess.Popen(
            ["nsenter", f"--net=/run/netns/{self.net}", "--", "unshare", "--mount", "--uts", "--", "sh", "-c",
             f"hostname {host}; mount --bind /run/{self.net}.boot {BOOT_ID}; umount -l /sys; mount -t sysfs sys /sys; echo; exec sleep 1000"],
            stdout=subprocess.PIPE)
        self.holder.stdout.readline()
        self.wrap = ["nsenter", "-t", str(self.holder.pid), "-m", "-n", "-u", "--"]

    def start(self):
        return end(start("--allow-private-namespace", "--config", self.file, wrap=self.wrap))

    def run(self, script, *arguments):
        return subprocess.Popen([*self.wrap, "python3", "-c", script, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def asks(self, file):
        return self.run(ASKS, f"{self.point}/{file}").communicate(timeout=60)[0]

    def end(self):
        sh(" ".join(self.wrap) + f" sh -c 'umount -f {self.point} || umount -l {self.point}'; true", check_=False)
        self.holder.kill()
        self.holder.wait()
        sh(f"ip link del c{self.number}; ip netns del {self.net}; rm -f {self.file}", check_=False)
        srv(f"ip route del 10.3.{self.number}.0/30", check_=False)


@contextlib.contextmanager
def instances(*made):
    try:
        yield made
    finally:
        for instance in made:
            instance.end()


@scenario("identity: two machines of one host name respect each other's locks, and both write on")
def _():
    expire()
    with instances(Instance(1), Instance(2)) as (one, two):
        for instance in (one, two):
            expect(instance.start(), 0, "mounted ")
        holders = [one.run(HOLDS, f"{one.point}/a", 30), two.run(HOLDS, f"{two.point}/b", 30)]
        for holder in holders:
            check(holder.stdout.readline() == "locked\n", "no lock")
        for _ in range(3):
            asked = [two.asks("a"), one.asks("b")]
            check(asked == [EAGAIN, EAGAIN], f"asked for the other's lock: {asked}")
        seen = names()
        wanted = [ours(one.boot), ours(two.boot)]
        check(sorted({name.split("/")[0] for name in seen}) == sorted(wanted), f"{seen} instead of {wanted}")
        check(all(re.fullmatch(r"efs-agent-[0-9a-f]{32}/efs-agent-[0-9a-f]{32}", name) for name in seen), seen)
        # The machine that both are in is none of them.
        check(open(IDENTIFIER).read().strip() not in wanted, "an identity got out of its network")
        said = [holder.communicate(timeout=90)[0] for holder in holders]
        check(all(re.fullmatch(r"wrote \d+\n", one) for one in said), f"writing: {said}")
        check(two.asks("a") == "got it\n", "a lock that nobody has is refused")


@scenario("identity: a machine that comes back in mid-lock is a new one: its old lock goes after the server's lease, and the start does not wait for it")
def _():
    expire()
    with contextlib.ExitStack() as stack:
        # Open on the server too, so that it delegates the file to nobody: whoever opens it would wait for that first.
        stack.enter_context(open("/export/a", "w"))
        os.chmod("/export/a", 0o666)
        old = Instance(3)
        stack.callback(old.end)
        expect(old.start(), 0, "mounted ")
        holder = old.run(HOLDS, f"{old.point}/a", 600)
        check(holder.stdout.readline() == "locked\n", "no lock")
        sh("ip link set c3 down")  # and is not heard of again
        gone = time.monotonic()
        holder.kill()
        new = Instance(4)
        stack.callback(new.end)
        expect(new.start(), 0, "mounted .*attempt 1", within=6)
        check(new.asks("a") == EAGAIN, "the lock was thrown away before the lease was over")
        until(lambda: new.asks("a") == "got it\n", "the lock stays", 60)
        # Else its kernel would wait for minutes to say good-bye, with the NFS client's module in use.
        sh("ip link set c3 up")
        print(f"figure: {time.monotonic() - gone:.1f} s after the machine was gone its lock was, with a lease of 10 s")


@scenario("identity: killed with SIGKILL at every point of it, the next run is right, and so is the machine's identity")
def _():
    expire()
    # At the Nth call of each of these (strace counts each by itself), of its own or of the process that mounts.
    calls = {"openat": 14, "read": 16, "write": 8, "stat": 4, "close": 18, "unshare": 1, "sethostname": 1, "mount": 1}
    some = {"openat": (5,), "read": (3,), "write": (2,), "stat": (), "close": ()}
    killed = []
    for call, most in calls.items():
        for n in range(1, most + 1) if KILLS >= 10 else some.get(call, (1,)):
            # A network of its own has an identity of its own, and has none yet.
            with instances(Instance(5)) as (one,):
                identity = lambda: sh(" ".join(one.wrap) + f" cat {IDENTIFIER}").strip()  # noqa: E731
                check(identity() == "(null)", identity())
                arguments = ["--allow-private-namespace", "--config", one.file]
                code = subprocess.run([*one.wrap, "strace", "-f", "-qq", "-o", "/dev/null", "-e", f"inject={call}:signal=KILL:when={n}", AGENT,
                                       "--once", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode
                killed += [(call, n)] if code else []
                until(lambda: not agents(), "left behind", 5)
                left = identity()
                check(left in ("(null)", ours(one.boot)) and open(PARAMETER).read() == "\n", f"{call} {n}: left half done: {left}")
                done = subprocess.run([*one.wrap, AGENT, *arguments], stdout=subprocess.PIPE, text=True)
                check(done.returncode == 0, f"{call} {n}: the next run: {done.stdout}")
                check(identity() == ours(one.boot), f"{call} {n}: the identity is {identity()}")
                seen = names()
                check([name.split("/")[0] for name in seen] == [ours(one.boot)], f"{call} {n}: the server knows {seen}")
    print(f"figure: killed at {len(killed)} of its system calls")
    check({"openat", "read", "write", "unshare", "sethostname", "mount"} <= {call for call, _ in killed}, killed)


# ---- ways ----

# What is tested is not how long the mounts take.
PATIENT = 'deadline = "50s"'

POINTS = {"plain": "/mnt/plain", "encrypted": "/mnt/encrypted", "a": "/mnt/a", "b": "/mnt/b"}
AS_PLAIN = f'endpoint = "{OTHER}"\nmount_point = "/mnt/plain"\n'
ENCRYPTED = f'endpoint = "{NAME}"\nencryption_in_transit = true\ntrust = "{tls.CA}"\n'
SHARES = {
    "plain": AS_PLAIN,
    "encrypted": ENCRYPTED + 'mount_point = "/mnt/encrypted"\n',
    "a": ENCRYPTED + f'mount_point = "/mnt/a"\niam = true\naws_profile = "fleet"\naccess_point = "{ACCESS_POINT}"\n',
    "b": ENCRYPTED + f'mount_point = "/mnt/b"\niam = true\naws_profile = "other"\naccess_point = "{SECOND_POINT}"\n',
}


def shares(*order, file=CONFIG):
    write(file, PATIENT + "\n" + "".join(f"[[share]]\n{SHARES[name]}" for name in order))


@contextlib.contextmanager
def ways():
    """One server by four ways: plain at 10.0.0.1, and by TLS at 10.0.4.1 in its own right and through two access points."""
    tls.set_up()
    dns([(EFS, NAME), (SERVER, OTHER)])
    os.chmod("/export", 0o1777)
    os.makedirs("/root/.aws", exist_ok=True)
    keys = f"aws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET}\n"
    write("/root/.aws/credentials", f"[fleet]\n{keys}[other]\n{keys}")
    os.chmod("/root/.aws/credentials", 0o600)
    for name in ("encrypted", "a", "b"):
        make_key(f"/run/efs-agent/tunnel/mnt-{name}.key")
    with Stunnel() as server:
        try:
            yield server
        finally:
            shares(*SHARES)
            out = end(start("unmount"))
            until(lambda: not agents(), f"left behind: {agents()}", 10)
            check(out.code == 0, f"unmount: exit {out.code}")


def port(name):
    return int(open(f"/run/efs-agent/tunnel/mnt-{name}.port").read().split()[0])


def sent():
    """Bytes that have gone each way so far: in clear over the link to the server, and through each tunnel."""
    clear = sum(int(open(f"/sys/class/net/vc/statistics/{way}_bytes").read()) for way in ("rx", "tx"))
    told = json.loads(sh(f"{AGENT} status --json; true"))["shares"]
    return {"plain": clear} | {share["mount_point"][5:]: share["tunnel"]["bytes_sent"] for share in told if share["tunnel"]}


def each_on_its_own(size):
    """Each share is on a connection of its own, and what is written into it goes there and nowhere else: into each another
    number of bytes, so that none can have gone another's way unseen."""
    wanted = {"plain": "0a000001:2049"} | {name: f"7f000001:{port(name)}" for name in ("encrypted", "a", "b")}
    is_ = {name: connected(point) for name, point in POINTS.items()}
    check(is_ == wanted, f"connected to {is_} instead of {wanted}")
    sizes = {name: size + n * 400_000 for n, name in enumerate(POINTS)}
    before = sent()
    for name, point in POINTS.items():
        sh(f"head -c {sizes[name]} /dev/urandom > {point}/from-{name}; sync {point}/from-{name}; rm {point}/from-{name}")
    grown = {way: now - before[way] for way, now in sent().items()}
    check(all(sizes[way] <= n < sizes[way] + 300_000 for way, n in grown.items()), f"{sizes} bytes went {grown}")


@scenario("identity: one server plain, encrypted and through two access points, in every order: each share goes its own way")
def _():
    expire()
    with ways():
        # Of each two of them, each comes first once: an order and its reverse do for that, of the 24.
        for n, order in enumerate(itertools.permutations(SHARES)):
            if KILLS < 10 and n not in (0, 23):
                continue
            shares(*order)
            expect(agent(), 0, r"4 of 4 shares mounted \(exit 0\)\n$")
            each_on_its_own(8 << 20 if KILLS >= 10 or n == 0 else 300_000)
            seen = names()
            check(len(set(seen)) == 4, f"{order}: the server knows {seen}")
            if n == 0:
                before = mounts()
                expect(agent(), 0, r"4 of 4 shares mounted \(exit 0\)\n$")
                check(mounts() == before and names() == seen, "a second run did something")
                expect(agent("status"), 0)
            sh("umount " + " ".join(POINTS.values()))


@scenario("identity: one server by four ways in two runs at the same time: each share goes its own way")
def _():
    expire()
    other = "/etc/efs-agent/other.toml"
    with ways():
        for n, order in enumerate(itertools.permutations(SHARES)):
            if n == 20 or KILLS < 10 and n == 3:
                break
            shares(*order[:2])
            shares(*order[2:], file=other)
            for result in [end(process) for process in [start(), start("--config", other)]]:
                expect(result, 0, r"2 of 2 shares mounted \(exit 0\)\n$")
            shares(*SHARES)
            each_on_its_own(8 << 20 if KILLS >= 10 else 300_000)
            check(len(set(names())) == 4, names())
            sh("umount " + " ".join(POINTS.values()))


# Passes on what comes to port 2049 of the loopback to the server.
LOCAL = """
import socket, threading
def copy(a, b):
    try:
        while data := a.recv(65536): b.sendall(data)
    except OSError: pass
    for s in (a, b):
        try: s.shutdown(2)
        except OSError: pass
listener = socket.create_server(("127.0.0.1", 2049))
print(flush=True)
while True:
    client, _ = listener.accept()
    server = socket.create_connection(("10.0.0.1", 2049))
    for pair in ((client, server), (server, client)): threading.Thread(target=copy, args=pair, daemon=True).start()
"""


@contextlib.contextmanager
def loopback():
    """The server answers at 127.0.0.1 too."""
    local = subprocess.Popen(["python3", "-c", LOCAL], stdout=subprocess.PIPE)
    local.stdout.readline()
    try:
        yield
    finally:
        sh("umount -l /mnt/plain", check_=False)
        local.kill()
        local.wait()


@scenario("identity: a plain share of a server on the loopback and an encrypted one of the same server part too, in both orders")
def _():
    expire()
    plain = '[[share]]\nendpoint = "127.0.0.1"\nmount_point = "/mnt/plain"\n'
    with loopback(), Stunnel(), tls.share(head=PATIENT):
        encrypted = open(CONFIG).read()
        for text in (encrypted + plain, encrypted.replace("[[share]]", plain + "[[share]]", 1)):
            write(CONFIG, text)
            expect(agent(), 0, r"2 of 2 shares mounted \(exit 0\)\n$")
            is_ = connected("/mnt/plain"), connected(POINT)
            check(is_ == ("7f000001:2049", f"7f000001:{tls.port()}"), is_)
            check(len(set(names())) == 2, names())
            sh(f"umount /mnt/plain {POINT}")
        write(CONFIG, encrypted)


@scenario("identity: an encrypted share that the kernel puts onto another connection all the same is taken away again, and said")
def _():
    expire()
    with Stunnel(), tls.share():
        expect(agent(), 0, "mounted ")
        host = names()[0].split("/")[1]
        sh(f"umount {POINT}")  # its tunnel goes on, at its port
        bare_mount("x:/", "/mnt/plain", f"noresvport,addr={SERVER}", host)
        says = rf"{POINT} is to be encrypted, but the kernel is connected to {SERVER}:2049 for it, which is not its tunnel: taken away again"
        expect(agent("--once"), 69, f"error: cannot mount {NAME}:/ on {POINT}: {says}", "see what else is mounted from this file system")
        check(not mounted() and mounted("/mnt/plain"), mounts())
        expect(agent("check"), 1, rf"(?m)^FAULT +trial mount +{POINT}: {says}")
        sh("umount /mnt/plain")


@scenario("identity: an encrypted share that is there, and goes past its tunnel, is replaced")
def _():
    expire()
    with loopback(), Stunnel(), tls.share():
        expect(agent(), 0, "mounted ")
        sh(f"umount {POINT}")
        # What an earlier version could leave: both under the machine's own host name, and the table shows the share as it should be.
        bare_mount("x:/", "/mnt/plain", "resvport,addr=127.0.0.1")
        bare_mount(f"{NAME}:/", POINT, f"resvport,rsize=1048576,wsize=1048576,hard,timeo=600,retrans=2,nosharecache,port={tls.port()},addr=127.0.0.1")
        check(connected(POINT) == "7f000001:2049" and f"port={tls.port()}" in mounted()[0]["options"], mounted())
        expect(agent("status"), 1, r"tunnel: NOT ENCRYPTED, which the config wants: the kernel is connected to 127\.0\.0\.1:2049")
        expect(agent("check"), 1, r"(?m)^FAULT +mount point .*: NOT ENCRYPTED, which the config wants: the kernel is connected to 127\.0\.0\.1:2049 ")
        expect(agent(), 0, rf"warning {POINT} is mounted from 127\.0\.0\.1:2049, past its tunnel: replaced\n", "mounted ")
        check(connected(POINT) == f"7f000001:{tls.port()}", connected(POINT))


# ---- a server that is not Linux's own ----

GANESHA = """
NFS_CORE_PARAM { Protocols = 4; Enable_NLM = false; Enable_RQUOTA = false; }
NFSV4 { Graceless = true; Lease_Lifetime = 10; Minor_Versions = 1, 2; RecoveryBackend = fs; }
EXPORT { Export_Id = 1; Path = /run/ganesha-disk; Pseudo = /; Access_Type = RW; Squash = No_Root_Squash; SecType = sys;
         Protocols = 4; Transports = TCP; FSAL { Name = VFS; } }
"""


@contextlib.contextmanager
def ganesha():
    """nfs-ganesha with a disk of its own, at 10.0.5.1 in a network of its own that the client sees, and at 10.0.10.1 on a link that
    the TLS end alone sees."""
    tls.set_up()
    disk = "/run/ganesha-disk"
    os.makedirs(disk, exist_ok=True)
    os.makedirs("/run/ganesha", exist_ok=True)
    os.makedirs("/var/lib/nfs/ganesha", exist_ok=True)
    sh(f"modprobe -a loop ext4; truncate -s 64M {disk}.img; mkfs.ext4 -q {disk}.img; mount -o loop {disk}.img {disk}; chmod 1777 {disk};"
       "ip netns add gan; ip link add gc type veth peer name gs netns gan; ip addr add 10.0.5.2/24 dev gc; ip link set gc up;"
       "ip link add ge netns efs type veth peer name eg netns gan; ip -n gan addr add 10.0.5.1/24 dev gs; ip -n gan addr add 10.0.10.1/24 dev eg;"
       "ip -n efs addr add 10.0.10.2/24 dev ge; ip -n efs link set ge up; ip -n gan link set gs up; ip -n gan link set eg up; ip -n gan link set lo up")
    write("/run/ganesha.conf", GANESHA)
    server = subprocess.Popen(["nsenter", "--net=/run/netns/gan", "--", "ganesha.nfsd", "-F", "-L", "/run/ganesha.log", "-f", "/run/ganesha.conf",
                               "-N", "EVENT", "-p", "/run/ganesha.pid"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until(lambda: ":0801 " in sh("nsenter --net=/run/netns/gan -- sh -c 'grep \" 0A \" /proc/net/tcp /proc/net/tcp6; true'"),
              "nfs-ganesha does not come up", 60)
        yield
    except BaseException:
        print("--- ganesha\n" + sh("tail -n 30 /run/ganesha.log; true"))
        raise
    finally:
        server.kill()
        server.wait()
        sh(f"umount {disk}; ip link del gc; ip netns del gan; rm {disk}.img", check_=False)


@scenario("identity: with nfs-ganesha as the server: first mount, second run, check, status, unmount, and plain beside encrypted")
def _():
    expire()
    with ganesha():
        dns([("10.0.5.1", OTHER), (EFS, NAME)])
        config(endpoint=OTHER, root_mode='"1777"')
        expect(agent(), 0, rf"mounted {OTHER}:/ on {POINT} from 10\.0\.5\.1, NFS 4\.1, attempt 1")
        check(as_user(f"echo x > {POINT}/x && cat {POINT}/x") == (0, "x\n"), "the user cannot write and read")
        expect(agent(), 0, "already mounted")
        out = agent("check").out  # nothing is registered
        check(re.search(r"(?m)^ok +trial mount", out) and re.search(rf"(?m)^ok +client .*{ours()}", out), out)
        expect(agent("status"), 0, rf"{OTHER}:/ on {POINT}: mounted from 10\.0\.5\.1 for ")
        expect(agent("unmount"), 0, rf"unmounted {OTHER}:/ on {POINT}; all that was written is on the server")
        expect_clean()
        with Stunnel(to="10.0.10.1:2049"), tls.share(head=PATIENT):
            dns([("10.0.5.1", OTHER), (EFS, NAME)])
            encrypted = open(CONFIG).read()
            plain = f'[[share]]\nendpoint = "{OTHER}"\nmount_point = "/mnt/plain"\n'
            for text in (encrypted + plain, encrypted.replace("[[share]]", plain + "[[share]]", 1)):
                write(CONFIG, text)
                expect(agent(), 0, r"2 of 2 shares mounted \(exit 0\)\n$")
                is_ = connected("/mnt/plain"), connected(POINT)
                check(is_ == ("0a000501:2049", f"7f000001:{tls.port()}"), is_)
                check(as_user(f"echo y > {POINT}/y && cat /mnt/plain/y") == (0, "y\n"), "they are not one server")
                sh(f"umount /mnt/plain {POINT}")
            write(CONFIG, encrypted)
