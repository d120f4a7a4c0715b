"""The fault matrix: what is broken, and what the agent must make of it. A row names the fault, how it
comes about, and the outcome demanded: exit code, words, time and what is left. How a row is carried
out stands at the end; faults that need more than that are scenarios in scenarios_faults.py."""
import contextlib, ctypes, dataclasses, json, os, time
from rig import *

ROWS = []
V6_DEAD = "fd00:dead::1"
OTHER_NET = "10.9.0.1"


@dataclasses.dataclass
class Row:
    name: str
    given: object          # function of an ExitStack: brings the fault about, and registers its end
    code: int              # exit code demanded
    says: tuple            # regular expressions that the output must hold
    cured: tuple = None    # (seconds, function): the fault goes away while the agent waits
    deadline: int = 6      # seconds
    within: float = None   # seconds that the run may take, where that is less than the deadline
    keys: dict = None      # of the config


def row(name, given, code, *says, cured=None, deadline=6, within=None, **keys):
    ROWS.append(Row(name, given, code, says, cured, deadline, within, keys))


def no_fault(_):
    pass


# ---- ways to break things; each function makes one ----

def route(kind, to=SECOND):
    def given(stack):
        sh(f"ip route add {kind} {to}/32")
        stack.callback(sh, f"ip route del {kind} {to}/32 2>/dev/null; true")
    return given


def no_address(stack):
    sh(f"ip addr del {CLIENT}/24 dev vc")
    stack.callback(sh, f"ip addr replace {CLIENT}/24 dev vc")


def link_down(stack):
    sh("ip link set vc down")
    stack.callback(sh, "ip link set vc up")


def other_net(stack):
    """A server whose network is reached by a route that is not there yet."""
    srv(f"ip addr add {OTHER_NET}/32 dev lo")
    stack.callback(srv, f"ip addr del {OTHER_NET}/32 dev lo")
    stack.callback(sh, f"ip route del {OTHER_NET}/32 2>/dev/null; true")


def resolv_conf(text):
    def given(stack):
        os.unlink("/etc/resolv.conf") if text is None else write("/etc/resolv.conf", text)
    return given


def fake_dns(mode, address=SERVER, known=NAME):
    """A fake name server that misbehaves as told (dnsmasq, the real one, cannot)."""
    def given(stack):
        dns(None)
        stack.enter_context(FakeDns(mode, address, known))
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


def listener(kind, *arguments):
    def given(stack):
        stack.enter_context(kind(SERVER, 2050, *arguments))
    return given


def exported(old, new):
    def given(stack):
        exports(EXPORTS.replace(old, new))
        stack.callback(exports, EXPORTS)
    return given


def without_4_1(stack):
    nfsd(False)
    srv("rpc.nfsd -N 3 -N 4.1 -N 4.2 -G 10 -L 10 4")
    stack.callback(lambda: (nfsd(False), srv("rpc.nfsd -N 3 -V 4.1 -V 4.2 -G 10 -L 10 4")))


def restarting(stack):
    """The server is restarted while the mount is under way: down for 0.3 s, three times."""
    def flap():
        for _ in range(3):
            nfsd(False)
            time.sleep(0.3)
            nfsd(True)
            time.sleep(0.2)
    thread = after(0, flap)
    stack.callback(thread.join)


def restarted(stack):
    nfsd(False)
    nfsd(True)


def modprobe_is(program):
    def given(stack):
        sh("rmmod nfsv4", check_=False)
        before = open("/proc/sys/kernel/modprobe").read()
        write("/run/slow-modprobe", "#!/bin/sh\nsleep 2\nexec /sbin/modprobe \"$@\"\n")
        os.chmod("/run/slow-modprobe", 0o755)
        write("/proc/sys/kernel/modprobe", program)
        stack.callback(sh, "modprobe nfsv4")
        stack.callback(write, "/proc/sys/kernel/modprobe", before)
    return given


def read_only_fs(stack):
    os.makedirs("/mnt/ro")
    sh("mount -t tmpfs -o ro none /mnt/ro")
    stack.callback(sh, "umount /mnt/ro && rmdir /mnt/ro")


def many_mounts(stack):
    os.makedirs("/mnt/many")
    sh("mount -t tmpfs -o mode=0755 many /mnt/many")
    os.mkdir("/mnt/many/x")
    libc = ctypes.CDLL(None, use_errno=True)
    began = time.monotonic()
    for number in range(5000):
        os.mkdir(f"/mnt/many/{number}")
        if libc.mount(b"/mnt/many/x", f"/mnt/many/{number}".encode(), None, 4096, None):  # MS_BIND
            raise OSError(ctypes.get_errno(), "mount")
    print(f"made 5,000 mounts in {time.monotonic() - began:.1f} s")
    stack.callback(libc.umount2, b"/mnt/many", 2)  # MNT_DETACH takes all of them


# ---- interface ----
row("address arrives after 3 s", no_address, 0, "network is unreachable", cured=(3, lambda: sh(f"ip addr replace {CLIENT}/24 dev vc")), deadline=10)
row("route arrives after the address", other_net, 0, rf"TCP 2049 to {OTHER_NET} failed: there is no route to it \(ENETUNREACH\)",
    cured=(3, lambda: sh(f"ip route add {OTHER_NET}/32 via {SERVER}")), deadline=10, endpoint=OTHER_NET)
