"""What is measured in the VM, and how; what it should be is the business of the bench on the host. Contestants of
one figure take turns in each round, so that whatever the machine does meets them all. Each value goes out in a line
`@@sample FIGURE CONTESTANT VALUE` (seconds, or a count)."""
import os, random, signal, subprocess, time
import rig, tls
from rig import AGENT, CONFIG, NAME, POINT, SERVER, Server, check, config, mounted, nfsd, sh, srv, write

ROUNDS = int(open("/rig/rounds").read())
WANTED = open("/rig/figures").read().split()
# Of the file that is written and read by NFS.
MIB = int(open("/rig/mib").read())
OPTIONS = "nfsvers=4.1,rsize=1048576,wsize=1048576,hard,timeo=600,retrans=2,noresvport"
DATA = f"{OPTIONS},addr={SERVER},clientaddr=10.0.0.2"
ENV = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
QUIET = dict(stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=ENV, cwd="/")


def sample(figure, who, value):
    print(f"@@sample {figure}\t{who}\t{value:.6f}", flush=True)


def timed(command):
    """From before the fork to the exit: the seconds, the output, the peak of memory in bytes, the exit code."""
    done = subprocess.run(["/rig/run", "/tmp/took", *command], **QUIET)
    check(done.returncode == 0, f"run ended with {done.returncode}")
    took, peak, code = open("/tmp/took").read().split()
    return float(took), done.stdout.decode(), int(peak), int(code)


def gone():
    """As before the first start."""
    sh("umount -l /mnt/* 2>/dev/null; rmdir /mnt/* 2>/dev/null; rm -rf /run/efs-agent; true")


def fresh(point=True):
    gone()
    if point:
        os.makedirs(POINT)


def good(who, code, out):
    check(code == 0 and len(mounted()) == 1, f"{who}: exit {code}, mounts {mounted()}: {out}")


# ---- exec to exit, with the share mounted ----

def users_can_write():
    """As README has it set up, from the second session on: there is nothing to set, and nothing to warn of."""
    config(root_mode='"1777"')
    os.chmod("/export", 0o1777)


START = {
    "/bin/true": ["/bin/true"],
    "bare mount(2)": ["/rig/mount", f"{SERVER}:/", POINT, DATA],
    "efs-agent": [AGENT],
    "mount.nfs4": ["/sbin/mount.nfs4", f"{NAME}:/", POINT, "-o", OPTIONS],
    "bash script": ["/bin/bash", "/rig/script.sh", NAME],
}


def starts():
    """Each contestant's seconds and peak of memory, round by round."""
    users_can_write()
    for round in range(ROUNDS + 1):
        for who, command in START.items():
            fresh(point=who in ("bare mount(2)", "mount.nfs4"))
            took, out, peak, code = timed(command)
            if who != "/bin/true":
                good(who, code, out)
            if round:  # the first fills caches
                yield who, took, peak
    gone()


def start():
    for who, took, peak in starts():
        sample("start", who, took)
        sample("peak memory", who, peak)


def counted():
    """In a machine whose clock counts instructions, 2 ns each (COUNT=1 of boot.sh): those of all of it, server too. A wait
    for a timer would count as its length; a start has none."""
    for who, took, _ in starts():
        sample("start, counted", who, took * 500)


# ---- what one start costs, in things that can be counted ----

def costs():
    users_can_write()
    for who in ("bare mount(2)", "efs-agent", "mount.nfs4", "bash script"):
        fresh(point=who in ("bare mount(2)", "mount.nfs4"))
        before = rig.wire()
        _, out, _, code = timed(START[who])
        good(who, code, out)
        time.sleep(0.3)
        for what, then, now in zip(("packets", "bytes"), before, rig.wire()):
            sample(f"{what} of a start", who, now - then)
        fresh(point=who in ("bare mount(2)", "mount.nfs4"))
        calls, processes = rig.calls(subprocess.list2cmdline(START[who]))
        sample("system calls of a start", who, calls)
        sample("processes besides itself", who, processes - 1)
    # Where the time of ours goes, by phase: when each begins is read off the calls that begin it.
    fresh(point=False)
    sh(f"strace -f -ttt -o /tmp/trace {AGENT}")
    marks = [("start of the process", "execve("), ("config", "config.toml"), ("mount point", "openat2("), ("name", "/etc/hosts"),
             ("connection", "sin_port=htons(2049)"), ("mount(2)", "socketpair("), ("after it", "read_ahead_kb"), ("last line, status.json", " mounted fs-")]
    lines = [line.split(None, 2) for line in open("/tmp/trace")]
    found = []
    for phase, mark in marks:
        at = [index for index, (_, _, call) in enumerate(lines) if mark in call]
        if at:
            found.append((phase, at[0]))
    found.sort(key=lambda pair: pair[1])
    for (phase, at), end in zip(found, [at for _, at in found[1:]] + [len(lines) - 1]):
        sample("phase: system calls", phase, end - at)
        sample("phase: seconds under strace", phase, float(lines[end][1]) - float(lines[at][1]))
    gone()


