"""The image builder: a Debian 11 machine with systemd as PID 1, on which an administrator installs the RPM,
sets it up, tries the unit, upgrades and erases. The steps build on each other. What is on its disk at the end
is "the image", from which instance.py's machines are booted."""
import datetime, glob, json, os, re, signal, subprocess, textwrap, time, urllib.request
import rig, tls
from rig import AGENT, CONFIG, NAME, POINT, agent, as_user, check, expect, mounted, scenario, sh, write
from run import run

RPM, NEXT, STUB = "/rig/efs-agent.rpm", "/rig/efs-agent-next.rpm", "/rig/stub.rpm"
CONFIG_JSON = "/opt/appstream/SessionScripts/config.json"
ENTRY = '{ "context": "%s", "filename": "", "arguments": "", "s3LogEnabled": true }'
EVENT = '{\n    "executables": [\n      ' + ENTRY % "system" + ",\n      " + ENTRY % "user" + \
        '\n    ],\n    "waitingTime": 30\n  }'
# As AppStream's documentation shows it.
PRISTINE = '{\n  "SessionStart": ' + EVENT + ',\n  "SessionTermination": ' + EVENT + "\n}\n"


# rsyslog's own format leaves out facility, level and year.
SYSLOG = "/var/log/whole"
RSYSLOG = 'template(name="whole" type="string" string="%timegenerated:::date-rfc3339% %syslogfacility-text%.' \
          '%syslogseverity-text% %programname%[%procid%]:%msg%\\n")\n' f'*.* action(type="omfile" file="{SYSLOG}" template="whole")\n'


def read(path):
    with open(path) as file:
        return file.read()


def rpm(arguments):
    """The output of rpm, without Debian's remark that it has another package manager."""
    return "".join(line for line in sh(f"rpm {arguments}").splitlines(True) if not line.startswith("rpm: "))


def unit(*properties):
    """Properties of the unit, as systemd has them."""
    out = sh("systemctl show efs-agent.service -p " + " -p ".join(properties))
    return dict(line.split("=", 1) for line in out.splitlines())


def journal(arguments):
    """Entries of the journal, once it has taken in what was said."""
    sh("journalctl --sync")
    return [json.loads(line) for line in sh(f"journalctl -o json --no-pager {arguments}").splitlines()]


def in_syslog(pid, level, text):
    """One line of rsyslog's, who has it from the journal a moment later: time, facility, level, name, pid."""
    line = re.compile(rf"(?m)^(\S+) daemon\.{level} efs-agent\[{pid}\]: ?{re.escape(text)}")
    rig.until(lambda: line.search(read(SYSLOG)), f"rsyslog has no such line: {line.pattern}")
    found = line.findall(read(SYSLOG))
    check(len(found) == 1, f"{len(found)} such lines")
    check(abs(time.time() - datetime.datetime.fromisoformat(found[0]).timestamp()) < 600, f"time: {found}")


def set_up(endpoint=NAME):
    """As an administrator does it: the one line that the config asks for, and the mode."""
    text = read(CONFIG).replace('#endpoint = "fs-0123456789abcdef0.efs.eu-west-1.amazonaws.com"', f'endpoint = "{endpoint}"')
    write(CONFIG, text.replace("#root_mode", "root_mode"))


def of_ours():
    """Files on the disk that have our name, and units."""
    return sh("find / -xdev \\( -name '*efs-agent*' -o -name 'efs_share' \\) -not -path '/rig/*' -not -path '/proc/*' "
              "-not -path '/var/log/*'; find /run -name '*efs*'").split()