row("link flaps once", link_down, 0, "attempt 1: ", cured=(3, lambda: sh("ip link set vc up")), deadline=12)
row("blackhole route", route("blackhole"), 75, rf"TCP 2049 to {SECOND} failed: a blackhole route leads to it \(EINVAL\)", "route tables", endpoint=SECOND, deadline=3)
row("blackhole route that goes away", route("blackhole"), 0, "a blackhole route leads to it", cured=(2, lambda: sh(f"ip route del blackhole {SECOND}/32")), endpoint=SECOND)
row("unreachable route", route("unreachable"), 75, rf"TCP 2049 to {SECOND} failed: no way to it was found \(EHOSTUNREACH\)", "route tables", endpoint=SECOND, deadline=3)
row("prohibit route", route("prohibit"), 75, rf"TCP 2049 to {SECOND} failed: a route or firewall rule forbids it \(EACCES\)", "route tables", endpoint=SECOND, deadline=3)
row("no ARP answer", no_fault, 75, rf"TCP 2049 to {DEAD} (failed: no way to it was found \(EHOSTUNREACH\)|timed out)", endpoint=DEAD)
# ---- names ----
row("no resolv.conf", resolv_conf(None), 75, "does not resolve: /etc/resolv.conf does not exist", "interface may not be attached yet", deadline=3)
row("empty resolv.conf", resolv_conf(""), 75, "does not resolve: /etc/resolv.conf names no name server", deadline=3)
row("name server absent", lambda stack: dns(None), 75, rf"name server {SERVER} cannot be reached: connection refused \(ECONNREFUSED\)", deadline=3)
row("name server silent", at_server("udp dport 53 drop"), 75, rf"no answer from name server {SERVER} within 3\.\d s", deadline=5)
row("name server that takes 2 s", fake_dns("slow"), 0, within=4)
row("first name server dead", resolv_conf(f"nameserver {DEAD}\nnameserver {SERVER}\n"), 0, within=3)
row("one packet lost", fake_dns("lost"), 0, within=2)
row("SERVFAIL", fake_dns("servfail"), 75, rf"name server {SERVER} answers SERVFAIL", deadline=3)
row("REFUSED for AAAA only", fake_dns("refuse-aaaa"), 0, within=2)
row("REFUSED", fake_dns("refused"), 75, rf"name server {SERVER} answers REFUSED", deadline=3)
row("NXDOMAIN that turns good after 3 s", fake_dns("nx-then-good"), 0, "NXDOMAIN", within=5)
row("truncated answer, whole over TCP", fake_dns("truncated"), 0, within=2)
row("truncated answer, no TCP", fake_dns("truncated-no-tcp"), 75, "answers with a truncated answer, and does not give it over TCP", deadline=3)
row("CNAME chain", fake_dns("cname"), 0, within=2)
row("CNAME without its address", fake_dns("cname-only"), 0, within=2)
row("CNAME loop", fake_dns("cname-loop"), 75, "knows the name, but no address for it", deadline=3)
row("several addresses, the first dead", fake_dns("dead-first"), 0, within=3)
row("an AAAA that goes nowhere", fake_dns("dead-aaaa"), 0, within=2)
row("an answer of 0.0.0.0", fake_dns("zero"), 75, rf"name server {SERVER} says 0\.0\.0\.0, which cannot be a server's address", deadline=3)
row("an answer of loopback", fake_dns("loopback"), 75, r"says 127\.0\.0\.1, which cannot be a server's address", deadline=3)
row("an answer without an address", fake_dns("nodata"), 75, "knows the name, but no address for it", deadline=3)
row("garbage packets before the answer", fake_dns("garbage"), 0, within=2)
row("nothing but garbage packets", fake_dns("only-garbage"), 75, "no answer from name server", deadline=4)
row("a name that only a search domain completes", lambda stack: (resolv_conf(f"nameserver {SERVER}\nsearch x.example corp.example\n")(stack),
    dns([(SERVER, "files.corp.example")])), 0, within=2, endpoint="files")
# ---- transport ----
row("SYN dropped", at_server("tcp dport 2049 drop"), 75, rf"TCP 2049 to {SERVER} timed out", "security group", deadline=4)
row("SYN dropped until 3 s", at_server("tcp dport 2049 drop"), 0, cured=(3, nft_flush))
row("RST", at_server("tcp dport 2049 reject with tcp reset"), 75, rf"TCP 2049 to {SERVER} was refused", deadline=3)
row("ICMP port unreachable", at_server("tcp dport 2049 reject with icmp type port-unreachable"), 75, rf"TCP 2049 to {SERVER} was refused", deadline=4)
row("ICMP host prohibited", at_server("tcp dport 2049 reject with icmp type host-prohibited"), 75, rf"TCP 2049 to {SERVER} failed: no way to it was found", deadline=4)
row("accepts and never answers", listener(Listener), 75, rf"server {SERVER} takes connections on TCP 2050, but did not finish the mount within 2\.0 s",
    options='"port=2050"', attempt_timeout="2s", endpoint=SERVER)
