"""How the rows of the fault matrix, faults.toml, are carried out: the words in which a row says what
breaks, and the outcome that each row's run is held against."""
import contextlib, ctypes, ipaddress, json, os, re, subprocess, time, tomllib
from rig import *
from scenarios_state import Automount

OTHER_NET = "10.9.0.1"
V6_SERVER, V6_CLIENT = "fd00:1::1", "fd00:1::2"


# ---- ways to break things: each is, or makes, a function of an ExitStack that registers its own end ----

def route(kind, to=SECOND):
    def given(stack):
        sh(f"ip route add {kind} {to}/32")
        stack.callback(sh, f"ip route del {kind} {to}/32 2>/dev/null; true")
    return given


def give_address():
    sh(f"ip addr replace {CLIENT}/24 dev vc")


def no_address(stack):
    sh(f"ip addr del {CLIENT}/24 dev vc")
    stack.callback(give_address)


def link_down(stack):
    sh("ip link set vc down")
    stack.callback(sh, "ip link set vc up")


def link_flaps(stack):
    def flap():
        sh("ip link set vc down")
        time.sleep(0.5)
        sh("ip link set vc up")
    stack.callback(after(0.6, flap).join)


def other_net(stack):
    """A server whose network is reached by a route that is not there yet."""
    srv(f"ip addr add {OTHER_NET}/32 dev lo")
    stack.callback(srv, f"ip addr del {OTHER_NET}/32 dev lo")
    stack.callback(sh, f"ip route del {OTHER_NET}/32 2>/dev/null; true")


def management_route(stack):
    """As on an instance whose own interface is not there yet: the way to the server starts from an
    address that the server cannot answer to."""
    other_net(stack)
    sh(f"ip addr add 198.19.5.5/16 dev vc; ip route add {OTHER_NET}/32 via {SERVER} src 198.19.5.5")
    stack.callback(sh, "ip addr del 198.19.5.5/16 dev vc")


def ipv6(stack):
    sh(f"ip -6 addr add {V6_CLIENT}/64 dev vc nodad")
    srv(f"ip -6 addr add {V6_SERVER}/64 dev vs nodad")
    stack.callback(srv, f"ip -6 addr del {V6_SERVER}/64 dev vs")
    stack.callback(sh, f"ip -6 addr del {V6_CLIENT}/64 dev vc")


def resolv_conf(text):
    def given(_):
        os.unlink("/etc/resolv.conf") if text is None else write("/etc/resolv.conf", text + "\n")
    return given


def hosts(line):
    return lambda _: write("/etc/hosts", line + "\n")


def name_server(names):
    """What the real name server, dnsmasq, knows; None: there is none."""
    return lambda _: dns(names)


def wildcard(domain, address):
    """The real name server knows every name below the domain, and no other."""
    def given(stack):
        dns([], (address, domain))
        stack.callback(dns, None)
    return given


def fake_dns(mode):
    """A fake name server that misbehaves as told (the real one cannot)."""
    def given(stack):
        dns(None)
        stack.enter_context(FakeDns(mode, SERVER, NAME))
    return given


def at_server(rule):
    def given(stack):
        srv_nft(rule)
        stack.callback(nft_flush)
    return given


def netem(how):
    def given(stack):
        srv(f"tc qdisc add dev vs root netem {how}")
        stack.callback(srv, "tc qdisc del dev vs root")
    return given


def listener(kind):
    return lambda stack: stack.enter_context(kind(SERVER, 2050))


def knows_server():
    """Does the kernel's NFS client have a client of the server?"""
    lines = sh("cat /proc/fs/nfsfs/servers 2>/dev/null; true").splitlines()
    return any(line.split()[1] == ipaddress.ip_address(SERVER).packed.hex() for line in lines if line.startswith("v4"))


def exported(old, new):
    """The server exports in another way. What came before must have hung up: a mount joins the connection of a client that
    its state manager still holds, with the port that it has."""
    def given(stack):
        until(lambda: not knows_server(), "the kernel still has a client of the server")
        exports(EXPORTS.replace(old, new))
        stack.callback(exports, EXPORTS)
    return given


def nfsd_off(stack):
    nfsd(False)
    stack.callback(nfsd, True)


def nfsd_with(versions):
    def given(stack):
        nfsd(False)
        srv(f"rpc.nfsd -N 3 {versions} -G 10 -L 10 4")
        stack.callback(lambda: (nfsd(False), srv("rpc.nfsd -N 3 -V 4.1 -V 4.2 -G 10 -L 10 4")))
    return given


def restarting(stack):
    """The server is restarted while the mount is under way: down for 0.3 s, three times."""
    def flap():
        for _ in range(3):
            nfsd(False)
            time.sleep(0.3)
            nfsd(True)
            time.sleep(0.2)
    stack.callback(after(0, flap).join)