# ---- recovery: how long after something has become good is the share mounted? ----

LOOP = f"until mount -t nfs4 -o {OPTIONS},retry=0 {NAME}:/ {POINT} 2>/dev/null; do sleep 1; done"
WAYS = {
    "efs-agent": [AGENT],
    "mount.nfs, retry=2": ["/sbin/mount.nfs4", f"{NAME}:/", POINT, "-o", f"{OPTIONS},retry=2"],
    "loop with sleep 1": ["/bin/bash", "-c", LOOP],
}


def name_is_there():
    write(rig.DNS_HOSTS, f"{SERVER} {NAME}\n")
    rig._dns.send_signal(signal.SIGHUP)  # rig.dns() would wait a little


FAULTS = {
    "server": (lambda: nfsd(False), lambda: nfsd(True)),
    "name": (lambda: rig.dns([]), name_is_there),
    "route": (lambda: sh(f"ip route add unreachable {SERVER}/32"), lambda: sh(f"ip route del unreachable {SERVER}/32")),
}


def recovery():
    config()
    for fault, (breaks, mends) in FAULTS.items():
        for _ in range(ROUNDS):
            after = random.uniform(0.5, 2.5)
            for who, command in WAYS.items():
                fresh()
                breaks()
                process = subprocess.Popen(command, **QUIET)
                time.sleep(after)
                mends()
                good_at = time.monotonic()
                while not mounted() and process.poll() is None:
                    check(time.monotonic() < good_at + 60, f"{fault}, {who}: not mounted")
                    time.sleep(0.005)
                if mounted():
                    sample(f"recovery of the {fault}", who, time.monotonic() - good_at)
                else:
                    sample(f"gave up before the {fault} was there, after s", who, after)
                process.communicate()
    gone()


# ---- many shares, many instances ----

def shares():
    servers = [Server(number) for number in range(1, 17)]
    for delay in (0, 25):
        for server in servers if delay else ():
            server.run(f"tc qdisc add dev p{server.number} root netem delay {delay}ms")
        for round in range(ROUNDS):
            for count in (1, 2, 4, 8, 16):
                write(CONFIG, "".join(f'[[share]]\nendpoint = "{s.address}"\nmount_point = "/mnt/s{s.number}"\n' for s in servers[:count]))
                gone()
                took, out, _, code = timed([AGENT])
                check(code == 0 and all(mounted(f"/mnt/s{s.number}") for s in servers[:count]), out)
                sample(f"shares, {delay} ms", f"efs-agent, {count}", took)
                gone()
                for server in servers[:count]:
                    os.makedirs(f"/mnt/s{server.number}")
                began = time.monotonic()
                bare = [subprocess.Popen(["/rig/mount", f"{s.address}:/", f"/mnt/s{s.number}",
                                          f"{OPTIONS},addr={s.address},clientaddr=10.0.1.254"], **QUIET) for s in servers[:count]]
                check(all(process.wait() == 0 for process in bare), "a bare mount failed")
                sample(f"shares, {delay} ms", f"bare mount(2), {count}", time.monotonic() - began)
    gone()
    for server in servers:
        server.end()