row("falls silent after 600 bytes", at_server("tcp dport 2049 ct original bytes > 600 drop"), 75, "did not finish the mount", attempt_timeout="2s")
row("falls silent after 1400 bytes", at_server("tcp dport 2049 ct original bytes > 1400 drop"), 75, "did not finish the mount", attempt_timeout="2s")
row("20 % loss", netem("loss 20%"), 0, deadline=25)
row("200 ms delay", netem("delay 200ms"), 0, deadline=15)
row("a port answered by something that is not NFS", listener(Chatter), 75, rf"server {SERVER} (broke the mount off|takes connections|stopped answering)",
    options='"port=2050"', attempt_timeout="2s", endpoint=SERVER)
row("MTU hole", at_server("tcp dport 2049 ip length > 250 drop"), 75, "did not finish the mount", "MTU", attempt_timeout="2s")
# ---- server ----
row("export denied", exported("*", "192.168.77.77"), 69, rf"access denied by server {SERVER} for / \(EACCES\)", within=3)
row("path missing", no_fault, 69, rf"server {SERVER} has no path /none \(ENOENT\)", within=3, path='"/none"')
row("path is a file", lambda stack: write("/export/file", ""), 69, r"/file on server .* is not a folder \(ENOTDIR\)", within=3, path='"/file"')
row("NFS 4.1 is off", without_4_1, 69, r"server 10\.0\.0\.1 does not speak NFS 4\.1 \(EPROTONOSUPPORT\)", within=3)
row("server in its grace period after a restart", restarted, 0, deadline=10)
row("server restarts in mid-mount", restarting, 0, deadline=15)
row("reserved ports demanded", exported("insecure", "secure"), 69, r"refuses this client \(EPERM\)", "put resvport into `options`", within=3)
row("reserved ports demanded and given", exported("insecure", "secure"), 0, options='"resvport"')
row("read-only export", exported("(rw", "(ro"), 0, r"root_mode 1777 of /mnt/efs_share could not be set: the server exports it read-only", root_mode='"1777"')
row("root squashed, so that root_mode cannot be set", exported("no_root_squash", "root_squash"), 0, "squashed root", root_mode='"1777"')
# ---- client ----
row("NFS module missing", modprobe_is("/bin/false"), 69, r"this kernel \(.*\) has no NFS client for version 4: its module nfsv4 cannot be loaded", within=3)
row("module loading takes 2 s", modprobe_is("/run/slow-modprobe"), 0, deadline=12)
row("mount point on a read-only file system", read_only_fs, 69, r"/mnt/ro/x cannot be made: .* \(EROFS\)", "file system that can be written", within=3, mount_point='"/mnt/ro/x"')
row("mount point not empty", lambda stack: (os.mkdir(POINT), write(f"{POINT}/left", "")), 0, "/mnt/efs_share is not empty: the share hides what is in it")
row("5,000 mounts", many_mounts, 0, deadline=10)


# ---- how a row is carried out ----

def carry_out(one):
    keys = dict(one.keys)
    endpoint = keys.pop("endpoint", NAME)
    head = f'deadline = "{one.deadline}s"'
    if "attempt_timeout" in keys:
        head += f'\nattempt_timeout = "{keys.pop("attempt_timeout")}"'
    point = keys.get("mount_point", f'"{POINT}"').strip('"')
    with contextlib.ExitStack() as stack:
        stack.callback(lambda: sh(f"timeout 3 umount -f {point} || umount -l {point}", check_=False) if mounted(point) else None)
        config(endpoint, head, **keys)
        one.given(stack)
        told = dict(row=one.name, demanded=dict(code=one.code, says=one.says), clean=False)
        stack.callback(lambda: print("@@row " + json.dumps(told)))
        process = start()
        came = after(*one.cured) if one.cured else None
        result = end(process)
        told.update(given=dict(code=result.code, last=result.last), seconds=round(result.seconds, 3))
        if came:
            came.join()
            lag = process.began + result.seconds - came.at
            print(f"figure: recovered in {lag:.2f} s")
            told["recovered_in"] = round(lag, 3)
            check(lag < 2, f"recovered only {lag:.2f} s after the fault was gone")
        expect(result, one.code, *one.says, within=(one.within or one.deadline) + 1)
        if one.code == 0:
            check(len(mounted(point)) == 1, f"mounted: {mounted(point)}")
        else:
            check(not mounted(point), f"mounted: {mounted(point)}")
            check(" to mend it: " in result.last and result.last.endswith(f"(exit {one.code})"), f"the last line: {result.last}")
            if one.code == 75:
                print(f"figure: {result.seconds - one.deadline:.3f} s past the deadline")
                told["past_deadline"] = round(result.seconds - one.deadline, 3)
                check(result.seconds >= one.deadline - 0.1, "gave up before the deadline")
        check(not agents(), f"processes were left behind: {agents()}")
        told["clean"] = True


for one in ROWS:
    SCENARIOS.append((f"fault: {one.name}", lambda one=one: carry_out(one)))