@scenario("image: rpm -i installs what it lists, enables nothing and changes no file of AppStream's")
def installs():
    os.makedirs(os.path.dirname(CONFIG_JSON), exist_ok=True)
    write(CONFIG_JSON, PRISTINE)
    write("/etc/rsyslog.d/whole.conf", RSYSLOG)
    sh("systemctl restart rsyslog")
    check(of_ours() == [], f"there before: {of_ours()}")
    rpm(f"-i {STUB}")
    out = rpm(f"-i {RPM}")
    check(out == "efs-agent: set the endpoint in /etc/efs-agent/config.toml, then: efs-agent check; efs-agent register\n", out)
    check(rpm("-V efs-agent") == "", "a file is not as it was packed")
    check(read(CONFIG_JSON) == PRISTINE, "config.json was changed")
    check(sh("systemctl is-enabled efs-agent; true") == "disabled\n", sh("systemctl is-enabled efs-agent; true"))
    needs = rpm("-q --requires efs-agent").splitlines()
    check([n for n in needs if not n.startswith("rpmlib(")] == ["/bin/sh"] * needs.count("/bin/sh") +
          [n for n in needs if n.startswith("config(")], f"it requires {needs}")
    check(not [f for f in rpm("-ql efs-agent").split() if f.startswith("/mnt")], "a mount point is in the package")
    check(oct(os.stat(CONFIG).st_mode & 0o7777) == "0o644", "mode of the config")
    version = rpm("-q --qf '%{VERSION}' efs-agent")
    check(sh(f"{AGENT} --version") == f"efs-agent {version}\n", "the binary has another version than the package")


@scenario("image: with the config as installed, check and a session start say that the endpoint must be set")
def unset():
    for arguments, code in (("check",), 1), ((), 78):
        expect(agent(*arguments), code, r"/etc/efs-agent/config.toml:\d+.*endpoint")


@scenario("image: systemd finds nothing wrong with the units; the exposure is told")
def verified():
    out = sh("systemd-analyze --man=no verify /usr/lib/systemd/system/efs-agent.service; true")
    check("efs-agent" not in out, out)
    out = sh("systemd-analyze --no-pager security efs-agent.service; true")
    score = re.search(r"Overall exposure level for efs-agent.service: ([0-9.]+)", out)
    check(score, out)
    print(f"figure: systemd-analyze security: {score.group(1)} (0 is none, 10 is all)")
    check(float(score.group(1)) <= EXPOSURE, out)


# What a unit that mounts can come down to; a unit with nothing set has 9.6.
EXPOSURE = 6.0


@scenario("image: set up as the README has it: check, --once, register, check")
def by_hand():
    set_up()
    expect(agent("check"), 1, r"(?m)^FAULT .*nothing of ours is registered")
    sh("systemctl -q enable efs-agent")
    expect(agent("check"), 0, r"(?m)^warning .*nothing of ours is registered in .*, but efs-agent.service mounts the shares at boot")
    sh("systemctl -q disable efs-agent")
    expect(agent("--once"), 0, rf"mounted {NAME}:/ on {POINT} from 10\.0\.1\.1")
    expect(agent("register"), 0)
    expect(agent("check"), 0)
    expect(agent("unmount"), 0)
    check(not mounted(), "still mounted")


@scenario("image: the unit mounts for everybody: PID 1, the streaming user, systemd itself")
def unit_mounts():
    sh("systemctl start efs-agent")
    check(len([line for line in open("/proc/1/mountinfo") if f" {POINT} " in line]) == 1, "PID 1 does not see the mount")
    code, out = as_user(f"df -h {POINT} && echo hello > {POINT}/from_the_unit && cat {POINT}/from_the_unit")
    check(code == 0 and "hello" in out, f"as the user: {out}")
    check(sh("systemctl is-active efs-agent mnt-efs_share.mount") == "active\nactive\n", "systemd does not know the mount")
    expect(agent("status"), 0)


