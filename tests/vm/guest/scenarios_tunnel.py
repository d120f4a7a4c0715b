"""Encryption in transit, end to end: the agent's tunnel between the kernel's NFS client and a stand-in for EFS
(tls.py). As in life systemd holds the listeners, and starts again what is killed. Figures are of an emulated machine."""
import contextlib, hashlib, os, random, signal, socket, struct, subprocess, threading, time
import soak, tls
from rig import *
from tls import (ACCESS_KEY, ACCESS_POINT, CA, EFS, EFS_CLIENT, EFS_SECOND, FS, SECRET, TOKEN, Server as TlsServer, Stunnel, config_tls, efs,
                 issue, port, processes, share, status, worker)

# Of what is tested under a mount: how long the mount takes is not.
PATIENT = 'deadline = "50s"\nattempt_timeout = "40s"'


def expect_tunnelled(address=EFS, version="TLS 1.3"):
    """The share is mounted through its tunnel, and status says with whom it speaks."""
    entry = expect_mounted(address="127.0.0.1")
    check(f"port={port()}" in entry["options"], f"another port: {entry['options']}")
    told = status()
    check((told["port"], told["peer"], told["version"]) == (port(), address, version), f"status: {told}")
    return told


def aws(text):
    """root's profiles."""
    os.makedirs("/root/.aws", exist_ok=True)
    write("/root/.aws/credentials", text)
    os.chmod("/root/.aws/credentials", 0o600)


def as_kernel(to):
    """A connection to the tunnel from where the kernel's would come: a port below 1024."""
    for number in random.sample(range(600, 1024), 400):
        with contextlib.suppress(OSError):
            return socket.create_connection(("127.0.0.1", to), source_address=("127.0.0.1", number))
    raise RuntimeError("no port below 1024 is free")