def restarted(_):
    nfsd(False)
    nfsd(True)


def unload():
    """Takes the NFS client's module out, once the clients of earlier scenarios have let go of it."""
    def is_out():
        sh("rmmod nfsv4 2>/dev/null", check_=False)
        return not re.search("(?m)^nfsv4 ", open("/proc/modules").read())
    until(is_out, "the module stays in use", 150)


def modprobe_is(program):
    def given(stack):
        unload()
        before = open("/proc/sys/kernel/modprobe").read()
        write("/rig/slow-modprobe", "#!/bin/sh\nsleep 2\nexec /sbin/modprobe \"$@\"\n")
        os.chmod("/rig/slow-modprobe", 0o755)
        write("/proc/sys/kernel/modprobe", program)
        stack.callback(sh, "modprobe nfsv4")
        stack.callback(write, "/proc/sys/kernel/modprobe", before)
    return given


def file(path):
    def given(_):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        write(path, "")
    return given


def symlink(path):
    def given(_):
        os.makedirs("/mnt/real")
        os.symlink("/mnt/real", path)
    return given


def open_folder(path):
    def given(_):
        os.mkdir(path)
        os.chmod(path, 0o777)
    return given


def read_only_fs(stack):
    os.makedirs("/mnt/ro")
    sh("mount -t tmpfs -o ro none /mnt/ro")
    stack.callback(sh, "umount /mnt/ro && rmdir /mnt/ro")


def mounted_before(how):
    def given(_):
        os.mkdir(POINT)
        # mount.nfs asks the C library for the name.
        write("/etc/hosts", f"127.0.0.1 localhost\n{SERVER} {NAME}\n")
        sh(f"mount {how} {POINT}")
        write("/etc/hosts", "127.0.0.1 localhost\n")
    return given


def automount(stack):
    stack.enter_context(Automount(POINT))


def served(command):
    """Something is done in what the server exports."""
    def given(_):
        sh(f"cd /export && {command}")
    return given


def many_mounts(stack):
    os.makedirs("/mnt/many")
    sh("mount -t tmpfs -o mode=0755 many /mnt/many")
    os.mkdir("/mnt/many/x")
    libc = ctypes.CDLL(None, use_errno=True)
    for number in range(5000):
        os.mkdir(f"/mnt/many/{number}")
        if libc.mount(b"/mnt/many/x", f"/mnt/many/{number}".encode(), None, 4096, None):  # MS_BIND
            raise OSError(ctypes.get_errno(), "mount")
    stack.callback(libc.umount2, b"/mnt/many", 2)  # MNT_DETACH takes all of them


def mount_max(stack):
    """The machine has as many mounts as fs.mount-max allows."""
    before = open("/proc/sys/fs/mount-max").read()
    stack.callback(write, "/proc/sys/fs/mount-max", before)
    write("/proc/sys/fs/mount-max", "1\n")


def module_forbidden(stack):
    """As the hardening guides have it."""
    unload()
    os.makedirs("/etc/modprobe.d", exist_ok=True)
    write("/etc/modprobe.d/rig-cis.conf", "# no network file systems\ninstall nfsv4 /bin/false\n")
    stack.callback(sh, "modprobe nfsv4")
    stack.callback(os.unlink, "/etc/modprobe.d/rig-cis.conf")


def bridge_over(stack):
    """As docker0, if it is given a network of the VPC."""
    other_net(stack)
    sh("ip link add br-rig type bridge; ip addr add 10.9.0.254/24 dev br-rig; ip link set br-rig up")
    stack.callback(sh, "ip link del br-rig")


def config_of_group(stack):
    os.chown(CONFIG, 0, 1001)
    os.chmod(CONFIG, 0o664)
    stack.callback(os.chown, CONFIG, 0, 0)
    stack.callback(os.chmod, CONFIG, 0o644)


def no_config(_):
    os.unlink(CONFIG)


def background(stack, program):
    process = subprocess.Popen(["python3", "-c", program], user=1001, group=1001, extra_groups=[], cwd="/",
                               stdout=subprocess.PIPE)
    process.stdout.readline()  # it has begun
    stack.callback(process.wait)
    stack.callback(process.kill)


def locks(stack):
    """A local user holds a lock on each file and folder of ours that he can open."""
    os.mkdir(POINT)
    os.chmod(POINT, 0o1777)
    background(stack, f"""
import fcntl, os, time
for path in ("{CONFIG}", "/etc/efs-agent", "{AGENT}", "{POINT}", "/mnt", "/run", "/etc/resolv.conf"):
    fcntl.flock(os.open(path, os.O_RDONLY), fcntl.LOCK_EX)
print(flush=True)
time.sleep(1000)
""")


