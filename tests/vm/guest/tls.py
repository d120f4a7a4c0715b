"""The stand-in for EFS with encryption: a network of its own ("efs", 10.0.4.1 and 10.0.4.3) in which stunnel, or
a server of ours, ends TLS on port 2049 and passes on to the kernel's NFS server of rig.py, on a link that the
client does not see. A client's certificate is demanded. Asserts about outcomes belong to the scenarios."""
import contextlib, datetime, hashlib, hmac, ipaddress, json, os, re, signal, socket, subprocess, sys, time, urllib.parse
import rig
from rig import AGENT, NAME, POINT, SERVER, agent, agents, check, config, dns, sh, write

EFS, EFS_SECOND, EFS_CLIENT = "10.0.4.1", "10.0.4.3", "10.0.4.2"
FS, REGION = "fs-0123456789abcdef0", "eu-west-1"
# A second file system, for machines that know the first one without TLS.
OTHER = "fs-0fedcba9876543210.efs.eu-west-1.amazonaws.com"
ACCESS_POINT = "fsap-0123456789abcdef0"
# What stunnel and our servers pass on to.
NFSD = "10.0.9.1"
FOLDER, CA = "/run/tls", "/run/tls/ca.pem"
# As systemd has the mount point in names, and what it runs for the share.
INSTANCE = "mnt-efs_share"
UNIT = f"efs-agent-tunnel@{INSTANCE}"
KEY = f"/run/efs-agent/tunnel/{INSTANCE}.key"
ACCESS_KEY, SECRET = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
TOKEN = "IQoJ+b3/JpZ2luX2V=="
# How a machine is to call itself whose certificate is looked at by a server in another one.
CLIENT = "client"

OPENSSL = f"""
[ca]
default_ca = d
[d]
database = {FOLDER}/index
new_certs_dir = {FOLDER}
rand_serial = yes
default_md = sha256
policy = p
copy_extensions = copy
unique_subject = no
[p]
commonName = supplied
"""


def efs(command, check_=True):
    """A command in the network of the stand-in."""
    return sh(f"nsenter --net=/run/netns/efs -- {command}", check_)


def authority(name):
    """A root that issues certificates."""
    sh(f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {FOLDER}/{name}.key "
       f"-out {FOLDER}/{name}.pem -subj '/CN=Root {name}' -days 30")


def issue(name, dns_name=NAME, by="ca", begin=-1, end=30, key="ec -pkeyopt ec_paramgen_curve:P-256"):
    """A server's certificate, from `begin` to `end` in days from now."""
    def at(days):
        return (datetime.datetime.utcnow() + datetime.timedelta(days=days)).strftime("%Y%m%d%H%M%SZ")
    path = f"{FOLDER}/{name}"
    sh(f"openssl req -newkey {key} -nodes -keyout {path}.key -out {path}.csr -subj /CN=efs "
       f"-addext subjectAltName=DNS:{dns_name}")
    sh(f"openssl ca -batch -notext -config {FOLDER}/openssl.cnf -cert {FOLDER}/{by}.pem -keyfile {FOLDER}/{by}.key "
       f"-in {path}.csr -out {path}.pem -startdate {at(begin)} -enddate {at(end)}")


def set_up():
    """The network and the certificates, once a boot."""
    if os.path.exists(FOLDER):
        return
    sh("modprobe -a nf_tables; ip netns add efs; ip link add et type veth peer name te; ip link set te netns efs;"
       f"ip addr add {EFS_CLIENT}/24 dev et; ip link set et up; ip link add es type veth peer name se;"
       "ip link set es netns efs; ip link set se netns srv")
    efs(f"sh -c 'ip addr add {EFS}/24 dev te; ip addr add {EFS_SECOND}/24 dev te; ip link set te up; ip link set lo up;"
        "ip addr add 10.0.9.2/24 dev es; ip link set es up'")
    rig.srv(f"sh -c 'ip addr add {NFSD}/24 dev se; ip link set se up'")
    certificates()


def certificates(name=NAME):
    """A root, and a server's certificate that it has issued."""
    os.makedirs(FOLDER)
    write(f"{FOLDER}/openssl.cnf", OPENSSL)
    write(f"{FOLDER}/index", "")
    authority("ca")
    # As EFS has it; the others are made quicker.
    issue("good", dns_name=name, key="rsa:2048")


def config_tls(**keys):
    """A config whose share is encrypted; a key's value is TOML."""
    config(**{"encryption_in_transit": "true", "trust": f'"{CA}"', "root_mode": '"1777"', **keys})