@scenario("image: the journal has each line of the unit once, with identifier, pid, level and time")
def unit_in_journal():
    pid = unit("ExecMainPID")["ExecMainPID"]
    entries = journal(f"-b -t efs-agent _PID={pid}")
    texts = [entry["MESSAGE"] for entry in entries]
    # The hardened unit may take a host name of its own, and write the identity.
    check(not any("kept apart" in text or "no identity" in text for text in texts), str(texts))
    check(read("/sys/fs/nfs/net/nfs_client/identifier").startswith("efs-agent-"), "no identity")
    check([t for t in texts if t.startswith(f"mounted {NAME}:/ on {POINT}")] == texts[-1:] and len(texts) == len(set(texts)),
          f"in the journal: {texts}")
    for entry in entries:
        check(entry["SYSLOG_IDENTIFIER"] == "efs-agent" and entry["_SYSTEMD_UNIT"] == "efs-agent.service", str(entry))
        check(abs(time.time() - int(entry["__REALTIME_TIMESTAMP"]) / 1e6) < 600, f"time: {entry}")
    check([entry["PRIORITY"] for entry in entries] == ["6"] * len(entries), str(entries))
    in_syslog(pid, "info", f"mounted {NAME}:/ on {POINT}")


@scenario("image: a session start finds what the unit has mounted, and both logs have its lines")
def session_on_top():
    log = rig.appstream("start")
    check(f"already mounted: {NAME}:/ on {POINT}" in log, log)
    check(len(mounted()) == 1, f"{len(mounted())} mounts")
    # It speaks to /dev/log, as any program that systemd did not start.
    entries = [e for e in journal("-b -t efs-agent _TRANSPORT=syslog") if e["MESSAGE"].startswith("already mounted")]
    check(len(entries) == 1, f"{len(entries)} lines in the journal")
    pid = entries[0]["SYSLOG_PID"]
    check(entries[0]["PRIORITY"] == "6" and entries[0]["SYSLOG_FACILITY"] == "3" and pid == entries[0]["_PID"], str(entries))
    in_syslog(pid, "info", "already mounted")


@scenario("image: a unit that is in use says at its stop who uses the share; nothing stays mounted")
def stop():
    holder = rig.background_user(f"cd {POINT}; exec sleep 1000")
    rig.until(lambda: os.readlink(f"/proc/{holder.pid}/cwd") == POINT, "the holder is not there")
    sh("systemctl stop efs-agent")
    check(not mounted() and not os.path.exists(POINT), "still mounted, or the mount point is left")
    texts = [entry["MESSAGE"] for entry in journal("-b -u efs-agent")]
    check(any(f"{holder.pid} (sleep)" in text for text in texts), f"who uses it is not named: {texts[-4:]}")
    holder.kill()
    holder.wait()


@scenario("image: a unit that fails is told of with its cause, as an error, where systemctl status shows it")
def unit_fails():
    before = read(CONFIG)
    write(CONFIG, f'deadline = "2s"\n[[share]]\nendpoint = "10.0.1.77"\n')
    out = sh("systemctl start efs-agent; echo $?")
    check(out.rstrip().endswith("1") and unit("Result")["Result"] == "exit-code", out)
    check(unit("ExecMainStatus")["ExecMainStatus"] == "75", "the exit code")
    in_syslog(unit("ExecMainPID")["ExecMainPID"], "err", f"cannot mount 10.0.1.77:/ on {POINT}")
    last = journal("-b -u efs-agent SYSLOG_IDENTIFIER=efs-agent")[-1]
    check(last["PRIORITY"] == "3" and last["MESSAGE"].startswith(f"cannot mount 10.0.1.77:/ on {POINT}"), str(last))
    check("cannot mount 10.0.1.77:/" in sh("systemctl status --no-pager efs-agent; true"), "systemctl status does not say why")
    check(not os.path.exists(POINT), "the mount point is left")
    write(CONFIG, before)
    sh("systemctl reset-failed efs-agent")


@scenario("image: with root_mode = \"2775\" and a path to make, the hardened unit does what sudo does")
def hardened():
    before = read(CONFIG)
    write(CONFIG, before.replace('root_mode = "1777"', 'root_mode = "2775"').replace("#mount_point = \"/mnt/efs_share\"",
                                                                                    'mount_point = "/mnt/a/b/share"'))
    sh("systemctl start efs-agent")
    check(oct(os.stat("/mnt/a/b/share").st_mode & 0o7777) == "0o2775", oct(os.stat("/mnt/a/b/share").st_mode))
    texts = [entry["MESSAGE"] for entry in journal(f"-b -t efs-agent _PID={unit('ExecMainPID')['ExecMainPID']}")]
    check(any("cannot write" in text for text in texts), f"that the user cannot write is not said: {texts}")
    sh("systemctl stop efs-agent")
    check(os.listdir("/mnt/a/b") == [], "the mount point is left")
    os.removedirs("/mnt/a/b")
    os.makedirs("/mnt", exist_ok=True)
    write(CONFIG, before)