def instances():
    """Network name spaces on one bridge with the server's, each with an instance, all begun at once."""
    sh("ip link add br9 type bridge; ip link set br9 up; ip netns add srv9; ip link add v9 type veth peer name p9;"
       "ip link set p9 netns srv9; ip link set v9 master br9 up")
    server = subprocess.Popen(["nsenter", "--net=/run/netns/srv9", "--", "sh", "-c",
                               "ip addr add 10.9.255.1/16 dev p9; ip link set p9 up; ip link set lo up; unshare --mount --uts -- sh -c '"
                               "hostname nfs9; umount /proc/fs/nfsd; mount -t nfsd nfsd /proc/fs/nfsd && exportfs -ra && rpc.nfsd -N 3 -G 10 -L 10 4 "
                               "&& rpc.mountd -F -N 2 -N 3 & echo; wait'"], stdout=subprocess.PIPE)
    for number in range(100):
        sh(f"ip netns add i{number}; ip link add vi{number} type veth peer name pi{number}; ip link set pi{number} netns i{number};"
           f"ip link set vi{number} master br9 up; ip netns exec i{number} sh -c 'ip addr add 10.9.0.{number + 1}/16 dev pi{number};"
           f"ip link set pi{number} up; ip link set lo up'")
    write("/run/many.toml", '[[share]]\nendpoint = "10.9.255.1"\n')
    rig.until(lambda: "0801" in sh("ip netns exec srv9 cat /proc/net/tcp"), "the server does not come up")
    script = (f"mkdir -p {POINT}; read x < /run/go; exec {AGENT} --allow-private-namespace --config /run/many.toml")
    # A hundred processes that set up their name spaces take long: fewer rounds.
    for round in range(max(1, ROUNDS // 5)):
        for count in (1, 10, 100):
            sh("rm -f /run/go; mkfifo /run/go")
            many = [subprocess.Popen(["ip", "netns", "exec", f"i{n}", "unshare", "--mount", "--uts", "--", "sh", "-c", f"hostname i{n}; {script}"],
                                     **QUIET) for n in range(count)]
            # Open for both, so that whoever comes late finds it open; each takes one line's end.
            go = os.open("/run/go", os.O_RDWR)
            time.sleep(1 + count / 25)
            began = time.monotonic()
            os.write(go, b"\n" * count)
            check(all(process.wait() == 0 for process in many), "an instance failed: " + "".join(p.stdout.read().decode() for p in many)[-2000:])
            sample("instances at once", str(count), time.monotonic() - began)
            os.close(go)
    server.kill()


# ---- sequential read ----

def read_ahead():
    size = 256 << 20
    sh(f"truncate -s {size} /export/big; sysctl -qw vm.drop_caches=1")
    srv("tc qdisc add dev vs root netem delay 5ms")
    config()
    for round in range(ROUNDS):
        for who in ("kernel's own", "efs-agent's"):
            gone()
            sh(AGENT)
            device = mounted()[0]["device"]
            if who == "kernel's own":
                write(f"/sys/class/bdi/{device}/read_ahead_kb", "128")
            sh("sync; sysctl -qw vm.drop_caches=3")
            began = time.monotonic()
            sh(f"dd if={POINT}/big of=/dev/null bs=1M status=none")
            sample("read of 256 MiB", who, time.monotonic() - began)
    srv("tc qdisc del dev vs root", check_=False)
    gone()


# ---- encryption in transit: plain, by our tunnel, and by stunnel ----

def efs_utils():
    """stunnel on this machine as amazon-efs-utils sets it up, at a local port; with the certificate of a client, since
    the server demands one."""
    path = f"{tls.FOLDER}/client.conf"
    write(path, "fips = no\nforeground = yes\nsocket = l:SO_REUSEADDR=yes\nsocket = a:SO_BINDTODEVICE=lo\nsyslog = no\npid =\n"
          f"[efs]\nclient = yes\naccept = 127.0.0.1:20449\nconnect = {tls.EFS}:2049\nsslVersionMin = TLSv1.2\nrenegotiation = no\n"
          "TIMEOUTbusy = 20\nTIMEOUTclose = 0\nTIMEOUTidle = 70\ndelay = yes\nverify = 2\nsocket = l:TCP_NODELAY=1\n"
          f"socket = r:TCP_NODELAY=1\nCAfile = {tls.CA}\ncert = {tls.FOLDER}/good.pem\nkey = {tls.FOLDER}/good.key\ncheckHost = {NAME}\n"
          f"sni = {NAME}\n")
    process = subprocess.Popen(["stunnel4", path], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    # Its row in the table of sockets: a connection would be one to the server.
    rig.until(lambda: " 0100007F:4FE1 00000000:0000 0A" in sh("cat /proc/net/tcp"), "stunnel does not come up")
    return process


def plain():
    rig.dns([(SERVER, NAME)])
    users_can_write()
    return timed([AGENT])


def encrypted(key=True):
    rig.dns([(tls.EFS, NAME)])
    # An emulated machine that gets little of the processor takes long for what RSA is asked.
    tls.config_tls(head='deadline = "50s"')
    if key:
        tls.make_key()
    elif os.path.exists(tls.KEY):
        os.unlink(tls.KEY)
    return timed([AGENT])


def by_stunnel():
    os.makedirs(POINT, exist_ok=True)
    return timed(["/rig/mount", f"{NAME}:/", POINT, f"{OPTIONS},port=20449,addr=127.0.0.1,clientaddr=127.0.0.1"])


def no_share():
    out = sh(f"{AGENT} unmount 2>&1; umount {POINT} 2>&1; true")
    check(not mounted() and not rig.agents(), f"still there: {out}")


def moved(way, size):
    """The seconds of one file of `size` bytes, from where no page of it is in this machine's memory to where its last
    is on the server, or has been read."""
    sh("sync; sysctl -qw vm.drop_caches=3")
    command = (f"dd if=/dev/zero of={POINT}/file bs=1M count={size >> 20} conv=fsync" if way == "write" else
               f"dd if={POINT}/file of=/dev/null bs=1M")
    began = time.monotonic()
    out = sh(f"{command} 2>&1")
    took = time.monotonic() - began
    check(f"\n{size} bytes" in out and os.path.getsize("/export/file") == size, out)
    return took


def nfs():
    files("nfs: ", MIB)
    encrypted_starts()


def nfs_counted():
    """In a machine whose clock counts instructions, as `counted`: AES costs what a processor's own does, one each."""
    files("nfs, counted: ", min(MIB, 32))


def files(figure, mib):
    """All three against the same nfsd, two of them by the same stunnel before it. A round's ratios are of its own
    figures."""
    size = mib << 20
    with tls.Stunnel(ciphersuites="TLS_AES_128_GCM_SHA256"):
        client = efs_utils()
        ways = {"plain": plain, "efs-agent": encrypted, "stunnel": by_stunnel}
        for round in range(ROUNDS):
            took = {}
            # Each begins a round in its turn.
            order = list(ways)[round % 3:] + list(ways)[:round % 3]
            for who in order:
                _, out, _, code = ways[who]()
                good(who, code, out)
                if who == "efs-agent":
                    told = tls.status()
                    check(told["cipher"] == "TLS_AES_128_GCM_SHA256" or told["cipher"] == "TLS13_AES_128_GCM_SHA256", told)
                # Both with the read-ahead that a session start sets.
                write(f"/sys/class/bdi/{mounted()[0]['device']}/read_ahead_kb", "15360")
                for way in ("write", "read"):
                    took[who, way] = moved(way, size)
                    sample(f"{figure}{way} of {mib} MiB, MiB a second", who, mib / took[who, way])
                no_share()
            for way in ("write", "read"):
                for other in ("stunnel", "plain"):
                    sample(f"{figure}{way} by efs-agent against {other}", "efs-agent", took[other, way] / took["efs-agent", way])
        client.kill()
        client.wait()
        os.unlink("/export/file")
    gone()


def encrypted_starts():
    """And how long a start takes."""
    with tls.Stunnel(ciphersuites="TLS_AES_128_GCM_SHA256"):
        for round in range(ROUNDS + 1):
            took = {}
            for who in ("plain", "key", "cold", "again"):
                if who == "again":
                    # Its tunnel is there, as after an unmount by hand.
                    sh(f"umount {POINT}")
                else:
                    no_share()
                took[who], out, _, code = plain() if who == "plain" else encrypted(key=who != "key")
                good(who, code, out)
            no_share()
            if round:  # the first fills caches
                for who, text in (("plain", "plain"), ("key", "encrypted, its key is made"), ("cold", "encrypted, its tunnel is started"),
                                  ("again", "encrypted, its tunnel is up")):
                    sample("nfs: start", text, took[who])
                    if who != "plain":
                        sample("nfs: an encrypted start against a plain one", text, took[who] / took["plain"])
    gone()


FIGURES = dict(start=start, counted=counted, costs=costs, recovery=recovery, shares=shares, instances=instances, read_ahead=read_ahead, nfs=nfs,
               nfs_counted=nfs_counted)
if __name__ == "__main__":
    # Emulation translates a program anew wherever its code comes to lie: on a processor that costs nothing, here it was
    # two thirds of a start, and of the script's.
    write("/proc/sys/kernel/randomize_va_space", "0")
    rig.set_up()
    for name in [name for name in FIGURES if name in WANTED]:
        rig.clean()
        began = time.monotonic()
        try:
            FIGURES[name]()
            print(f"@@done {name} {time.monotonic() - began:.0f} s", flush=True)
        except Exception as error:
            print(f"@@failed {name}: {type(error).__name__}: {error}", flush=True)