def make_key(path=KEY):
    """The RSA key of a share's tunnel, as a start of the machine leaves it."""
    if not os.path.exists(path):
        os.makedirs("/run/efs-agent", exist_ok=True)
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o400), "wb") as file:
            file.write(bytes.fromhex(json.load(open("/rig/efs-client-certificates.json"))["rsa_3072_key_pkcs8_der_hex"]))


@contextlib.contextmanager
def share(key=True, **keys):
    """A machine with the share in its config, and what DNS says of it; without tunnel and mount at the end.
    An RSA key, which takes seconds in an emulated machine, is there already, unless `key` is false."""
    set_up()
    dns([(EFS, NAME)])
    config_tls(**keys)
    if key:
        make_key()
    try:
        yield
    finally:
        out = rig.end(rig.start("unmount"))
        # The program gives systemd a second or two, which does not do on a busy machine.
        if "its tunnel could not be ended" in out.out and "did not end in time" in out.out:
            out = rig.end(rig.start("unmount"))
        rig.until(lambda: not agents(), f"the tunnel is left behind: {agents()}", 5)
        check(out.code == 0, f"unmount: exit {out.code}")


def port():
    """The local port of the share's tunnel."""
    return int(open(f"/run/efs-agent/tunnel/{INSTANCE}.port").read().split()[0])


def status():
    """What `efs-agent status` tells of the share's tunnel."""
    return json.loads(sh(f"{AGENT} status --json; true"))["shares"][0]["tunnel"]


# Whom a tunnel becomes: one of those numbers, which nobody has.
USERS = range(70000, 100000)


def processes():
    """The tunnel's processes: pid, parent, user."""
    found = []
    for pid in agents():
        with contextlib.suppress(OSError):
            lines = dict(line.split(":", 1) for line in open(f"/proc/{pid}/status"))
            found.append((pid, int(lines["PPid"]), int(lines["Uid"].split()[1])))
    return found


def worker():
    """The process that carries the data: the one without rights."""
    found = [pid for pid, _, user in processes() if user in USERS]
    return found[0] if len(found) == 1 else None


class Stunnel:
    """stunnel at port 2049 of an address of the stand-in's (or of this machine's, without `net`), with a certificate
    and options of its own."""

    def __init__(self, cert="good", address=EFS, port=2049, to=f"{NFSD}:2049", net="efs", **options):
        if net:
            set_up()
        self.wrap = ["nsenter", f"--net=/run/netns/{net}", "--"] if net else []
        self.log = f"{FOLDER}/stunnel-{address}.log"
        lines = ["foreground = yes", "debug = 5", "syslog = no", "pid =", f"output = {self.log}", "[efs]", f"accept = {address}:{port}",
                 f"connect = {to}", f"cert = {FOLDER}/{cert}.pem", f"key = {FOLDER}/{cert}.key", "requireCert = yes",
                 "TIMEOUTclose = 0", "socket = l:TCP_NODELAY=1", "socket = r:TCP_NODELAY=1"]
        lines += [f"{key} = {value}" for key, value in options.items()]
        self.conf = f"{FOLDER}/stunnel-{address}.conf"
        write(self.conf, "\n".join(lines) + "\n")
        self.address, self.port = address, port
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.log)
        self.begin()

    def begin(self):
        self.process = subprocess.Popen([*self.wrap, "stunnel4", self.conf], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        # Each 32 bits of an address stand there in the processor's order.
        packed = ipaddress.ip_address(self.address).packed
        at = b"".join(packed[n:n + 4][::-1] for n in range(0, len(packed), 4)).hex().upper()
        for _ in range(200):
            if f" {at}:{self.port:04X} {'0' * len(at)}:0000 0A" in sh(" ".join(self.wrap) + " cat /proc/net/tcp /proc/net/tcp6"):
                return
            time.sleep(0.05)
        raise RuntimeError("stunnel does not come up: " + sh(f"cat {self.log}; true"))

    def end(self):
        """Ends it, with the connections that it has."""
        self.process.kill()
        self.process.wait()

    def taken(self):
        """How many connections have got through it so far."""
        return open(self.log).read().count("connected remote server")

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        self.end()
        if kind:
            print("--- stunnel\n" + sh(f"tail -n 20 {self.log}; true"))


class Server(rig.Listener):
    """A server of ours at port 2049 of EFS's address (or of this machine's, without `net`): what `serve` below does with
    each connection."""
    script = "import sys; sys.path.insert(0, '/rig'); import tls; tls.serve(*sys.argv[1:])"

    def __init__(self, mode, expected="{}", address=EFS, to=NFSD, net="efs"):
        if net:
            set_up()
        wrap = ["nsenter", f"--net=/run/netns/{net}", "--"] if net else []
        self.file = f"{FOLDER}/seen-{mode}"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.file)
        self.process = subprocess.Popen([*wrap, "python3", "-c", self.script, mode, expected, address, to], stdout=subprocess.PIPE)
        self.process.stdout.readline()

    def seen(self):
        """What it has written down: an object of each connection."""
        return [json.loads(line) for line in open(self.file)] if os.path.exists(self.file) else []