@scenario("image: an upgrade keeps the edited config and the registration, and does not touch what is mounted")
def upgrade():
    sh("systemctl start efs-agent")
    config, registered, pid = read(CONFIG), read(CONFIG_JSON), unit("ExecMainPID")
    mode = os.stat(POINT).st_mode
    rpm(f"-U {NEXT}")
    check(rpm("-q --qf '%{RELEASE}' efs-agent") == "2", "not upgraded")
    check(read(CONFIG) == config and read(CONFIG_JSON) == registered, "a file was changed")
    check(os.path.exists(CONFIG + ".rpmnew"), "the new default is not beside the config")
    check(len(mounted()) == 1 and unit("ExecMainPID") == pid, "the mount was touched")
    check(os.stat(POINT).st_mode == mode, "mode of the share's root")
    os.unlink(CONFIG + ".rpmnew")


INSTANCE = "mnt-encrypted"
TUNNEL, HELD = f"efs-agent-tunnel@{INSTANCE}.service", f"efs-agent-tunnel@{INSTANCE}.socket"
ENCRYPTED = "/mnt/encrypted"
PLAIN = CONFIG + ".plain"
# What a unit can come down to that needs the network, root's files, and to become another user.
TUNNEL_EXPOSURE = 3.0


def states(*units):
    """Active or not, each of the units."""
    return sh("systemctl is-active " + " ".join(units) + "; true").split()


def allowed():
    """The tunnel that systemd runs is no process that was left behind, nor is what hands out credentials to it."""
    rig.MAY_STAY = [pid for pid in rig.agents() if f"/{TUNNEL}" in read(f"/proc/{pid}/cgroup")]


def main_pid():
    """The process of the tunnel's that systemd started; 0: none."""
    return int(sh(f"systemctl show -p MainPID --value {TUNNEL}"))


@scenario("image: register has the tunnels started at boot where a share is encrypted, and only there")
def registers_tunnels():
    check(sh("systemctl is-enabled efs-agent-tunnels; true") == "disabled\n", "enabled without an encrypted share")
    urllib.request.urlretrieve("http://10.0.1.4/ca.pem", "/etc/efs-agent/ca.pem")
    write(PLAIN, read(CONFIG))
    # The server knows one file system alone: the kernel would put the second share onto the first one's connection.
    expect(agent("unmount"), 0)
    sh("systemctl stop efs-agent")
    write(CONFIG, f'''[[share]]
endpoint = "{tls.OTHER}"
mount_point = "{ENCRYPTED}"
encryption_in_transit = true
trust = "/etc/efs-agent/ca.pem"
root_mode = "1777"
''')
    expect(agent("register"), 0, "efs-agent-tunnels.service")
    check(sh("systemctl is-enabled efs-agent-tunnels; true") == "enabled\n", "not enabled")
    out = sh(f"systemd-analyze --man=no verify /usr/lib/systemd/system/efs-agent-tunnel*.service /usr/lib/systemd/system/efs-agent-tunnel*.socket; true")
    check("efs-agent" not in out, out)
    # As at boot.
    sh("systemctl start efs-agent-tunnels")
    check(states(HELD, TUNNEL) == ["active", "active"], states(HELD, TUNNEL))
    allowed()


