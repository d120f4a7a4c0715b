"""What the scenarios stand on: the agent under test, a real kernel NFS server in a network namespace of
its own ("srv", 10.0.0.1 and 10.0.0.3) behind a veth pair, real dnsmasq as its name server, and the
client side (10.0.0.2), which each scenario finds clean. Asserts about outcomes belong to the scenarios."""
import contextlib, ctypes, dataclasses, glob, json, os, re, shutil, signal, socket, subprocess, threading, time

AGENT = "/usr/sbin/efs-agent"
CONFIG = "/etc/efs-agent/config.toml"
POINT = "/mnt/efs_share"
NAME = "fs-0123456789abcdef0.efs.eu-west-1.amazonaws.com"
SERVER, SECOND, CLIENT, DEAD = "10.0.0.1", "10.0.0.3", "10.0.0.2", "10.0.0.99"
USER = "as2-streaming-user"
EXPORTS = "/export *(rw,sync,fsid=0,no_root_squash,insecure,no_subtree_check,crossmnt)\n"
DNS_HOSTS = "/run/dns.hosts"

SCENARIOS = []
# Processes of the agent that may run when a scenario ends.
MAY_STAY = []
# How many tenths of the random kills are carried out.
KILLS = int(open("/rig/kills").read()) if os.path.exists("/rig/kills") else 1
# Seconds that a program which does nothing takes, from its start to its end, in a machine with a processor to itself:
# user-mode Linux, or an emulated one.
ONE_PROGRAM = 0.01 if "User Mode" in open("/proc/cpuinfo").read() else 0.04
# How many seconds a soak takes.
SOAK = int(open("/rig/soak").read()) if os.path.exists("/rig/soak") else 5


def scenario(name):
    """Marks a function as a test; its name is what the test report shows."""
    def mark(function):
        SCENARIOS.append((name, function))
        return function
    return mark


class Failed(AssertionError):
    pass


def check(condition, text):
    if not condition:
        raise Failed(text)


def in_time(took, limit):
    """Whether what took so many seconds has kept the limit, which is of a machine with a processor to itself: beside other
    work it is as much longer as the machine is slower."""
    return took <= limit or took <= limit * slower()


def slower():
    """How many times slower the machine is now than one with a processor to itself; 1 if it is not."""
    began, programs = time.monotonic(), 10
    for _ in range(programs):
        subprocess.run(["/bin/true"], check=True)
    return min(4, max(1, (time.monotonic() - began) / programs / ONE_PROGRAM))