# ---- in the process of a Server ----

def serve(mode, expected, address, to):
    """`verify`: passes on if the client's certificate is what is `expected`, else hangs up after the handshake.
    `keys`: passes on, and changes its TLS key every 256 KiB. `close`, `silent`: takes the ClientHello, and then."""
    import threading
    listener = socket.create_server((address, 2049), backlog=64)
    print(flush=True)
    work = {"verify": verified, "keys": new_keys, "close": close, "silent": silent}[mode]
    while True:
        client, _ = listener.accept()
        threading.Thread(target=work, args=(client, json.loads(expected), to), daemon=True).start()


def close(client, *_):
    client.recv(4096)
    client.close()


def silent(client, *_):
    client.recv(4096)
    time.sleep(1000)


def demanding():
    """A context that demands a certificate of the client's and takes any, which Python's own cannot; the callback
    must live as long as the context."""
    import ctypes, ssl
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(f"{FOLDER}/good.pem", f"{FOLDER}/good.key")
    libssl = ctypes.CDLL("libssl.so.3")
    # Behind the object's head.
    pointer = ctypes.c_void_p.from_address(id(context) + 16)
    callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_void_p)(lambda *_: 1)
    libssl.SSL_CTX_set_verify(pointer, 1 | 2, callback)  # SSL_VERIFY_PEER, SSL_VERIFY_FAIL_IF_NO_PEER_CERT
    return context, callback, libssl


def verified(client, expected, to):
    context, _callback, _ = demanding()
    try:
        client = context.wrap_socket(client, server_side=True)
    except OSError as error:
        if "EOF" not in str(error):  # a look whether somebody listens
            note("verify", {"problems": [f"no handshake: {error}"]})
        return
    problems = problems_of(client.getpeercert(True), **expected)
    note("verify", {"problems": problems, "version": client.version(), "certificate": client.getpeercert(True).hex()})
    if problems:
        client.close()
        return
    relay(client, to)


def new_keys(client, _, to):
    import ctypes
    context, _callback, libssl = demanding()
    try:
        client = context.wrap_socket(client, server_side=True)
    except OSError:
        return
    pointer = ctypes.c_void_p.from_address(id(client._sslobj._sslobj if hasattr(client._sslobj, "_sslobj") else client._sslobj) + 24)
    updates = 0

    def renew():
        nonlocal updates
        updates += libssl.SSL_key_update(pointer, 1)  # SSL_KEY_UPDATE_REQUESTED
        note("keys", {"updates": updates})
    relay(client, to, renew)


def relay(client, to, renew=lambda: None):
    """Both ways, in one thread, since a TLS object may not be used by two."""
    import select
    server = socket.create_connection((to, 2049))
    moved = 0
    with contextlib.suppress(OSError):
        while True:
            if not client.pending():
                ready = select.select([client, server], [], [])[0]
            else:
                ready = [client]
            for one, other in ((client, server), (server, client)):
                if one not in ready:
                    continue
                data = one.recv(65536)
                if not data:
                    return
                other.sendall(data)
                moved += len(data)
            if moved > 256 << 10:
                moved = 0
                renew()


def note(mode, what):
    with open(f"{FOLDER}/seen-{mode}", "a") as file:
        file.write(json.dumps(what) + "\n")


# ---- the client's certificate, read without any code of the agent's ----

def der(data):
    """The elements of DER: tag and contents of each."""
    found = []
    while data:
        tag, length, at = data[0], data[1], 2
        if length & 0x80:
            at += length & 0x7f
            length = int.from_bytes(data[2:at], "big")
        if len(data) < at + length:
            raise ValueError("cut short")
        found.append((tag, data[at:at + length]))
        data = data[at + length:]
    return found