@scenario("tunnel: a session start mounts through TLS; nothing of it can be read on the wire; unmount ends all of it")
def _():
    secret = "what-only-the-file-system-may-read"
    tls.set_up()
    taps = [subprocess.Popen(["nsenter", "--net=/run/netns/efs", "--", "tcpdump", "-Uq", "-s0", "-w", f"/run/{link}.pcap", "-i", link,
                              "tcp"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) for link in ("te", "es")]
    for tap in taps:
        tap.stderr.readline()  # it listens
    # The RSA key takes seconds in an emulated machine, and half a minute in one that is starved.
    patient = {**SESSION, "SessionStart": {**SESSION["SessionStart"], "WaitingTime": 60}}
    with Stunnel() as server, share(key=False, head='deadline = "55s"'):
        began = time.monotonic()
        events, log, user = session(patient, user_script=f"df -h {POINT}; echo {secret} > {POINT}/file && cat {POINT}/file; sync {POINT}")
        print(f"figure: the session start took {time.monotonic() - began:.2f} s")
        check([e["event"] for e in events] == ["exit", "exit"] and events[0]["code"] == 0, events)
        check(re.search(rf"mounted {NAME}:/ on {POINT} from {EFS}, TLS 1\.3, NFS 4\.1, attempt \d, in [\d.]+ s \(exit 0\)\n$", log), log)
        check(re.search(rf"(?m)^{NAME}:/ .* {POINT}$", user) and user.endswith(f"{secret}\n"), user)
        told = expect_tunnelled()
        check(told["cipher"].startswith("TLS_AES_") and told["bytes_sent"] > 1000 and told["bytes_received"] > 1000 and
              told["connections"] == 1 and told["refused"] == 0 and told["identity"] is None, told)
        text = agent("status").out
        check(re.search(rf"  tunnel: port {port()}, TLS 1\.3 \(TLS_AES_\d+_GCM_SHA\d+\) with {EFS}; connections: 1; "
                        r"[\d.]+ KiB sent, [\d.]+ KiB received; 0 connections of others refused", text), text)
        check([parent for _, parent, _ in processes()] == [1] and worker(), f"its processes: {processes()}")
        check("CapEff:\t0000000000000000" in open(f"/proc/{worker()}/status").read(), "the worker has rights")
        before, pids = mounts(), processes()
        expect(agent(), 0, rf"already mounted: {NAME}:/ on {POINT}, from {EFS}, TLS 1\.3, NFS 4\.1; nothing was done \(exit 0\)\n$")
        check(mounts() == before and processes() == pids, "something was done")
        expect(agent("check"), 0, r"(?m)^ok +handshake .*TLS 1\.3 with 10\.0\.4\.1", "a session start would succeed")
        expect(agent("unmount"), 0, rf"unmounted {NAME}:/ on {POINT}; all that was written is on the server")
        until(lambda: not agents(), f"left behind: {processes()}", 3)
        expect_clean()
        check(not os.path.exists("/run/efs-agent/tunnel/mnt-efs_share.sock"), "its socket is left")
    for tap in taps:
        tap.terminate()
        tap.wait()
    seen = {link: open(f"/run/{link}.pcap", "rb").read() for link in ("te", "es")}
    # A call of NFS 4: program 100003, version 4, procedure COMPOUND.
    call = struct.pack("!III", 100003, 4, 1)
    check(secret.encode() in seen["es"] and call in seen["es"], "the tap behind the TLS end sees nothing")
    check(len(seen["te"]) > 5000 and secret.encode() not in seen["te"] and call not in seen["te"], "NFS can be read on the wire")
    check(server.taken() >= 2 and open("/export/file").read() == secret + "\n", "it did not go through the stand-in")


@scenario("tunnel: the client's certificate is what EFS demands, with IAM and an access point, fresh for each connection")
def _():
    wanted = dict(fs=FS, access_point=ACCESS_POINT, key_id=ACCESS_KEY, secret=SECRET)
    aws(f"[fleet]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET}\n")
    with TlsServer("verify", json.dumps(wanted)) as server, share(iam="true", access_point=f'"{ACCESS_POINT}"', aws_profile='"fleet"'):
        expect(agent(), 0, rf"mounted {NAME}:/ on {POINT} from {EFS}, TLS 1\.3")
        told = expect_tunnelled()
        check(told["identity"] and ACCESS_KEY in told["identity"] and "fleet" in told["identity"], told)
        check(as_user(f"echo x > {POINT}/x")[0] == 0, "the user cannot write")
        time.sleep(1.1)  # a certificate tells of its time in whole seconds
        # On a busy machine a connection with a certificate of its own may take more than the 3 s of one link.
        outs = []
        until(lambda: outs.append(agent("check").out) or "FAULT    NULL call" not in outs[-1], "no NULL call is answered", 60)
        out = outs[-1]  # nothing is registered
        check(re.search(r"(?m)^ok +handshake .*TLS 1\.3", out) and re.search(rf"(?m)^ok +access point .*{ACCESS_POINT}", out), out)
        seen = server.seen()
        check(len(seen) >= 3 and not any(s["problems"] for s in seen), seen)
        check(len({s["certificate"] for s in seen}) >= 2, "one certificate for all")
        told = "".join(sh(f"cat /proc/{pid}/cmdline /proc/{pid}/environ") for pid in agents()) + sh("cat /run/efs-agent/status.json")
        check("tunnel" in told and SECRET not in told, "the secret is told")
    # With a token, and one that signs wrongly: the server hangs up.
    aws(f"[fleet]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET}\naws_session_token = {TOKEN}\n")
    for secret, deadline, code, says in ((SECRET, "55s", 0, "mounted "),
                                         ("another", "30s", 75, "the server closed the connection right after the TLS handshake")):
        with TlsServer("verify", json.dumps({**wanted, "token": TOKEN, "secret": secret})) as server, \
                share(head=f'deadline = "{deadline}"', iam="true", access_point=f'"{ACCESS_POINT}"', aws_profile='"fleet"'):
            # A start tries again, with more time for each handshake: on a busy machine the first may not do.
            expect(agent(), code, says)
            print([s["problems"] for s in server.seen()][:1])
    # And without IAM: neither signature nor access point in it.
    with TlsServer("verify", json.dumps({"fs": FS})), share(head=PATIENT):
        expect(agent(), 0, "mounted ")


@scenario("tunnel: TLS 1.2 alone and 1.3 alone, AES-128 and AES-256")
def _():
    for options, version, cipher in (
            (dict(sslVersionMax="TLSv1.2", ciphers="ECDHE-RSA-AES128-GCM-SHA256"), "TLS 1.2", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"),
            (dict(sslVersionMax="TLSv1.2", ciphers="ECDHE-RSA-AES256-GCM-SHA384"), "TLS 1.2", "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"),
            (dict(sslVersionMin="TLSv1.3", ciphersuites="TLS_AES_128_GCM_SHA256"), "TLS 1.3", "TLS_AES_128_GCM_SHA256"),
            (dict(sslVersionMin="TLSv1.3", ciphersuites="TLS_AES_256_GCM_SHA384"), "TLS 1.3", "TLS_AES_256_GCM_SHA384")):
        with Stunnel(**options), share():
            expect(agent(), 0, rf"from {EFS}, {version}, NFS 4\.1")
            check(expect_tunnelled(version=version)["cipher"] == cipher, status())
            check(as_user(f"head -c 300000 /dev/urandom > {POINT}/x && cmp {POINT}/x {POINT}/x")[0] == 0, "the user cannot write and read")
            sh(f"cmp {POINT}/x /export/x")


# What is wrong, and what is to be said of it: a certificate of stunnel's and its options, or a server of ours.
MATRIX = (
    ("wrong name", "other", {}, 69, rf"the server's certificate is for nfs\.example, not for {NAME}; .*to mend it: check `endpoint`"),
    ("expired", "old", {}, 69, r"the server's certificate expired at 20\S+Z, and the clock here says 20\S+Z; "),
    ("not yet valid", "early", {}, 75, r"the server's certificate is valid from 20\S+Z on, and the clock here says 20\S+Z; .*the clock here is slow, or not set yet"),
    ("unknown root", "foreign", {}, 69, rf"was issued by nobody that is trusted; .*put the issuer's root into {CA}"),
    ("no cipher in common", "good", dict(sslVersionMax="TLSv1.2", ciphers="ECDHE-RSA-CHACHA20-POLY1305"), 69,
     "the server ended the TLS handshake with the alert handshake_failure; "),
    ("our certificate is refused", "good", dict(verifyChain="yes", CAfile=CA), 69, "with the alert (unknown_ca|bad_certificate)"),
)


def once(what, code, sentence, within=40):
    """--once fails like this, mounts nothing, and takes no longer."""
    for _ in range(3):
        began = time.monotonic()
        result = agent("--once")
        print(f"--- {what}: {time.monotonic() - began:.1f} s")
        # The one attempt may not do on a busy machine, where the tunnel still makes its key.
        if "the tunnel is there, but has not answered yet: it is still starting, or busy" not in result.out:
            break
    check(result.code == code, f"{what}: exit code {result.code} instead of {code}")
    errors = [line for line in result.out.splitlines() if line.startswith("error: ")]
    text = " ".join(result.out.split())
    check(len(errors) == 1 and re.search(sentence, text) and "to mend it: " in text, f"{what}: not in the output: {sentence}")
    check(not mounted() and not os.path.lexists(POINT), f"{what}: something is left")
    check(in_time(result.seconds, within), f"{what}: took {result.seconds:.1f} s")


@scenario("tunnel: each way in which there can be no encrypted connection has its sentence and exit code")
def _():
    tls.set_up()
    if not os.path.exists(f"{tls.FOLDER}/other.pem"):
        tls.authority("strange")
        issue("other", dns_name="nfs.example")
        issue("old", begin=-30, end=-1)
        issue("early", begin=1)
        issue("foreign", by="strange")
    with share():
        for what, cert, options, code, sentence in MATRIX:
            with Stunnel(cert, **options):
                once(what, code, sentence)
        with TlsServer("close"):
            once("closed in mid-handshake", 75, "the server closed the connection in the middle of the TLS handshake; ")
        with TlsServer("silent"):
            once("silent in mid-handshake", 75, r"the server did not finish the TLS handshake within \d\.\d s; ")
        efs("sh -c 'nft add table inet t; nft add chain inet t in \"{ type filter hook input priority 0; }\"; nft add rule inet t in tcp dport 2049 drop'")
        once("black hole", 75, rf"TCP 2049 to {EFS} from {EFS_CLIENT} timed out")
        efs("nft delete table inet t")
        once("nobody listens", 75, rf"TCP 2049 to {EFS} was refused")
        dns([(SERVER, NAME)])
        once("no TLS there", 75, "the server closed the connection in the middle of the TLS handshake; .*an NFS server without TLS does this")


@scenario("tunnel: an IPv6 address where the IPv4 one leads nowhere, or is silent")
def _():
    tls.set_up()
    v6, v6_client = "fd00:4::1", "fd00:4::2"
    efs(f"ip -6 addr add {v6}/64 dev te nodad")
    sh(f"ip -6 addr add {v6_client}/64 dev et nodad")
    try:
        with Stunnel(address=v6), share():
            for of_no_use in "192.0.2.10", EFS_SECOND:
                if of_no_use == EFS_SECOND:
                    efs("sh -c 'nft add table ip t; nft add chain ip t in \"{ type filter hook input priority 0; }\"; nft add rule ip t in tcp dport 2049 drop'")
                dns([(of_no_use, NAME), (v6, NAME)])
                expect(agent(), 0, rf"mounted {NAME}:/ on {POINT} from {v6}, TLS 1\.3, NFS 4\.1, attempt [12],")
                expect(agent("unmount"), 0)
    finally:
        efs("nft delete table ip t", check_=False)
        efs(f"ip -6 addr del {v6}/64 dev te")
        sh(f"ip -6 addr del {v6_client}/64 dev et")


@scenario("tunnel: credentials that are missing or expired, a refusal after a good handshake, an access point without its folder")
def _():
    keys = f"aws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET}\n"
    write("/root/old", '#!/bin/sh\necho \'{"Version": 1, "AccessKeyId": "ASIAOLD", "SecretAccessKey": "x", "SessionToken": "y", '
          '"Expiration": "2020-01-01T00:00:00Z"}\'\n')
    os.chmod("/root/old", 0o700)
    aws(f"[fleet]\n{keys}[old]\ncredential_process = /root/old\n")
    with Stunnel():
        with share(head=PATIENT, iam="true", aws_profile='"none"'):
            once("no credentials", 69, r"no credentials from profile .none.: there is no such profile in /root/\.aws/credentials or /root/\.aws/config")
        with share(head=PATIENT, iam="true", aws_profile='"old"'):
            once("expired credentials", 75, r"the credentials from profile .old.* expired at 2020-01-01T00:00:00Z \(it is 20\S+Z now\)")
        with share(head=PATIENT, iam="true", aws_profile='"fleet"', access_point=f'"{ACCESS_POINT}"'):
            exports(EXPORTS.replace("*", "192.168.77.77"))
            once("refused", 69, rf"{FS} denies the identity of profile .fleet.*{ACCESS_KEY}.* to mount / through {ACCESS_POINT} \(EACCES\); .*"
                 "allow elasticfilesystem:ClientMount to that identity")
            exports(EXPORTS)
        with share(head=PATIENT, path='"/none"', access_point=f'"{ACCESS_POINT}"'):
            once("no folder", 69, rf"there is no /none below the root folder of {ACCESS_POINT} \(ENOENT\); ")


@scenario("tunnel: a profile with a slip, keys with quotes, a program that is not there: the line to correct, which helps, and no waiting")
def _():
    keys = f"aws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET}\n"
    old = "x_security_token_expires = 2020-01-01T00:00:00Z\n"
    script = '#!/bin/sh\necho \'{"Version": 1, "AccessKeyId": "%s", "SecretAccessKey": "%s"}\'\n' % (ACCESS_KEY, SECRET)
    # What is in the file, what is said of it, what is to be done, and the file when that has been done.
    rows = (("[default]\naws_access_key_id\n", r"/root/\.aws/credentials, line 2: neither a section", r"correct line 2 of /root/\.aws/credentials", f"[default]\n{keys}"),
            (f'[default]\naws_access_key_id = "{ACCESS_KEY}"\naws_secret_access_key = {SECRET}\n', "line 2: aws_access_key_id has quotes around it",
             "correct line 2 of .*: the key alone", f"[default]\naws_access_key_id: {ACCESS_KEY}\naws_secret_access_key: {SECRET}\n"),
            (f"[default]\n{keys}{old}", r"its keys expired at 2020-01-01T00:00:00Z \(it is 20\S+Z now\)", "if the clock here is wrong, .*; else put new keys for profile .default. into", f"[default]\n{keys}"),
            (f"export AWS_ACCESS_KEY_ID={ACCESS_KEY}\n", "line 1: a command of a shell", "write the keys without export", f"# \xe4\n[other]\nno separator\n[default]\n{keys}"),
            ("[default]\ncredential_process = give-keys now\n", 'credential_process "give-keys" is in none of /usr/local/sbin:', "install that program", None))
    with Stunnel(), share(head=PATIENT, iam="true"):
        for wrong, says, cure, right in rows:
            aws(wrong)
            # It does not wait for that until its deadline.
            expect(agent(), 69, f"{says}.*; to mend it: {cure}.*\\(exit 69\\)", within=30)
            if right is None:
                write("/usr/local/bin/give-keys", script)
                os.chmod("/usr/local/bin/give-keys", 0o755)
            else:
                aws(right)
            expect(agent(), 0, "mounted ")
            expect(agent("unmount"), 0, "unmounted ")
        os.unlink("/usr/local/bin/give-keys")
        # Half of a file that is being written is waited for.
        aws("[default]\naws_access_key_id\n")
        writing = start()
        time.sleep(1)
        aws(f"[default]\n{keys}")
        expect(end(writing), 0, "mounted ")
        expect(agent("unmount"), 0, "unmounted ")
        # Two letters too few: taken, but said.
        aws("[default]\naws_access_key_id = AKIAIOSFODNN7EXAMP\naws_secret_access_key = x\n")
        check(re.search(r"(?m)^warning +credentials .*it has 18 characters, where AWS's have 20", agent("check").out), "nothing is said of the key")


WRITES = """
import os, sys, time
with open(sys.argv[1], "a") as file:
    for n in range(int(sys.argv[2])):
        file.write(f"{n}\\n"); file.flush(); os.fsync(file.fileno())
        print(time.monotonic(), flush=True)
        time.sleep(0.05)
"""


@scenario("tunnel: the server is restarted, and moves to another address, under a mount: I/O goes on")
def _():
    with Stunnel() as first, share():
        expect(agent(), 0, "mounted ")
        lines = 60
        writer = subprocess.Popen(["timeout", "-s", "KILL", "60", "python3", "-c", WRITES, f"{POINT}/log", str(lines)], user=1001, group=1001, extra_groups=[], cwd="/",
                                  stdout=subprocess.PIPE, text=True)
        done = []
        reader = threading.Thread(target=lambda: done.extend(map(float, iter(writer.stdout.readline, ""))), daemon=True)
        reader.start()

        def goes_on(count):
            until(lambda: len(done) >= count, f"I/O stands still after {len(done)} lines", 40)
        goes_on(10)
        first.end()
        time.sleep(0.5)
        first.begin()
        back = time.monotonic()
        goes_on(25)
        print(f"figure: {max(0, next(t for t in done if t > back) - back):.2f} s after the server was back, I/O was")
        expect_tunnelled()
        first.end()
        dns([(EFS_SECOND, NAME)])
        with Stunnel(address=EFS_SECOND) as second:
            moved = time.monotonic()
            goes_on(lines)
            print(f"figure: {max(0, next(t for t in done if t > moved) - moved):.2f} s after the server was at another address, I/O was")
            check(writer.wait() == 0 and len(done) == lines, f"{len(done)} lines")
            check(open("/export/log").read() == "".join(f"{n}\n" for n in range(lines)), "the file is not what was written")
            check(second.taken() >= 1, "the second address was not used")
            expect_tunnelled(address=EFS_SECOND)
            expect(agent("unmount"), 0, "unmounted ")


# Whole MiBs past the page cache, so that each that is done has been over the wire.
MOVES = """
import hashlib, mmap, os, random, sys, time
path, way, size, pause = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
fd = os.open(path, os.O_DIRECT | (os.O_RDWR | os.O_CREAT | os.O_TRUNC if way == "write" else os.O_RDONLY))
buffer, digest = mmap.mmap(-1, 1 << 20), hashlib.sha256()
for n in range(size):
    if way == "write":
        buffer[:] = random.Random(n).randbytes(1 << 20)
        assert os.pwritev(fd, [buffer], n << 20) == 1 << 20
    else:
        assert os.preadv(fd, [buffer], n << 20) == 1 << 20
    digest.update(buffer)
    print(time.monotonic(), flush=True)
    time.sleep(pause)
os.close(fd)
print(digest.hexdigest(), flush=True)
"""


class Mover:
    """Writes or reads a file of the share, as the user; when each MiB was done."""

    def __init__(self, name, way, size, pause=0):
        self.done, self.digest, self.size = [], None, size
        self.process = subprocess.Popen(["timeout", "-s", "KILL", "140", "python3", "-c", MOVES, f"{POINT}/{name}", way, str(size), str(pause)], user=1001, group=1001, extra_groups=[],
                                        cwd="/", stdout=subprocess.PIPE, text=True)
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self):
        for line in self.process.stdout:
            if len(self.done) < self.size:
                self.done.append(float(line))
            else:
                self.digest = line.strip()

    def wait(self):
        self.thread.join(timeout=150)
        check(self.digest and self.process.wait(timeout=5) == 0, f"it did not end well: {len(self.done)} of {self.size} MiB")
        return self.digest


def digest(path):
    return hashlib.sha256(open(path, "rb").read()).hexdigest()


@scenario("tunnel: killed with SIGKILL at any instant of a large write and a large read, nothing is lost, and I/O is back within 2 s")
def _():
    kills, size = (10, 64) if KILLS >= 10 else (2, 12)
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    random.seed(seed)
    took, limits = [], []
    with Stunnel(), share(head=PATIENT):
        expect(agent(), 0, "mounted ")
        for way in ("write", "read"):
            sh("echo 3 > /proc/sys/vm/drop_caches")
            mover = Mover("large", way, size)
            for moment in sorted(random.sample(range(1, size - 1), kills)):
                until(lambda: len(mover.done) >= moment or mover.process.poll() is not None, f"{way}: it stands still", 60)
                time.sleep(random.random() * 0.1)
                old = worker()
                check(old, f"no worker: {processes()}")
                os.kill(old, signal.SIGKILL)
                while worker() in (None, old):
                    time.sleep(0.005)
                again, had = time.monotonic(), len(mover.done)
                until(lambda: len(mover.done) > had or mover.digest, f"{way}: I/O is not back", 20)
                if len(mover.done) > had:
                    took.append(mover.done[had] - again)
                    # A machine on which a handshake of somebody else's takes its time has no 2 s to show.
                    began = time.monotonic()
                    sh(f"openssl s_client -connect {EFS}:2049 -CAfile {CA} -cert {tls.FOLDER}/good.pem -key {tls.FOLDER}/good.key < /dev/null; true")
                    limits.append(max(2, 6 * (time.monotonic() - began)))
            check(mover.wait() == digest("/export/large"), f"{way}: the checksums differ")
        check(all(t < limit for t, limit in zip(took, limits)), f"I/O was back only after {took}, at most {limits}")
        print(f"figure: {len(took)} kills in {size} MiB each way; I/O was back {sorted(round(t, 2) for t in took)} s after the restart")
        # What the kernel had read ahead of the last kill asks nothing of the new tunnel.
        open(f"{POINT}/after", "w").close()
        expect_tunnelled()


def hole(address):
    """Whatever goes to an address of the stand-in's, or comes from it, is lost: a zone that has fallen silent."""
    efs("sh -c '" + "".join(f"nft add rule inet t {way} ip {end} {address} drop;" for way, end in (("input", "daddr"), ("output", "saddr"))) + "'")


@scenario("tunnel: the zone in use falls silent under a mount: I/O goes on through the other address, and nothing is lost")
def _():
    null = struct.pack("!11I", 1 << 31 | 40, 7, 0, 2, 100003, 4, 0, 0, 0, 0, 0)
    size, took = 12, []
    with Stunnel(), Stunnel(address=EFS_SECOND), share(head=PATIENT):
        efs("sh -c 'nft add table inet t; " + "".join(f'nft add chain inet t {way} "{{ type filter hook {way} priority 0; }}";'
                                                      for way in ("input", "output")) + "'")
        try:
            expect(agent(), 0, "mounted ")
            for way, used, other in (("write", EFS, EFS_SECOND), ("read", EFS_SECOND, EFS)):
                sh("echo 3 > /proc/sys/vm/drop_caches")
                expect_tunnelled(address=used)
                # All connections begin at the address that is lost.
                dns([(used, NAME)])
                # Beside the mount's, one on which nothing is sent: nothing of it goes unacknowledged.
                idle = as_kernel(port())
                idle.sendall(null)
                check(idle.recv(28, socket.MSG_WAITALL)[4:8] == struct.pack("!I", 7), "no answer")
                dns([(used, NAME), (other, NAME)])
                mover = Mover("large", way, size, pause=0.3)
                until(lambda: len(mover.done) >= 2, f"{way}: it stands still", 30)
                hole(used)
                silent, had = time.monotonic(), len(mover.done)
                check(had < size - 2, f"{way}: it was nearly done before")
                until(lambda: len(mover.done) > had + 1 or mover.digest, f"{way}: I/O is not back", 90)
                back = next(t for t in mover.done[had:] if t > silent + 2) - silent
                took.append(back)
                print(f"figure: {way}: {back:.1f} s after its zone had fallen silent, I/O was back by the other")
                if way == "read":
                    idle.settimeout(max(0.1, silent + 60 - time.monotonic()))
                    with contextlib.suppress(ConnectionResetError):
                        check(idle.recv(1) == b"", "bytes that nobody asked for")
                    print(f"figure: an idle connection was given up after {time.monotonic() - silent:.1f} s or less")
                idle.close()
                check(mover.wait() == digest("/export/large"), f"{way}: the checksums differ")
                expect_tunnelled(address=other)
                efs("sh -c 'nft flush chain inet t input; nft flush chain inet t output'")
            # Ten seconds until the server is given up; the rest is the kernel's, and what a busy machine makes of it.
            check(in_time(min(took), 28) and in_time(max(took), 45), f"I/O was back after {took} s")
        finally:
            efs("nft delete table inet t")


@scenario("tunnel: the NFS server behind it is restarted in the middle of a write: after its grace period it goes on, and nothing is lost")
def _():
    size = 12
    with Stunnel(), share(head=PATIENT):
        expect(agent(), 0, "mounted ")
        mover = Mover("large", "write", size, pause=0.3)
        until(lambda: len(mover.done) >= 2, "it stands still", 30)
        nfsd(False)
        down, had = time.monotonic(), len(mover.done)
        check(had < size - 2, "it was nearly done before")
        time.sleep(2)
        check(len(mover.done) <= had + 1, "it writes on without a server")
        nfsd(True)
        up = time.monotonic()
        until(lambda: len(mover.done) > had + 1 or mover.digest, "I/O is not back", 60)
        back = next(t for t in mover.done[had:] if t > down + 1) - up
        check(mover.wait() == digest("/export/large"), "the checksums differ")
        print(f"figure: {back:.1f} s after the server was back, with 10 s of grace, I/O was")
        check(in_time(back, 28), f"I/O was back after {back:.1f} s")
        expect_tunnelled()


@scenario("tunnel: the clock is stepped by an hour under a mount: the next connection has a certificate of the new time, and I/O goes on")
def _():
    wanted = json.dumps(dict(fs=FS, key_id=ACCESS_KEY, secret=SECRET))
    aws(f"[fleet]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET}\n")
    ahead = 0

    def step(seconds):
        nonlocal ahead
        time.clock_settime(time.CLOCK_REALTIME, time.time() + seconds)
        ahead += seconds
    with contextlib.ExitStack() as stack:
        server = TlsServer("verify", wanted)
        stack.callback(lambda: server.__exit__())
        stack.callback(lambda: step(-ahead))
        stack.enter_context(share(head=PATIENT, iam="true", aws_profile='"fleet"'))
        expect(agent(), 0, "mounted ")
        for name, seconds in (("ahead", 3600), ("behind", -7200)):
            step(seconds)
            check(as_user(f"echo x > {POINT}/{name} && cat {POINT}/{name}") == (0, "x\n"), f"{name}: I/O on the connection that there was")
            # The connections end with their server.
            server.__exit__()
            server = TlsServer("verify", wanted)
            check(not server.seen(), server.seen())
            began = time.monotonic()
            code, _ = as_user(f"timeout -s KILL 20 sh -c 'echo y >> {POINT}/{name} && sync {POINT}/{name}'")
            took = time.monotonic() - began
            seen = server.seen()
            check(seen and not any(s["problems"] for s in seen), f"{name}: {[s['problems'] for s in seen]}")
            check(code == 0, f"{name}: I/O on a new connection: exit {code}")
            check(open(f"/export/{name}").read() == "x\ny\n", f"{name}: the file is not what was written")
            print(f"figure: {name}: I/O took {took:.2f} s with a new connection")
            expect_tunnelled()


@scenario("tunnel: both ways at once, while the server changes its keys; 32 connections at the same time")
def _():
    size = 4
    with TlsServer("keys") as server, share():
        expect(agent(), 0, "mounted ")
        check(Mover("a", "write", size).wait() == digest("/export/a"), "the first write")
        movers = [Mover("a", "read", size), Mover("b", "write", size)]
        digests = [mover.wait() for mover in movers]
        check(digests == [digest("/export/a"), digest("/export/b")], "the checksums differ")
        updates = max(seen["updates"] for seen in server.seen())
        check(updates >= 10 and status()["version"] == "TLS 1.3", f"{updates} key updates only, by {status()}")
        print(f"figure: {updates} key updates in {3 * size} MiB")
    # 16 of the kernel's, which is the most that it makes for a mount, and 16 of a process of root's.
    with Stunnel() as server, share(options='"nconnect=16"'):
        expect(agent(), 0, "mounted ")
        mover = Mover("c", "write", 6)
        sockets = [as_kernel(port()) for _ in range(16)]
        body = struct.pack("!10I", 7, 0, 2, 100003, 4, 0, 0, 0, 0, 0)
        for _ in range(5):
            for s in sockets:
                s.sendall(struct.pack("!I", 1 << 31 | len(body)) + body)
            for s in sockets:
                answer = s.recv(28, socket.MSG_WAITALL)
                check(answer[4:12] == struct.pack("!II", 7, 1), f"answered: {answer}")
        check(mover.wait() == digest("/export/c"), "the checksums differ")
        told = status()
        check(told["connections"] == 32, f"{told['connections']} connections")
        kib = int(re.search(r"VmHWM:\s+(\d+)", open(f"/proc/{worker()}/status").read()).group(1))
        print(f"figure: {kib} KiB were the most memory of the tunnel with 32 connections")
        check(kib < 100_000, f"{kib} KiB")
        for s in sockets:
            s.close()
        until(lambda: status()["connections"] == 16, "those that were closed are kept", 10)


# KiB that a process may have more than it ever had while it got warm: what the heap leaves between pieces differs by
# half a MiB. What each cut or each MiB left behind is seen in an hour; the few seconds of `make test` see what each of many
# connections does, and descriptors and threads.
MAY_GROW = 1024


@scenario("tunnel: a soak at full rate through the kernel's client: nothing grows, every byte is right")
def _():
    null = struct.pack("!11I", 1 << 31 | 40, 7, 0, 2, 100003, 4, 0, 0, 0, 0, 0)
    aws(f"[fleet]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET}\n")
    # With IAM there are both of its processes: who carries, who hands out credentials.
    with Stunnel() as server, share(head=PATIENT, iam="true", aws_profile='"fleet"'):
        expect(agent(), 0, "mounted ")
        pids, carrying = sorted(agents()), worker()
        check(len(pids) == 2 and carrying in pids, f"its processes: {processes()}")

        def come_and_go(rudely):
            """A connection beside the mount's, with a question and its answer; it ends in good order, or with a reset."""
            with as_kernel(port()) as s:
                s.settimeout(60)
                s.sendall(null)
                check(s.recv(28, socket.MSG_WAITALL)[4:8] == struct.pack("!I", 7), "no answer on a connection of its own")
                if rudely:
                    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

        def grown(now):
            """What is not as it was before, or, of memory, when it was warm."""
            return ([f"{pid}: {first[pid]}, then {now[pid]}" for pid in first if now[pid].counts() != first[pid].counts()] +
                    [f"{pid}: {warm[pid]} when it was warm, then {now[pid]}" for pid in warm if now[pid].anon > warm[pid].anon + MAY_GROW])

        def look():
            """What each holds. What is on its way out takes a while on a busy machine; what has grown stays."""
            end = time.monotonic() + 20
            while True:
                check(sorted(agents()) == pids, f"a process has ended or come: {pids}, then {processes()}")
                now = {pid: soak.held(pid) for pid in pids}
                if not grown(now):
                    return now
                check(time.monotonic() < end, f"after {brief} connections: {grown(now)}")
                time.sleep(0.05)
        first, warming, warm, brief, cut, most = {}, {}, {}, 0, 0, 0
        come_and_go(rudely=False)
        until(lambda: status()["connections"] == 1, "a connection is not let go", 10)
        time.sleep(1)  # nor is the thread of the question
        first = look()
        lanes = [soak.Lane(number, POINT, "/export") for number in range(2)]
        try:
            began = time.monotonic()
            while (passed := time.monotonic() - began) < SOAK or not (cut and warm):
                check(passed < SOAK + 120, "it does not get warm")
                wrong = [lane.wrong for lane in lanes if lane.wrong]
                check(not wrong, wrong)
                if passed > (cut + 0.2) * min(SOAK / 2, 30):
                    # All that goes through it, in the middle of calls both ways.
                    server.end()
                    server.begin()
                    cut += 1
                come_and_go(rudely=brief % 2)
                brief += 1
                now = look()
                most = max(most, now[carrying].rss)
                warming = {pid: max(now[pid], warming.get(pid, now[pid]), key=lambda held: held.anon) for pid in pids}
                if not warm and cut and passed >= SOAK / 5:
                    warm = warming
                time.sleep(min(SOAK / 40, 1))
        finally:
            wrong = [lane.end(140) for lane in lanes]
        check(not any(wrong), wrong)
        now, took, told = look(), time.monotonic() - began, status()
        rounds = sum(lane.rounds for lane in lanes)
        check(cut and warm and told["bytes_sent"] > rounds * soak.SIZE and told["bytes_received"] > (rounds - len(lanes)) * soak.SIZE,
              f"{rounds} rounds, but {told}")
        print(f"figure: {took:.0f} s: {told['bytes_sent'] / 2**30:.2f} GiB to the server and {told['bytes_received'] / 2**30:.2f} GiB back in "
              f"{rounds} rounds, {server.taken()} connections, all cut off {cut} times; memory of who carries: {warm[carrying].rss} KiB when "
              f"warm, {now[carrying].rss} at the end, {max(most, now[carrying].rss)} at most; {first[carrying].descriptors} descriptors, "
              f"{first[carrying].threads} threads")


@scenario("tunnel: an ordinary user does not get through the local port, with no NFS client and by no haste; it is counted and logged")
def _():
    sh("sysctl -qw kernel.unprivileged_userns_clone=1", check_=False)
    write("/export/home/hello", "greetings\n")
    with Syslog() as syslog, Stunnel() as server, share():
        expect(agent(), 0, "mounted ")
        url = "nfs://127.0.0.1/home%s?version=4&nfsport=" + str(port())
        ls, cat = f"timeout 20 nfs-ls '{url % ''}'", f"timeout 20 nfs-cat '{url % '/hello'}'"
        out = sh(f"{ls} 2>&1; {cat} 2>&1; true")
        check("hello" in out and "greetings" in out, f"root's client does not get through, so this proves nothing: {out}")
        before, through, syslog_before = status()["refused"], server.taken(), syslog.lines()
        check(before == 0 and not [l for l in syslog_before if "refused a connection" in l], "refused before")
        haste = ("import socket\nfor _ in range(100):\n s = socket.create_connection((\"127.0.0.1\", %d)); s.sendall(b\"x\" * 44); s.close()" % port())
        for what, command in (("nfs-ls", ls), ("nfs-cat", cat),
                              ("root of a user namespace", f"unshare -Ur sh -c \"test \\$(id -u) = 0 && echo root && {ls}\""),
                              ("haste", f"python3 -c '{haste}'")):
            code, out = as_user(command)
            told = status()["refused"]
            print(f"--- {what}: exit {code}, {told} refused so far: {out[-200:]}")
            check("greetings" not in out and "home/hello" not in out.replace(url % "/hello", "") and out.startswith("root") == ("root" in what),
                  f"{what}: {out}")
            check((code == 0) == (what == "haste"), f"{what}: exit {code}: {out}")
            until(lambda: status()["refused"] > before, f"{what}: it is not counted", 5)
            before = status()["refused"]
        until(lambda: status()["refused"] == 103, f"{status()['refused']} are counted", 5)
        check(server.taken() == through, f"{server.taken() - through} have got through to the server")
        lines = [line for line in syslog.lines() if "refused a connection" in line]
        print("\n".join(lines))
        check(1 <= len(lines) <= 4 and re.search(rf"efs-agent\[\d+\]: {POINT}: refused a connection to the local port that is not the kernel's, "
                                                r"by a process at port \d+, where the kernel comes from one below 1024 \(1 refused so far\)", lines[0]), lines)
        check(as_user(f"cat {POINT}/home/hello") == (0, "greetings\n"), "the mount does not work any more")
        expect(agent("status"), 0, r"10\d connections of others refused")


@contextlib.contextmanager
def left_port(number=40001):
    """The share is mounted through a tunnel of an earlier version, at a port that any user can take. The tunnel has been
    stopped, and a user listens there."""
    units = f"{tls.UNIT}.socket {tls.UNIT}.service"
    with Stunnel(), share():
        expect(agent("tunnel", "--all"), 0)
        drop_in, written = f"/run/systemd/system/{tls.UNIT}.socket.d/port.conf", f"/run/efs-agent/tunnel/{tls.INSTANCE}.port"
        for path in drop_in, written:
            text = open(path).read()
            check(str(port()) in text, f"{path}: {text}")
            write(path + ".old", text.replace(str(port()), str(number)))
        sh(f"systemctl stop {units}")
        for path in drop_in, written:
            os.rename(path + ".old", path)
        sh(f"systemctl daemon-reload && systemctl start {units}")
        bare_mount(f"{NAME}:/", POINT, f"noresvport,rsize=1048576,wsize=1048576,hard,timeo=600,retrans=2,port={number},addr=127.0.0.1")
        expect(agent(), 0, f"already mounted: {NAME}:/ on {POINT}, from {EFS}, TLS 1\\.3")
        check(port() == number and as_user(f"ls {POINT}")[0] == 0, f"at {port()}")
        sh(f"systemctl stop {units}")
        until(lambda: not agents(), "it cannot be stopped", 5)
        listens = ("import socket\ns = socket.create_server((\"127.0.0.1\", %d)); print(flush=True)\nheld = []\n"
                   "while True: held.append(s.accept()[0])" % number)
        user = subprocess.Popen(["python3", "-c", listens], user=1001, group=1001, extra_groups=[], stdout=subprocess.PIPE)
        user.stdout.readline()
        try:
            yield
        finally:
            user.kill()
            user.wait()


@scenario("tunnel: where a user has taken the port that a tunnel has left, nothing is called mounted or the tunnel, and the share is mounted anew")
def _():
    with left_port():
        expect(agent("status"), 1, r"tunnel: NOT RUNNING, and the share is mounted through port 40001")
        expect(agent("check"), 1, rf"(?m)^FAULT +mount point +{POINT}: its tunnel is NOT RUNNING, and the share is mounted through port 40001 ")
        began = time.monotonic()
        expect(agent(), 0, rf"warning {POINT} is mounted through port 40001, where its tunnel is no longer, but at \d+: replaced\n", "mounted ")
        print(f"figure: mounted anew after {time.monotonic() - began:.1f} s")
        expect_tunnelled()
        check(as_user(f"echo x > {POINT}/x && cat {POINT}/x") == (0, "x\n"), "it does not work")
        code, out = as_user(f"python3 -c 'import socket; socket.create_server((\"127.0.0.1\", {port()}))'")
        check(code and "Permission denied" in out, f"a user can listen at {port()}: {out}")


@scenario("tunnel: where a user has taken the port that a tunnel has left, unmount writes nothing there")
def _():
    with left_port():
        expect(agent("unmount"), 75, "its tunnel has gone from port 40001, which any user can take: taken away by force", within=10)
        check(not mounted(), "still mounted")


@scenario("tunnel: one that is killed is started again with all of its processes, and one that cannot begin any more is ended by unmount all the same")
def _():
    aws(f"[fleet]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET}\n")
    with Stunnel(), share(iam="true", aws_profile='"fleet"'):
        expect(agent(), 0, "mounted ")
        # The worker, and what hands out credentials, which goes with the worker.
        before, old = processes(), port()
        check(sorted(user in tls.USERS for _, _, user in before) == [False, True], f"its processes: {before}")
        os.kill(worker(), signal.SIGKILL)
        gone = {pid for pid, _, _ in before}
        until(lambda: worker() and len(processes()) == 2 and not gone & set(agents()), f"{before} are there still, or none came for them", 5)
        check(port() == old and as_user(f"echo x > {POINT}/x && cat {POINT}/x") == (0, "x\n"), f"the mount is dead: {processes()}")
        sh(f"umount {POINT}")
        # A tunnel whose share is not in the config when it starts: it waits a while, ends, and is started again.
        kept = open(CONFIG).read()
        write(CONFIG, kept.replace("[[share]]", '[[share]]\nmount_point = "/mnt/other"'))
        os.kill(worker(), signal.SIGKILL)
        time.sleep(1)
        until(lambda: processes() and not worker(), f"it is not started again, or begins: {processes()}", 10)
        write(CONFIG, kept)
        expect(agent("unmount"), 0)
        until(lambda: not agents(), f"left behind: {processes()}", 4)


@scenario("tunnel: of a share whose encryption was taken out of the config, unmount ends the tunnel too")
def _():
    tls.set_up()
    with Stunnel(), share():
        for config_of in ("plain", "other", "none"):
            expect(agent(), 0, "mounted ")
            expect_tunnelled()
            kept = open(CONFIG).read()
            plain = f'[[share]]\nendpoint = "{NAME}"\n'
            if config_of == "none":
                os.unlink(CONFIG)
            else:
                write(CONFIG, plain if config_of == "plain" else plain + 'mount_point = "/mnt/other"\n')
            write(f"{POINT}/{config_of}", "written")
            expect(agent("unmount"), 0, rf"unmounted {NAME}:/ on {POINT}; all that was written is on the server")
            expect_clean()
            until(lambda: not agents(), f"left behind: {processes()}", 4)
            check(open(f"/export/{config_of}").read() == "written", "what was written is lost")
            write(CONFIG, kept)
        # A tunnel alone, of a share that is not in the config any more.
        expect(agent("tunnel", "--all"), 0, "its tunnel listens on")
        write(CONFIG, plain + 'mount_point = "/mnt/other"\n')
        expect(agent("check"), 1, rf"warning  tunnel +{POINT}: a tunnel runs for it, which no share of the config has .*\n +to mend it: sudo efs-agent unmount\n")
        expect(agent("unmount"), 0, rf"{POINT}: its tunnel, which no share of the config has, was ended")
        until(lambda: not agents(), f"left behind: {processes()}", 4)
        write(CONFIG, kept)


@scenario("tunnel: beside a plain mount of the same file system, whatever its name, an encrypted share goes through its tunnel")
def _():
    plain = "fs-2.efs.eu-west-1.amazonaws.com"
    with Stunnel(), share():
        dns([(SERVER, plain), (EFS, NAME)])
        encrypted = open(CONFIG).read()
        for first in (plain, NAME):
            # The same file system by another name, and by its own, on which the tunnel is not yet looked for.
            if first == NAME:
                dns([(SERVER, NAME)])
            write(CONFIG, f"[[share]]\nendpoint = \"{first}\"\nmount_point = \"/mnt/plain\"\n")
            expect(agent("--once"), 0, rf"mounted {first}:/ on /mnt/plain from {SERVER}")
            dns([(SERVER, plain), (EFS, NAME)])
            write(CONFIG, encrypted)
            expect(agent(), 0, "mounted ")
            check(mounted("/mnt/plain"), mounts())
            expect_tunnelled()
            sh(f"umount /mnt/plain {POINT}")


@scenario("tunnel: a loopback that is blocked or down on this machine is not told as the server's fault")
def _():
    tls.set_up()
    table = "nft 'add table inet own; add chain inet own out { type filter hook output priority 0; }; add rule inet own out "
    with Stunnel(), share(head='deadline = "50s"\nattempt_timeout = "4s"'):
        expect(agent(), 0)
        expect(agent("unmount"), 0)
        sh(table + "oifname lo tcp dport < 1024 drop'")
        try:
            expect(agent("--once"), 75, r"this machine blocks connections to its own port \d+ of 127\.0\.0\.1, by which the kernel comes to the tunnel",
                   "to mend it: let its firewall accept all that comes in on lo")
        finally:
            sh("nft delete table inet own")
        expect(agent("--once"), 0)
        expect(agent("unmount"), 0)
        sh("ip link set lo down")
        try:
            expect(agent("--once"), 75, "the loopback interface lo is down, by which the kernel comes to the tunnel")
            expect(agent("check"), 1, r"(?m)^FAULT .*the loopback interface lo is down")
        finally:
            sh("ip link set lo up")
        expect(agent("--once"), 0)
        expect(agent("unmount"), 0)


@contextlib.contextmanager
def no_systemd():
    """What tells a program that systemd is the init system here, sd_booted(3), is away meanwhile."""
    units = "/run/systemd/system"
    os.rename(units, units + ".away")
    try:
        yield
    finally:
        os.rename(units + ".away", units)


@scenario("tunnel: where systemd is not the init system an encrypted share ends with one sentence that says so, and a plain one is mounted")
def _():
    says = r"an encrypted share needs systemd, which is not the init system here \(no /run/systemd/system\)"
    with Stunnel(), share():
        with no_systemd():
            once("no systemd", 69, says)
            # Nor is it waited for: a session start ends at once with the same.
            expect(agent(), 69, rf"error   cannot mount .*{says}", within=10)
            expect(agent("tunnel", "--all"), 69, says)
            expect(agent("check"), 1, rf"(?m)^FAULT .*{says}")
            check(not agents() and not mounted(), f"left behind: {processes()}, {mounted()}")
            dns([(SERVER, NAME)])
            config()
            expect(agent(), 0, "mounted ")
            expect(agent("unmount"), 0, "unmounted ")
        dns([(EFS, NAME)])
        tls.config_tls()
        expect(agent(), 0, "mounted ")
        expect_tunnelled()