def sh(command, check_=True):
    """Runs a shell command; its output."""
    done = subprocess.run(command, shell=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if check_ and done.returncode:
        raise RuntimeError(f"{command}: exit {done.returncode}: {done.stdout}")
    return done.stdout


def srv(command, check_=True):
    """A command in the server's network (the mount namespace is shared)."""
    return sh(f"nsenter --net=/run/netns/srv -- {command}", check_)


# ---- the machine, set up once a boot ----

def set_up():
    os.chmod("/rig", 0o755)  # the streaming user runs its side of a session from there
    # As on a machine with systemd whose journal runs; here none does, and what is logged can be read by a scenario.
    os.makedirs(os.path.dirname(Syslog.path), exist_ok=True)
    with contextlib.suppress(FileExistsError):
        os.symlink(Syslog.path, "/dev/log")
    sh("modprobe -a nfsv4 nfsd veth sch_netem nf_conntrack")
    sh("modprobe ipv6", check_=False)  # of user-mode Linux
    sh("sysctl -qw kernel.hung_task_timeout_secs=0", check_=False)
    sh("ip netns add srv; ip link add vc type veth peer name vs; ip link set vs netns srv;"
       f"ip addr add {CLIENT}/24 dev vc; ip link set vc up")
    srv(f"sh -c 'ip addr add {SERVER}/24 dev vs; ip addr add {SECOND}/24 dev vs; ip link set vs up; ip link set lo up'")
    srv("sysctl -qw net.netfilter.nf_conntrack_acct=1")
    os.makedirs("/export", exist_ok=True)
    sh("mount -t tmpfs -o mode=0755 tmpfs /export")
    for folder in ("/proc/fs/nfsd", "/var/lib/nfs/v4recovery", "/etc/efs-agent", "/opt/appstream/SessionScripts"):
        os.makedirs(folder, exist_ok=True)
    if not os.path.lexists("/etc/mtab"):
        os.symlink("/proc/self/mounts", "/etc/mtab")  # without it rpc.mountd dies of SIGSEGV
    srv("mount -t nfsd nfsd /proc/fs/nfsd")
    # As EFS has it; a small machine would otherwise offer 128 KiB.
    write("/proc/fs/nfsd/max_block_size", "1048576")
    exports(EXPORTS)
    srv("rpc.nfsd -N 3 -G 10 -L 10 4")
    srv("rpc.mountd -N 2 -N 3")
    shutil.copy("/rig/efs-agent", AGENT)
    os.chmod(AGENT, 0o755)
    clean()


def exports(text):
    write("/etc/exports", text)
    srv("exportfs -ra")


def nfsd(on):
    srv("rpc.nfsd -N 3 -G 10 -L 10 4" if on else "rpc.nfsd 0")


_dns = None


def dns(hosts, wildcard=None):
    """The name server at SERVER answers for these names (address, name pairs), and with one address for all names of a
    domain (address, domain); None: there is no name server."""
    global _dns
    if hosts is None or wildcard:
        if _dns:
            _dns.kill()
            _dns.wait()
        _dns = None
    if hosts is None:
        return
    write(DNS_HOSTS, "".join(f"{address} {name}\n" for address, name in hosts))
    if _dns:
        _dns.send_signal(signal.SIGHUP)  # reads the hosts again, drops its cache
        time.sleep(0.1)
        return
    _dns = subprocess.Popen(
        ["nsenter", "--net=/run/netns/srv", "--", "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null",
         "--no-resolv", "--no-hosts", f"--addn-hosts={DNS_HOSTS}", "--local=/#/", "--user=root", "--pid-file",
         f"--listen-address={SERVER}", "--bind-interfaces", "--no-daemon"]
        + ([f"--address=/{wildcard[1]}/{wildcard[0]}"] if wildcard else []),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(200):
        # Of its network, once nsenter has become dnsmasq.
        if " 0100000A:0035 " in open(f"/proc/{_dns.pid}/net/udp").read():
            return
        time.sleep(0.05)
    raise RuntimeError("dnsmasq does not come up")


def clean():
    """The state that each scenario starts from; raises if an earlier one left a process behind."""
    left = [pid for pid in agents()]
    # A tunnel that an earlier scenario has left would be started again, and be held to have its listeners.
    if drop_ins := glob.glob("/run/systemd/system/efs-agent-tunnel@*.d"):
        sh("systemctl stop 'efs-agent-tunnel@*'", check_=False)
        for folder in drop_ins:
            shutil.rmtree(folder)
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    # A program that is started costs an emulated processor tens of milliseconds, and this is done before each scenario.
    if _filtered:
        nft_flush()
    is_up = int(open("/sys/class/net/vc/flags").read(), 16) & 1
    if not is_up or any(line.split()[7] == "FFFFFFFF" for line in open("/proc/net/route")):
        sh(f"ip link set vc up; ip route flush {SERVER}/32; ip route flush {SECOND}/32; true", check_=False)
    if int(open("/proc/fs/nfsd/threads").read()) == 0:
        nfsd(True)
    if open("/etc/exports").read() != EXPORTS:
        exports(EXPORTS)
    # Wherever a scenario has left one: it would keep the NFS client's module from being unloaded, for one.
    for entry in reversed(mounts()):
        if entry["point"].startswith("/mnt") or entry["type"] == "nfs4":
            take_away(entry["point"])
    for path in glob.glob("/mnt/*"):
        os.unlink(path) if os.path.islink(path) or not os.path.isdir(path) else shutil.rmtree(path)
    for path in glob.glob("/export/*"):
        os.unlink(path) if os.path.islink(path) or not os.path.isdir(path) else shutil.rmtree(path)
    os.chmod("/export", 0o755)
    os.chown("/export", 0, 0)
    os.makedirs("/export/home")
    os.chmod("/export/home", 0o1777)
    write("/etc/resolv.conf", f"nameserver {SERVER}\n")
    write("/etc/hosts", "127.0.0.1 localhost\n")
    dns([(SERVER, NAME)])
    with contextlib.suppress(FileNotFoundError):
        os.unlink("/usr/sbin/efs-agent.toml")
    for folder in ("/run/efs-agent", "/opt/appstream/SessionScripts"):
        shutil.rmtree(folder, ignore_errors=True)
    os.makedirs("/opt/appstream/SessionScripts")
    config()
    if left:
        raise Failed(f"processes of an earlier scenario still ran: {left}")


_filtered = False


def srv_nft(rule):
    """Adds a rule to what comes in at the server: what a security group or a dead path does."""
    global _filtered
    _filtered = True
    srv("sh -c 'nft add table inet t; nft add chain inet t in \"{ type filter hook input priority 0; }\"; "
        f"nft add rule inet t in \"{rule}\"'")


def nft_flush():
    global _filtered
    _filtered = False
    srv("nft delete table inet t", check_=False)


# ---- the agent under test ----

@dataclasses.dataclass
class Result:
    code: int
    out: str
    seconds: float

    @property
    def last(self):
        return self.out.rstrip("\n").rsplit("\n", 1)[-1]


def config(endpoint=NAME, head="", file=CONFIG, **keys):
    """Writes a config with one share; a key's value is TOML."""
    lines = [head, "[[share]]", f'endpoint = "{endpoint}"'] + [f"{key} = {value}" for key, value in keys.items()]
    write(file, "\n".join(lines) + "\n")


def start(*arguments, wrap=()):
    """Starts the agent; [`end`] waits for it."""
    process = subprocess.Popen([*wrap, AGENT, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True, cwd="/", env={"PATH": "/usr/sbin:/usr/bin"})
    process.began = time.monotonic()
    return process


def end(process, limit=60):
    out, err = process.communicate(timeout=limit)
    seconds = time.monotonic() - process.began
    print(f"--- {' '.join(process.args)}: exit {process.returncode} after {seconds:.2f} s\n{out}", end="")
    check(err == "", f"nothing may go to standard error, which AppStream drops: {err!r}")
    return Result(process.returncode, out, seconds)


def agent(*arguments, **keys):
    return end(start(*arguments, **keys))


def agents():
    """Processes of the agent, zombies too."""
    found = []
    for status in glob.glob("/proc/[0-9]*/status"):
        with contextlib.suppress(OSError):
            if open(status).readline().split()[1] == "efs-agent":
                found.append(int(status.split("/")[2]))
    return found


# ---- what can be seen ----

def wire():
    """Packets and bytes that have gone over the link to the server so far, both ways."""
    folder = "/sys/class/net/vc/statistics"
    return [sum(int(open(f"{folder}/{way}_{what}").read()) for way in ("rx", "tx")) for what in ("packets", "bytes")]


def calls(command):
    """How many system calls a command makes, with its children, and how many processes it is."""
    sh(f"strace -f -o /tmp/trace {command}")
    lines = [line for line in open("/tmp/trace") if " resumed>" not in line and "+++" not in line and "---" not in line]
    return len(lines), len({line.split()[0] for line in lines})


def mounts():
    entries = []
    for line in open("/proc/self/mountinfo"):
        fields = line.split()
        dash = fields.index("-")
        entries.append(dict(point=fields[4], flags=fields[5].split(","), type=fields[dash + 1],
                            source=fields[dash + 2], options=fields[dash + 3].split(","), device=fields[2]))
    return entries


def take_away(point):
    """Unmounts by force; what still waits for a dead server after 3 s is detached."""
    libc, point = ctypes.CDLL(None), re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), point).encode()
    if not (child := os.fork()):
        os._exit(libc.umount2(point, 1) and 1)  # MNT_FORCE
    end = time.monotonic() + 3
    while (done := os.waitpid(child, os.WNOHANG)) == (0, 0) and time.monotonic() < end:
        time.sleep(0.01)
    if done[0] == 0:
        os.kill(child, signal.SIGKILL)
    if done != (child, 0):
        libc.umount2(point, 2)  # MNT_DETACH


def mounted(point=POINT):
    return [entry for entry in mounts() if entry["point"] == point]


def bare_mount(source, point, options, host=None):
    """mount(2) by somebody else, under another host name perhaps."""
    libc = ctypes.CDLL(None, use_errno=True)
    os.makedirs(point, exist_ok=True)
    if not (child := os.fork()):
        if host:
            libc.unshare(0x04000000)  # CLONE_NEWUTS
            libc.sethostname(host.encode(), len(host))
        os._exit(libc.mount(source.encode(), point.encode(), b"nfs4", 6, f"nfsvers=4.1,{options}".encode()) and 1)
    check(os.waitpid(child, 0)[1] == 0, f"{source} cannot be mounted")


def expect(result, code, *words, within=None, at_least=None):
    check(result.code == code, f"exit code {result.code} instead of {code}")
    for word in words:
        check(re.search(word, result.out), f"not in the output: {word}")
    if within is not None:
        check(in_time(result.seconds, within), f"took {result.seconds:.2f} s instead of at most {within}")
    if at_least is not None:
        check(result.seconds >= at_least, f"took {result.seconds:.2f} s instead of at least {at_least}")


def expect_mounted(point=POINT, source=f"{NAME}:/", address=SERVER):
    found = mounted(point)
    check(len(found) == 1, f"{len(found)} mounts at {point} instead of one: {found}")
    check(found[0]["type"] == "nfs4" and found[0]["source"] == source, f"mounted is {found[0]}")
    for word in (f"addr={address}", "vers=4.1"):
        check(word in found[0]["options"], f"{word} is not in {found[0]['options']}")
    return found[0]


def expect_clean(point=POINT):
    """A machine as before: no mount, no folder, no process."""
    check(not mounted(point), f"mounted: {mounted(point)}")
    check(not os.path.lexists(point), f"{point} was left behind")
    check(not agents(), f"processes were left behind: {agents()}")


def as_user(command):
    """A command as the streaming user; its output."""
    done = subprocess.run(["sh", "-c", command], user=1001, group=1001, extra_groups=[], text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd="/")
    return done.returncode, done.stdout


def background_user(command):
    """The same, left running."""
    return subprocess.Popen(["sh", "-c", command], user=1001, group=1001, extra_groups=[], cwd="/")


def until(condition, text, seconds=60):
    """Waits for a condition; fails with the text if it does not come true in time."""
    began = time.monotonic()
    while not condition():
        check(in_time(time.monotonic() - began, seconds), text)
        time.sleep(0.2)


def write(path, text):
    with open(path, "w") as file:
        file.write(text)


def after(seconds, action):
    """Does something later, while the agent runs; when it was done, on the monotonic clock, is in `.at`."""
    def later():
        time.sleep(seconds)
        action()
        thread.at = time.monotonic()
    thread = threading.Thread(target=later)
    thread.start()
    return thread


# ---- AppStream's side ----

SESSION = {"SessionStart": {"Executables": [
    {"Context": "system", "Filename": AGENT, "Arguments": "", "S3LogEnabled": True},
    {"Context": "user", "Filename": "/run/user-session", "Arguments": "", "S3LogEnabled": True}], "WaitingTime": 30},
    "SessionTermination": {"Executables": [], "WaitingTime": 30}}


def session(config_json=SESSION, user_script="df -h /mnt/efs_share", quiet=False):
    """A session start as AppStream makes it: events, the system log and the user's log."""
    write("/opt/appstream/SessionScripts/config.json", json.dumps(config_json))
    write("/run/user-session", f"#!/bin/sh\nexec 2>&1\n{user_script}\n")
    os.chmod("/run/user-session", 0o755)
    shutil.rmtree("/var/log/appstream", ignore_errors=True)
    out = sh("python3 /rig/appstream.py start")
    events = [json.loads(line) for line in out.splitlines()]

    def log(context):
        with contextlib.suppress(FileNotFoundError):
            return open(f"/var/log/appstream/SessionScripts/start_{context}.log").read()
        return ""
    if not quiet:
        print(f"--- session start\n{out}--- system log\n{log('system')}--- user log\n{log('user')}", end="")
    return events, log("system"), log("user")


def appstream(phase):
    """A session start or end by whatever config.json says; the system log."""
    shutil.rmtree("/var/log/appstream", ignore_errors=True)
    out = sh(f"python3 /rig/appstream.py {phase}")
    log = open(f"/var/log/appstream/SessionScripts/{phase}_system.log").read()
    print(f"--- session {phase}\n{out}--- system log\n{log}", end="")
    check(not [line for line in out.splitlines() if json.loads(line)["event"] == "error"], "AppStream sees an error")
    return log


class Server:
    """A further NFS server of its own name, as another file system of EFS would be: number N at 10.0.1.N,
    in network, mount and host name spaces of its own, all of them on one bridge."""

    def __init__(self, number):
        self.number, self.address, self.net = number, f"10.0.1.{number}", f"srv{number}"
        if not os.path.exists("/sys/class/net/br1"):
            sh("ip link add br1 type bridge; ip addr add 10.0.1.254/24 dev br1; ip link set br1 up")
        n = number
        sh(f"ip netns add {self.net}; ip link add v{n} type veth peer name p{n}; ip link set p{n} netns {self.net};"
           f"ip link set v{n} master br1 up")
        self.run(f"ip addr add {self.address}/24 dev p{n}; ip link set p{n} up; ip link set lo up")
        self.holder = subprocess.Popen(
            ["nsenter", f"--net=/run/netns/{self.net}", "--", "unshare", "--mount", "--uts", "--", "sh", "-c",
             f"hostname nfs{n}; umount /proc/fs/nfsd; mount -t nfsd nfsd /proc/fs/nfsd && exportfs -ra && "
             "rpc.nfsd -N 3 -G 10 -L 10 1 && rpc.mountd -F -N 2 -N 3 & echo; wait"], stdout=subprocess.PIPE)
        for _ in range(200):
            if "0801" in self.run("cat /proc/net/tcp"):  # it listens on port 2049
                return
            time.sleep(0.05)
        raise RuntimeError(f"server {n} does not come up")

    def run(self, command):
        return sh(f"nsenter --net=/run/netns/{self.net} -- sh -c '{command}'")

    def end(self):
        sh(f"pkill -P {self.holder.pid}; true")
        self.run("ip link set lo down; true")
        sh(f"echo 0 > /dev/null; ip link del v{self.number}; ip netns del {self.net}; true")
        self.holder.kill()
        self.holder.wait()


class Listener:
    """A TCP port in the server's network that takes connections and never says a word."""
    script = ("import socket, sys, time; s = socket.create_server((sys.argv[1], int(sys.argv[2])), backlog=64); "
              "print(flush=True); time.sleep(1000)")

    def __init__(self, *arguments):
        self.process = subprocess.Popen(
            ["nsenter", "--net=/run/netns/srv", "--", "python3", "-c", self.script, *map(str, arguments)],
            stdout=subprocess.PIPE)
        self.process.stdout.readline()  # it listens

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


class Relay(Listener):
    """A TCP port in the server's network that passes everything on to another."""
    script = """
import socket, sys, threading
def copy(a, b):
    while data := a.recv(65536): b.sendall(data)
    b.shutdown(socket.SHUT_WR)
listener = socket.create_server((sys.argv[1], int(sys.argv[2])))
print(flush=True)
while True:
    client, _ = listener.accept()
    try: server = socket.create_connection((sys.argv[3], int(sys.argv[4])))
    except OSError: client.close(); continue
    for pair in ((client, server), (server, client)): threading.Thread(target=copy, args=pair, daemon=True).start()
"""


class Chatter(Listener):
    """A TCP port in the server's network that answers whatever comes with a line that is not NFS."""
    script = """
import socket, sys
listener = socket.create_server((sys.argv[1], int(sys.argv[2])), backlog=64)
print(flush=True)
while True:
    client, _ = listener.accept()
    try:
        client.recv(4096)
        client.sendall(b"HTTP/1.1 400 Bad Request\\r\\nConnection: close\\r\\n\\r\\n")
    except OSError: pass
    client.close()
"""


class Closer(Listener):
    """A TCP port in the server's network that closes each connection without a word."""
    script = """
import socket, sys
listener = socket.create_server((sys.argv[1], int(sys.argv[2])), backlog=64)
print(flush=True)
while True: listener.accept()[0].close()
"""


class FakeDns(Listener):
    """A fake name server that misbehaves as told: `FakeDns(mode, address of the good server, its name)`."""
    script = """
import os, socket, struct, sys, threading, time
mode, good, known = sys.argv[1:4]
DEAD, V6_DEAD = "10.0.0.99", "fd00:dead::1"
def wire(name): return b"".join(bytes([len(l)]) + l.encode() for l in name.split(".")) + b"\\0"
def record(owner, kind, data): return owner + struct.pack("!HHIH", kind, 1, 60, len(data)) + data
def a(address, owner=b"\\xc0\\x0c"): return record(owner, 1, socket.inet_aton(address))
def cname(owner, target): return record(owner, 5, wire(target))
def split(query):
    at = 12
    while query[at]: at += query[at] + 1
    return query[12:at + 1], struct.unpack("!H", query[at + 1:at + 3])[0], query[12:at + 5]
def reply(query, answers=(), rcode=0, flags=0x8180, ident=None):
    header = (ident or query[:2]) + struct.pack("!HHHHH", flags | rcode, 1, len(answers), 0, 0)
    return header + split(query)[2] + b"".join(answers)
seen = 0
def answers(query):
    global seen
    seen += 1
    name, kind, _ = split(query)
    yes = reply(query, [a(good)] if kind == 1 else [])
    owner = b"\\xc0\\x0c"
    if mode == "no-capitals": return [reply(query, rcode=3) if name != name.lower() else yes]
    if mode == "small-letters": return [yes[:12] + yes[12:].lower()]
    if mode == "slow": time.sleep(2); return [yes]
    if mode == "lost": return [yes] if seen > 1 else []
    if mode == "servfail": return [reply(query, rcode=2)]
    if mode == "refused": return [reply(query, rcode=5)]
    if mode == "refuse-aaaa": return [reply(query, rcode=5)] if kind == 28 else [yes]
    if mode.startswith("truncated"): return [reply(query, flags=0x8380)]
    if mode == "cname": return [reply(query, [cname(owner, "b.example"), cname(wire("b.example"), "c.example"), a(good, wire("c.example"))])]
    if mode == "cname-only": return [reply(query, [cname(owner, "b.example")])] if name.lower() != wire("b.example") else [yes]
    if mode == "cname-nowhere": return [reply(query, [cname(owner, known)], rcode=3)]
    if mode == "cname-loop": return [reply(query, [cname(owner, "b.example")])] if name.lower() != wire("b.example") else [reply(query, [cname(owner, known)])]
    if mode == "dead-first": return [reply(query, [a(DEAD), a(good)])]
    if mode == "dead-aaaa": return [reply(query, [record(owner, 28, socket.inet_pton(socket.AF_INET6, V6_DEAD))])] if kind == 28 else [yes]
    if mode == "zero": return [reply(query, [a("0.0.0.0")])]
    if mode == "loopback": return [reply(query, [a("127.0.0.1")])]
    if mode == "nodata": return [reply(query)]
    junk = [os.urandom(n) for n in (0, 1, 11, 12, 40, 500)] + [reply(query, [a(DEAD)], ident=b"\\0\\0"), query, yes[:-3]]
    return junk + ([yes] if mode == "garbage" else [])
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind((good, 53))
if mode == "truncated":
    tcp = socket.create_server((good, 53))
    def serve():
        while True:
            client, _ = tcp.accept()
            query = client.recv(4096)[2:]
            whole = reply(query, [a(good)])
            client.sendall(struct.pack("!H", len(whole)) + whole)
            client.close()
    threading.Thread(target=serve, daemon=True).start()
print(flush=True)
while True:
    query, peer = udp.recvfrom(4096)
    def send(query=query, peer=peer):
        for packet in answers(query): udp.sendto(packet, peer)
    threading.Thread(target=send, daemon=True).start()
"""


class Syslog:
    """A fake syslog daemon: what /dev/log leads to, as a datagram socket whose lines a test can read."""
    path = "/run/systemd/journal/dev-log"

    def __enter__(self):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        os.chmod(self.path, 0o666)  # a tunnel writes to it that has no rights
        self.socket.setblocking(False)
        return self

    def lines(self):
        found = []
        with contextlib.suppress(BlockingIOError):
            while True:
                found.append(self.socket.recv(8192).decode())
        return found

    def __exit__(self, *_):
        self.socket.close()
        os.unlink(self.path)