def syslog_flood(stack):
    """A local user sends forged lines to the system log, as fast as he can."""
    stack.enter_context(Syslog())
    os.chmod("/run/systemd/journal/dev-log", 0o666)
    background(stack, """
import socket
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.connect("/dev/log")
s.setblocking(False)
print(flush=True)
while True:
    try: s.send(b"<30>efs-agent[1]: mounted nothing (exit 0)")
    except BlockingIOError: pass
""")


# ---- how a row is carried out ----

def pattern(template):
    """A template's regular expression: "…" stands for anything."""
    return ".*?".join(re.escape(part) for part in template.split("…"))


def toml(value):
    return json.dumps(value, ensure_ascii=False)  # strings, numbers, lists: the same in TOML


def carry_out(row):
    share = {"mount_point": POINT, **row.get("share", {})}
    point, deadline, code = share["mount_point"], row.get("deadline", 6), row["exit"]
    head = f'deadline = "{deadline}s"'
    if "attempt_timeout" in row:
        head += f'\nattempt_timeout = "{row["attempt_timeout"]}"'
    with contextlib.ExitStack() as stack:
        stack.callback(lambda: take_away(point) if mounted(point) else None)
        config(share.pop("endpoint", NAME), head, **{key: toml(value) for key, value in share.items()})
        given = row.get("given", [])
        for expression in [given] if isinstance(given, str) else given:
            eval(expression)(stack)
        demanded = {key: row[key] for key in ("exit", "cause", "says", "left") if key in row}
        told = dict(row=row["name"], group=row["group"], demanded=demanded, clean=False)
        stack.callback(lambda: print("@@row " + json.dumps(told, ensure_ascii=False)))
        def ours_elsewhere():
            return {path for folder in ("/run", "/tmp", "/etc/efs-agent") for path in os.listdir(folder)} - {"efs-agent"}  # the status file
        # Below a mount whose server is dead, whoever looks hangs.
        looks = not any(point.startswith(mount["point"] + "/") for mount in mounts() if mount["type"] == "nfs4")
        there, files = looks and os.path.lexists(point), ours_elsewhere()
        process = start(wrap=row.get("wrap", "").split())
        came = after(row["cured"]["after"], lambda: eval(row["cured"]["by"])) if "cured" in row else None
        result = end(process)
        last = re.sub(r"^\S+ \S+ +", "", result.last)
        shape = (r"(?:cannot mount \S+ on \S+: )?(.*?)(?:; after (?:1 attempt|\d+ attempts) in [0-9.]+ s)?(?:; to mend it: (.*))?"
                 rf" \(exit {result.code}\)")
        found = re.fullmatch(shape, last)
        check(found, f"the last line: {last}")
        cause, cure = found.groups()
        told.update(given=dict(exit=result.code, cause=cause, cure=cure), seconds=round(result.seconds, 3))
        if came:
            came.join()
            lag = process.began + result.seconds - came.at
            print(f"figure: recovered in {lag:.2f} s")
            told["recovered_in"] = round(lag, 3)
            check(in_time(lag, 2), f"recovered only {lag:.2f} s after the fault was gone")
        expect(result, code, *map(pattern, row.get("says", [])), within=row.get("within", deadline) + 1)
        if "cause" in row:
            check(re.fullmatch(pattern(row["cause"]), cause), f"the cause: {cause}\ninstead of: {row['cause']}")
        if "cure" in row:
            check(re.fullmatch(pattern(row["cure"]), cure or ""), f"the cure: {cure}\ninstead of: {row['cure']}")
        check(code == 0 or "cause" in row, "a row that fails must demand its cause")
        if code in (69, 75):
            check(cure, "there is no cure")
        if code == 75:
            late = result.seconds - deadline
            print(f"figure: {late:.3f} s past the deadline")
            told["past_deadline"] = round(late, 3)
            check(late >= -0.1, "gave up before the deadline")
        sources = [mount["source"] for mount in mounted(point)]
        ours = [f"{row.get('share', {}).get('endpoint', NAME)}:{row.get('share', {}).get('path', '/')}"]
        check(sources == row.get("left", ours if code == 0 else []), f"mounted at {point}: {sources}")
        check(code == 0 or not looks or os.path.lexists(point) == there, f"{point} was {'taken away' if there else 'left behind'}")
        check(ours_elsewhere() == files, f"files were left behind: {ours_elsewhere() ^ files}")
        check(not agents(), f"processes were left behind: {agents()}")
        told["clean"] = True


ROWS = tomllib.load(open("/rig/faults.toml", "rb"))["row"]
for one in ROWS:
    scenario(f"fault: {one['name']}")(lambda one=one: carry_out(one))

# These take the NFS client's module out. A server of an earlier scenario that has gone keeps it in use for minutes, so they
# come before all others.
FIRST = [f"fault: {one['name']}" for one in ROWS if re.search("modprobe_is|module_forbidden", str(one.get("given")))]