def oid(data):
    numbers, value = [data[0] // 40, data[0] % 40], 0
    for byte in data[1:]:
        value = value << 7 | byte & 0x7f
        if not byte & 0x80:
            numbers.append(value)
            value = 0
    return ".".join(map(str, numbers))


def when(element):
    check(element[0] == 0x17, "a time is no UTCTime")
    return datetime.datetime.strptime(element[1].decode(), "%y%m%d%H%M%SZ")


def signed(key_id, secret, token, fs, region, key_hash, at):
    """The signature of the Connect string, as EFS makes it."""
    stamp, day = at.strftime("%Y%m%dT%H%M%SZ"), at.strftime("%Y%m%d")
    scope = f"{day}/{region}/elasticfilesystem/aws4_request"
    query = [("Action", "Connect"), ("PublicKeyHash", key_hash), ("X-Amz-Algorithm", "AWS4-HMAC-SHA256"),
             ("X-Amz-Credential", f"{key_id}/{scope}"), ("X-Amz-Date", stamp), ("X-Amz-Expires", "86400")]
    query += [("X-Amz-Security-Token", token)] if token else []
    query += [("X-Amz-SignedHeaders", "host")]
    canonical = "\n".join(["GET", "/", urllib.parse.urlencode(query, quote_via=urllib.parse.quote_plus), f"host:{fs}", "host",
                           hashlib.sha256(b"").hexdigest()])
    text = "\n".join(["AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = ("AWS4" + secret).encode()
    for part in (day, region, "elasticfilesystem", "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def problems_of(certificate, fs=FS, region=REGION, access_point=None, key_id=None, secret=None, token=None, name=None, now=None):
    """What is wrong with a client's certificate, were EFS to judge it."""
    try:
        return judge(certificate, fs, region, access_point, key_id, secret, token, name,
                     now or datetime.datetime.utcnow())
    except Exception as error:
        return [f"cannot be read: {error!r}"]


def judge(certificate, fs, region, access_point, key_id, secret, token, name, now):
    wrong = []

    def same(what, is_, wanted):
        if is_ != wanted:
            wrong.append(f"{what} is {is_!r} instead of {wanted!r}")
    body = der(der(certificate)[0][1])
    fields = der(body[0][1])
    same("version", fields[0], (0xa0, b"\x02\x01\x02"))
    same("serial", fields[1], (0x02, b"\0"))
    algorithm = "1.2.840.113549.1.1.11"
    same("algorithm", (oid(der(fields[2][1])[0][1]), oid(der(body[1][1])[0][1])), (algorithm, algorithm))
    same("issuer", fields[3], fields[5])
    subject = der(der(der(fields[5][1])[0][1])[0][1])
    same("subject", (oid(subject[0][1]), subject[1]), ("2.5.4.3", (0x0c, (name or socket.gethostname()).encode())))
    begin, end = (when(element) for element in der(fields[4][1]))
    same("validity", end - begin, datetime.timedelta(hours=3, minutes=15))
    same("begin", abs(begin + datetime.timedelta(minutes=15) - now) < datetime.timedelta(seconds=90), True)
    key = der(fields[6][1])[1][1]
    modulus = der(der(key[1:])[0][1])[0][1]
    same("bits of the key", (len(modulus) - 1) * 8, 3072)
    key_hash = hashlib.sha1(key[1:])
    extensions = [der(element[1]) for element in der(der(fields[7][1])[0][1])]
    same("elements of the extensions", {len(e) for e in extensions}, {2})  # a third were "critical"
    values = [(oid(e[0][1]), e[1][1]) for e in extensions]
    efs_oid = "1.3.6.1.4.1.4843.7."
    wanted = ["2.5.29.14"] + [efs_oid + n for n, is_in in (("1", access_point), ("2", key_id), ("3", fs), ("4", True)) if is_in]
    same("extensions", [v[0] for v in values], wanted)
    values = {ident: der(value) for ident, value in values}
    same("key identifier", values["2.5.29.14"], [(0x04, key_hash.digest())])
    same("file system", values[efs_oid + "3"], [(0x0c, fs.encode())])
    if access_point:
        same("access point", values[efs_oid + "1"], [(0x0c, access_point.encode())])
    client = [tag for tag, _ in der(values[efs_oid + "4"][0][1])]
    same("tags of the client's version", client, [0x0c, 0x0c])
    if key_id:
        parts = der(values[efs_oid + "2"][0][1])
        same("tags of the signature", [tag for tag, _ in parts], [0x0c, 0x04, 0x17] + ([0xa0] if token else []))
        same("access key id", parts[0][1].decode(), key_id)
        at = when(parts[2])
        same("time of the signature", abs(at - now) < datetime.timedelta(seconds=90), True)
        same("signature", parts[1][1].decode(), signed(key_id, secret, token, fs, region, key_hash.hexdigest(), at))
        if token:
            same("token", der(parts[3][1]), [(0x0c, token.encode())])
    path = f"{FOLDER}/judged-{os.getpid()}-{time.monotonic_ns()}.pem" if os.path.isdir(FOLDER) else "/tmp/judged.pem"
    import ssl
    write(path, ssl.DER_cert_to_PEM_cert(certificate))
    said = sh(f"openssl verify -attime {int(now.replace(tzinfo=datetime.timezone.utc).timestamp())} -check_ss_sig -CAfile {path} {path}; true")
    same("what openssl says", said.strip(), f"{path}: OK")
    os.unlink(path)
    return wrong