@scenario("image: a session start mounts through a tunnel that PID 1 holds the port of; the user writes")
def encrypted_session():
    log = rig.appstream("start")
    check(re.search(rf"mounted {tls.OTHER}:/ on {ENCRYPTED} from 10\.0\.1\.4, TLS 1\.3, NFS 4\.1", log), log)
    entry = mounted(ENCRYPTED)[0]
    check("addr=127.0.0.1" in entry["options"] and entry["source"] == f"{tls.OTHER}:/", str(entry))
    port = next(option[5:] for option in entry["options"] if option.startswith("port="))
    check(f"127.0.0.1:{port}" in sh(f"systemctl show -p Listen {HELD}"), "systemd does not hold the port")
    code, out = as_user(f"df -h {ENCRYPTED} && echo through TLS > {ENCRYPTED}/tls && cat {ENCRYPTED}/tls")
    check(code == 0 and tls.OTHER in out and out.endswith("through TLS\n"), out)
    status = agent("status")
    expect(status, 0, r"tunnel: port \d+, TLS 1\.3 \(TLS_AES_\d+_GCM_SHA\d+\) with 10\.0\.1\.4")
    # It is an ordinary user without rights, in its own view of the files.
    lines = dict(line.split(":", 1) for line in read(f"/proc/{main_pid()}/status").splitlines())
    check(len(set(lines["Uid"].split())) == 1 and int(lines["Uid"].split()[0]) in tls.USERS and int(lines["CapEff"], 16) == 0 and lines["NoNewPrivs"].strip() == "1", str(lines))
    check(len(journal(f"-b -u {TUNNEL} SYSLOG_IDENTIFIER=efs-agent")) >= 1, "the journal has nothing of the tunnel's")
    allowed()


@scenario("image: a tunnel that is killed comes back while PID 1 holds the port, and I/O goes on")
def killed():
    took = []
    for number in range(5):
        old = main_pid()
        os.kill(old, signal.SIGKILL)
        began = time.monotonic()
        check(states(HELD) == ["active"], "the port is not held")
        code, out = as_user(f"echo {number} > {ENCRYPTED}/after && sync {ENCRYPTED}/after && cat {ENCRYPTED}/after")
        took.append(time.monotonic() - began)
        check((code, out) == (0, f"{number}\n"), out)
        rig.until(lambda: main_pid() not in (0, old), "it is not started again", 5)
    print(f"figure: a write after SIGKILL of the tunnel took {sorted(round(t, 2) for t in took)} s")
    check(max(took) < 5, f"I/O took {took}")
    check(sh(f"systemctl show -p NRestarts --value {TUNNEL}") == "5\n", "restarts")
    allowed()


@scenario("image: the tunnel's unit is closed to what it does not need; the exposure is told")
def tunnel_exposure():
    out = sh(f"systemd-analyze --no-pager security {TUNNEL}; true")
    score = re.search(r"Overall exposure level for \S+: ([0-9.]+)", out)
    check(score, out)
    print(f"figure: systemd-analyze security of the tunnel: {score.group(1)} (0 is none, 10 is all)")
    check(float(score.group(1)) <= TUNNEL_EXPOSURE, out)
    # And not on paper only.
    pid = main_pid()
    check(" ro," in next(l for l in open(f"/proc/{pid}/mountinfo") if l.split()[4] == "/usr" or l.split()[4] == "/"), "it could write to /usr")
    check("Seccomp:\t2" in read(f"/proc/{pid}/status"), "no filter of system calls")
    allowed()


@scenario("image: a session end unmounts and ends the tunnel")
def encrypted_end():
    log = rig.appstream("end")
    check("unmounted" in log and not mounted(ENCRYPTED), log)
    rig.until(lambda: states(HELD, TUNNEL) == ["inactive", "inactive"], f"still there: {states(HELD, TUNNEL)}", 10)
    check(not rig.agents(), "processes are left")


AWS_ENV, DROP_IN = "/etc/efs-agent/aws.env", "/etc/systemd/system/efs-agent-tunnel@.service.d"
VARIABLES = {"AWS_ACCESS_KEY_ID": tls.ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": tls.SECRET, "AWS_SESSION_TOKEN": tls.TOKEN}


def documented(variables):
    """Does what efs-agent.toml(5) says of a drop-in, as it stands there: `variables` are typed into the editor. There is
    no sudo on this machine, and no need of it."""
    text = read("/rig/efs-agent.toml.5.md")
    text = text[text.index("name that in a drop-in for the tunnels of all shares:\n"):]
    commands = textwrap.dedent(re.search(r"\n\n((?: {4}.*\n)+)", text).group(1))
    check(DROP_IN.rsplit("/", 1)[1] in commands and AWS_ENV in commands, commands)
    typed = "".join(f"{name}={value}\n" for name, value in variables.items())
    script = 'set -e; sudo() { "$@"; }; sudoedit() { test -e "$1"; printf %s "$TYPED" > "$1"; }\n' + commands
    subprocess.run(["bash", "-c", script], env={**os.environ, "TYPED": typed}, check=True, stdout=subprocess.DEVNULL)


def seen():
    """What the server that looks at certificates has written down so far."""
    with urllib.request.urlopen("http://10.0.1.4/seen") as answer:
        return [json.loads(line) for line in answer.read().splitlines()]


@scenario("image: with aws_environment, a start whose variables do not get to the tunnel says where they belong")
def not_in_the_unit():
    write(CONFIG + ".encrypted", read(CONFIG))
    file_system, _, region = tls.OTHER.split(".")[:3]
    write(CONFIG, 'deadline = "40s"\n' + read(CONFIG).replace(tls.OTHER, "10.0.1.5") + f'''tls_name = "{tls.OTHER}"
file_system_id = "{file_system}"
region = "{region}"
iam = true
aws_environment = true
''')
    sh(f"hostname {tls.CLIENT}")
    # Those of the shell that efs-agent is typed in are not the tunnel's.
    result = agent("--once", wrap=("env", "AWS_ACCESS_KEY_ID=AKIDSHELL", "AWS_SECRET_ACCESS_KEY=x"))
    expect(result, 75)
    text = " ".join(result.out.split())
    check("no credentials" in text and "AKIDSHELL" not in text, text)
    check("to mend it: set AWS's variables where the tunnel has them from (with systemd a drop-in of "
          "efs-agent-tunnel@.service: see efs-agent.toml(5), Environment variables), and run `sudo efs-agent unmount` when nobody works in a share; or" in text, text)
    check(not mounted(ENCRYPTED), "mounted")
    allowed()


@scenario("image: with the drop-in of efs-agent.toml(5) it mounts as who the variables name, also after the tunnel was killed")
def in_the_unit():
    documented(VARIABLES)
    check((os.stat(AWS_ENV).st_mode & 0o7777, os.stat(AWS_ENV).st_uid) == (0o600, 0), "others can read it")
    before = len(seen())
    expect(agent("unmount"), 0)
    expect(agent("--once"), 0, rf"mounted 10\.0\.1\.5:/ on {ENCRYPTED} from 10\.0\.1\.5, TLS 1\.3")
    check(as_user(f"echo x > {ENCRYPTED}/x && cat {ENCRYPTED}/x") == (0, "x\n"), "the user cannot write and read")
    old, by_then = main_pid(), len(seen())
    os.kill(old, signal.SIGKILL)
    check(as_user(f"echo y > {ENCRYPTED}/y && sync {ENCRYPTED}/y && cat {ENCRYPTED}/y") == (0, "y\n"), "I/O does not go on")
    rig.until(lambda: main_pid() not in (0, old), "it is not started again", 5)
    certificates = seen()
    check(len(certificates) > by_then > before, f"{before}, {by_then}, {len(certificates)} connections")
    check(not any(s["problems"] for s in certificates), [s["problems"] for s in certificates])
    check(all(tls.ACCESS_KEY.encode() in bytes.fromhex(s["certificate"]) for s in certificates), "another key")
    expect(agent("status"), 0, rf"with 10\.0\.1\.5, as the environment, access key {tls.ACCESS_KEY};")
    # All is well but for the deadline of this config, which is longer than AppStream waits.
    expect(agent("check"), 1, rf"(?m)^ok +credentials .*the environment, access key {tls.ACCESS_KEY}",
           r"(?m)^FAULT +AppStream .*waitingTime of SessionStart raised from 30 to 45: deadline 40s must end 2 s before it")
    allowed()


@scenario("image: neither secret nor token is in the journal, in what systemd shows, on a command line, or where a user can read it")
def kept_secret():
    told = {"the journal": sh("journalctl --sync; journalctl -b -a -o export --no-pager"), "syslog": read(SYSLOG),
            "the config": sh("cat /run/efs-agent/*.json /run/efs-agent/tunnel/*.conf /run/efs-agent/tunnel/*.toml; true")}
    for who, ask in (("root", sh), ("the user", lambda command: as_user(command)[1])):
        told[f"systemctl of {who}"] = "".join(ask(f"systemctl --no-pager {what}; true") for what in (
            f"show {TUNNEL} {HELD}", f"cat {TUNNEL}", f"status -l {TUNNEL}", "show-environment"))
        told[f"/proc of {who}"] = ask("cat /proc/[0-9]*/cmdline; true")
    told["what the user can read"] = as_user(f"cat /proc/[0-9]*/environ {AWS_ENV}; true")[1]
    told["the process that speaks to the file system"] = sh(f"cat /proc/{main_pid()}/environ")
    for where, text in told.items():
        check(tls.SECRET not in text and tls.TOKEN not in text, f"{where} has it")
    # That it was looked for where it would be.
    for who in ("root", "the user"):
        check(f"EnvironmentFiles={AWS_ENV} (ignore_errors=no)" in told[f"systemctl of {who}"], f"{who} is not told of the file")
        check("efs-agent\0tunnel\0" in told[f"/proc of {who}"], "no command line of the tunnel's")
    check(AWS_ENV in told["what the user can read"], "the user could read all, or nothing was tried")
    allowed()


@scenario("image: changed variables count with the next tunnel, and a file of them that is not there is told")
def changed_variables():
    write(AWS_ENV, read(AWS_ENV).replace(tls.SECRET, "another"))
    expect(agent(), 0, "already mounted")
    expect(agent("unmount"), 0)
    expect(agent("--once"), 75, "the server closed the connection right after the TLS handshake")
    expect(agent("unmount"), 0)
    os.unlink(AWS_ENV)
    # Nor is what is left of one attempt taken for a tunnel by the next.
    for _ in range(2):
        expect(agent("--once"), 75, rf"cannot be started: '/bin/systemctl .* start {HELD} {TUNNEL}' failed: Job for {TUNNEL} failed")
    told = sh("journalctl --no-pager --quiet --lines=30 -u 'efs-agent-tunnel@*'")
    check("Failed to load environment files" in told, told)
    documented(VARIABLES)
    expect(agent("--once"), 0, "mounted ")
    # As it was before.
    expect(agent("unmount"), 0)
    os.unlink(AWS_ENV)
    sh(f"rm -r {DROP_IN}; systemctl daemon-reload")
    os.rename(CONFIG + ".encrypted", CONFIG)
    # Erasing, below, finds one that runs.
    sh("systemctl start efs-agent-tunnels")
    check(states(HELD, TUNNEL) == ["active", "active"], states(HELD, TUNNEL))
    allowed()


@scenario("image: erasing leaves a tunnel that something is mounted through, though the config has a slip or its mount is detached")
def erase_below_a_mount():
    sh("systemctl stop efs-agent")
    expect(agent("--once"), 0, "mounted ")
    kept = read(CONFIG)
    write(CONFIG, kept + "\nendpont = 1\n")
    pid = main_pid()
    # Open, so that the file system is used on once nobody sees it any more.
    script = f"exec 9> {ENCRYPTED}/held; echo; read line; echo still >&9; exec 9>&-; echo $?"
    holder = subprocess.Popen(["bash", "-c", script], user=1001, group=1001, extra_groups=[], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    holder.stdout.readline()
    for detached in (False, True):
        if detached:
            sh(f"umount -l {ENCRYPTED}")
        out = rpm("-e efs-agent")
        check("efs-agent: warning: its tunnels go on, since something is mounted through them, until this machine ends" in out, out)
        check(states(HELD, TUNNEL) == ["active", "active"] and main_pid() == pid, states(HELD, TUNNEL))
        if not detached:
            check(as_user(f"echo on > {ENCRYPTED}/on && sync {ENCRYPTED}/on && cat {ENCRYPTED}/on") == (0, "on\n"), "the share is dead")
        rpm(f"-i {RPM}")
        os.replace(f"{CONFIG}.rpmsave", CONFIG)
    check(holder.communicate("\n", timeout=60)[0] == "0\n", "what was open cannot be written")
    write(CONFIG, kept)
    expect(agent("register"), 0)
    expect(agent("unmount"), 0)
    sh("systemctl start efs-agent-tunnels efs-agent")
    check(states(HELD, TUNNEL) == ["active", "active"], states(HELD, TUNNEL))
    allowed()


@scenario("image: erasing warns, unregisters, stops the unit and leaves nothing but the edited config")
def erase():
    sh("systemctl enable efs-agent")
    out = rpm("-e efs-agent")
    check("efs-agent: warning: it was registered with AppStream" in out, out)
    check(read(CONFIG_JSON) == PRISTINE, f"config.json is not as it was:\n{read(CONFIG_JSON)}")
    check(not mounted(), "still mounted")
    left = [path for path in of_ours() if path != "/etc/efs-agent"]
    check(left == [] and sorted(os.listdir("/etc/efs-agent")) == ["ca.pem", "config.toml.plain", "config.toml.rpmsave"], f"left: {left}")
    rig.until(lambda: not rig.agents(), "a tunnel is left", 10)
    check("efs-agent" not in sh("systemctl list-unit-files; systemctl list-units --all"), "a unit is left")


@scenario("image: the package goes in and out where systemd does not run, and where no config.json is")
def without_systemd():
    for name in ("config.toml.rpmsave", "config.toml.plain", "ca.pem"):
        os.unlink(f"/etc/efs-agent/{name}")
    os.rmdir("/etc/efs-agent")
    os.rename(CONFIG_JSON, CONFIG_JSON + ".away")
    out = sh(f"unshare --mount sh -ec 'mount -t tmpfs -o mode=0755 none /run; rpm -i {RPM}; rpm -e efs-agent; echo both: $?'")
    check(out.splitlines()[-1] == "both: 0" and "warning" not in out and "error" not in out, out)
    check(of_ours() == [], f"left: {of_ours()}")
    os.rename(CONFIG_JSON + ".away", CONFIG_JSON)


@scenario("image: erasing says what it cannot undo: a config.json that cannot be read, a share that is mounted")
def cannot_undo():
    rpm(f"-i {RPM}")
    set_up()
    expect(agent("--once"), 0)
    write(CONFIG_JSON, '{ "SessionStart": ')
    out = rpm("-e efs-agent")
    check("AppStream may still call it in each session, and that could not be changed" in out and
          'empty "filename" and "arguments" of its entries' in out, out)
    check(re.search(rf"mounted still, until somebody unmounts it: .*{POINT}: mounted from 10\.0\.1\.1", out), out)
    check(len(mounted()) == 1 and read(CONFIG_JSON) == '{ "SessionStart": ', "something was touched")
    sh(f"umount {POINT}; rmdir {POINT}; rm -r /etc/efs-agent")
    write(CONFIG_JSON, PRISTINE)


@scenario("image: what is on the disk now is the image")
def finish():
    rpm(f"-i {RPM}")
    set_up()
    expect(agent("register"), 0)
    expect(agent("check"), 0)
    # Running when the machine goes down, as after a try: seen in the journal of the instances.
    sh("systemctl start efs-agent")
    check(len(mounted()) == 1, "not mounted")


if __name__ == "__main__":
    os.chmod("/rig", 0o755)
    sh("systemctl is-system-running --wait; true")
    run(lambda: None)
