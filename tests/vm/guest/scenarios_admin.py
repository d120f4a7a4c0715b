"""What an administrator does besides a session start: register, status, unmount, and the whole life of an
image from the builder to the second session."""
import hashlib, json, os, shutil, subprocess, time, zipfile
from rig import *

CONFIG_JSON = "/opt/appstream/SessionScripts/config.json"
STATUS = "/run/efs-agent/status.json"


def hold(command, at=POINT):
    """A process of the streaming user that uses the share."""
    process = subprocess.Popen(["sh", "-c", f"cd {at} && echo && {command}"], user=1001, group=1001, extra_groups=[],
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    process.stdout.readline()
    return process


def digest(path):
    return hashlib.sha256(open(path, "rb").read()).hexdigest()


def runner(phase):
    """AppStream's start or end of a session, which must go well; the system's log."""
    shutil.rmtree("/var/log/appstream", ignore_errors=True)
    events = [json.loads(line) for line in sh(f"python3 /rig/appstream.py {phase}").splitlines()]
    log = open(f"/var/log/appstream/SessionScripts/{phase}_system.log").read()
    print(f"--- {phase}\n{log}", end="")
    check([event["event"] for event in events] == ["exit"], f"{phase}: {events}")
    return log


@scenario("from the image builder to the second session: register, write, session end, read again")
def _():
    shutil.rmtree("/opt/appstream/SessionScripts")
    os.makedirs("/opt/appstream/SessionScripts")
    config(root_mode='"1777"')
    expect(agent("--once"), 0, "mounted ")
    expect(agent("check"), 1, r"FAULT +AppStream +nothing is registered: \S+/config.json is not there .*\n +to mend it: sudo efs-agent register\n")
    expect(agent("unmount"), 0, rf"unmounted {NAME}:/ on /mnt/efs_share; all that was written is on the server; in ")
    expect_clean()
    expect(agent("register"), 0, "registered /usr/sbin/efs-agent as the system-context SessionStart executable")
    expect(agent("register"), 0, "unchanged")
    expect(agent("check"), 0, "a session start would succeed")

    write("/etc/profile.d/appstream_user_vars.sh", "export AppStream_Session_ID=0a1b\nexport AppStream_Stack_Name=$(touch /run/ran)\n")
    for session_number in (1, 2):
        log = runner("start")
        check("mounted " in log and "deadline 25s; session 0a1b; stack $(touch /run/ran)\n" in log, "not mounted, or the session is not named")
        expect_mounted()
        if session_number == 1:
            code, out = as_user(f"head -c 3000000 /dev/urandom > {POINT}/work && sha256sum {POINT}/work")
            check(code == 0, out)
        else:
            check(as_user(f"sha256sum {POINT}/work")[1] == out, "other bytes in the second session")
        check("all that was written is on the server" in runner("end"), "not unmounted")
        expect_clean()
        check(digest("/export/work") == out.split()[0], "not on the server")
    os.unlink("/etc/profile.d/appstream_user_vars.sh")
    check(not os.path.exists("/run/ran"), "a profile file was run")
    expect(agent("unregister"), 0)
    check(json.load(open(CONFIG_JSON))["SessionStart"]["executables"][0]["filename"] == "", "still registered")


@scenario("unmount takes away what it finds, keeps a mount point that it did not make, and what is not the share")
def _():
    expect(agent("unmount"), 0, rf"not mounted: {NAME}:/ on /mnt/efs_share; nothing was done")
    expect(agent(), 0)
    expect(agent("unmount"), 0, "unmounted ")
    expect_clean()
    # Made and removed by a run; what is there now is somebody's.
    os.mkdir(POINT)
    expect(agent("unmount"), 0, "not mounted: ")
    check(os.path.isdir(POINT), "a folder was removed that nobody had made for a share")
    expect(agent(), 0)
    expect(agent("unmount"), 0, "unmounted ")
    check(os.path.isdir(POINT) and not mounted(), "the mount point was there before")
    sh(f"mount -t tmpfs mine {POINT}")
    expect(agent("unmount"), 69, r"mine \(tmpfs\) is mounted there", r"\(exit 69\)")
    check([m["source"] for m in mounted()] == ["mine"], mounted())
    sh(f"umount {POINT}")
    expect(agent("unmount", wrap=["setpriv", "--reuid=1001", "--regid=1001", "--clear-groups"]), 77, "only root can unmount")


@scenario("what this boot has mounted is known to unmount, status and check, wherever the config has gone")
def _():
    gone = rf"{NAME}:/ on {POINT}: mounted from {SERVER}.*\n  options: .*\n  it is not in the config: sudo efs-agent unmount takes it away\n"
    left = rf"warning  mount point   {POINT}: {NAME}:/ is mounted there by an earlier run, and is not in the config .*\n +to mend it: sudo efs-agent unmount\n"
    expect(agent("register"), 0)
    # Its mount point is another one in the config by now; a run with that keeps the first in mind.
    expect(agent(), 0, "mounted ")
    config(mount_point='"/mnt/other"', root_mode='"1777"')
    for mounted_too in (False, True):
        if mounted_too:
            expect(agent(), 0, f"mounted {NAME}:/ on /mnt/other")
        expect(agent("status"), 0 if mounted_too else 1, gone)
        expect(agent("check"), 0, left, r"a session start would succeed, if what the warnings say is meant \(exit 0\)\n$")
        told = json.loads(agent("status", "--json").out)
        check([(s["mount_point"], s["in_config"]) for s in told["shares"]] == [("/mnt/other", True), (POINT, False)], told)
    expect(agent("unmount"), 0, rf"{NAME}:/ on {POINT} is not in the config, and was mounted by efs-agent", rf"unmounted {NAME}:/ on {POINT}",
           rf"unmounted {NAME}:/ on /mnt/other")
    expect_clean()
    check(not os.path.lexists("/mnt/other") and not mounted("/mnt/other"), "the other is left")
    # Another server in the config: what is there is not its share, but it is ours.
    config()
    expect(agent(), 0, "mounted ")
    config(endpoint=SERVER, path='"/home"')
    expect(agent("unmount"), 0, rf"unmounted {NAME}:/ on {POINT}", rf"not mounted: {SERVER}:/home on {POINT}; nothing was done")
    expect_clean()
    # No config any more, or one that cannot be used.
    for broken, code, words in ((None, 78, "no config file: looked for "), ("endpoint", 78, rf"{CONFIG}:1:9: ")):
        config()
        expect(agent(), 0, "mounted ")
        os.unlink(CONFIG) if broken is None else write(CONFIG, broken)
        expect(agent("status"), code, words, gone)
        check(json.loads(agent("status", "--json").out)["problem"], "no problem is told")
        unknown = rf"warning  mount point   {POINT}: {NAME}:/ is mounted there by an earlier run, but the config cannot be read, so whether a share wants it is not known "
        expect(agent("check"), 1, left if broken is None else unknown, r"FAULT    config ", r"ok +AppStream +this executable is registered")
        expect(agent("unmount"), 0, rf"warning .*{words}.*; what efs-agent has mounted since this machine was booted is unmounted all the same",
               rf"unmounted {NAME}:/ on {POINT}")
        expect_clean()
        expect(agent("unmount"), code, words)
    # A run that is killed while another of its shares is awaited has left word of the first.
    config(head=f'[[share]]\nendpoint = "{DEAD}"\nmount_point = "/mnt/other"')
    sh("rm -r /run/efs-agent")
    killed = start()
    told = ('"mounted": true', f'"pid": {killed.pid},')
    until(lambda: os.path.exists(STATUS) and all(word in open(STATUS).read() for word in told), "nothing is remembered", 20)
    killed.kill()
    killed.communicate()
    until(lambda: not agents(), "left behind", 5)
    config(mount_point='"/mnt/other"')
    expect(agent("status"), 1, gone, r"the last session start began at \S+ and did not end: it was killed")
    # Whatever stands in the file.
    known = open(STATUS).read()
    for odd in ("\ufeff" + known, "{"):
        write(STATUS, odd)
        json.loads(agent("status", "--json").out)
    write(STATUS, known)
    expect(agent("unmount"), 0, rf"unmounted {NAME}:/ on {POINT}", "not mounted: ")
    expect_clean()
    sh("rmdir /mnt/other; rm -r /run/efs-agent", check_=False)
    for command in ("status", "check", "unmount"):
        out = agent(command, "--config", "/tmp/a\x1b[31m\u202eb.toml").out
        check("a [31m b.toml" in out and not re.search("[\x1b\u202e]", out), f"raw text: {out!r}")
    # What somebody mounts there later is his, though it has the same place.
    config()
    expect(agent(), 0, "mounted ")
    expect(agent("unmount"), 0, "unmounted ")
    bare_mount(f"{SERVER}:/home", POINT, f"addr={SERVER}")
    config(mount_point='"/mnt/other"')
    expect(agent("unmount"), 0, "not mounted: ")
    check(len(mounted()) == 1, "a mount of somebody else's was taken away")
    sh(f"umount {POINT} && rmdir {POINT}")
    # So is it where ours was unmounted by hand: the kernel gives its numbers to the next mount.
    for other in ("-t tmpfs -o size=1m theirs", f"-t nfs4 -o vers=4.1 {SECOND}:/home"):
        config()
        expect(agent(), 0, "mounted ")
        sh(f"umount {POINT}; mount {other} {POINT}")
        expect(agent("--once"), 69, "is mounted there")
        expect(agent("unmount"), 69, "which is not the share: left alone")
        config(mount_point='"/mnt/other"')
        expect(agent("unmount"), 0, "not mounted: ")
        check(len(mounted()) == 1, "a mount of somebody else's was taken away")
        sh(f"umount {POINT} && rmdir {POINT}; rm -r /run/efs-agent")
    # Who sees other mounts than everybody else, and older ones, takes nothing of theirs away.
    config()
    inner = subprocess.Popen(["unshare", "--mount", "sh", "-c", "echo; read line; exec /usr/sbin/efs-agent unmount"],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    inner.stdout.readline()
    expect(agent(), 0, "mounted ")
    out = inner.communicate("\n", timeout=60)[0]
    check("this process has a mount namespace of its own: what is mounted for others stays" in out and len(mounted()) == 1, out)
    expect(agent("unmount"), 0, "unmounted ")
    expect_clean()


@scenario("a share that a later mount hides is not called unmounted, nor up")
def _():
    expect(agent(), 0)
    sh("mount -t tmpfs -o mode=0755 over /mnt && mkdir /mnt/efs_share")
    try:
        expect(agent("unmount"), 69, r"unmounting .*: /mnt/efs_share is mounted, but a later mount hides it; to mend it: see what lies over it")
        expect(agent("status"), 1, "NOT USABLE: /mnt/efs_share is mounted, but a later mount hides it")
    finally:
        sh("umount /mnt")
    expect(agent("unmount"), 0, "unmounted ")


@scenario("unmount of a share in use names who uses it and detaches it, and with --terminate asks them to end")
def _():
    config(root_mode='"1777"')
    expect(agent(), 0)
    holders = [hold("exec sleep 1000") for _ in range(7)]
    result = agent("unmount")
    expect(result, 0, r"although it is in use by \d+ \(sleep\)(, \d+ \(sleep\)){4} and 2 more: detached, so that they alone still see it; "
                      "all that was written is on the server", within=5)
    check(not mounted() and all(h.poll() is None for h in holders), "not detached, or somebody was ended")
    for holder in holders:
        holder.kill()
        holder.wait()
    expect(agent(), 0)
    holder = hold("exec sleep 1000")
    expect(agent("unmount", "--terminate"), 0, rf"is busy: asked to end: {holder.pid} \(sleep\)", "unmounted ", within=5)
    check(holder.wait(timeout=5) == -15 and not mounted(), "the holder was not asked to end")
    expect(agent(), 0)
    holder = hold("trap '' TERM; while :; do sleep 1; done")
    expect(agent("unmount", "--terminate"), 0, "asked to end: ", "although it is in use by .*: detached", within=9)
    check(not mounted(), "not detached")
    holder.kill()
    holder.wait()


@scenario("what was written before unmount is on the server after it, with the server slow")
def _():
    config(root_mode='"1777"')
    expect(agent(), 0)
    srv("tc qdisc add dev vs root netem delay 100ms")
    try:
        code, out = as_user(f"head -c 20000000 /dev/urandom > {POINT}/big && sha256sum < {POINT}/big")
        check(code == 0, out)
        expect(agent("unmount"), 0, "all that was written is on the server", within=21)
        check(digest("/export/big") == out.split()[0], "other bytes on the server")
    finally:
        srv("tc qdisc del dev vs root")


@scenario("unmount of a share whose server is dead ends before its deadline and says what is lost")
def _():
    config(head='unmount_deadline = "6s"', root_mode='"1777"')
    expect(agent(), 0)
    check(as_user(f"echo lost > {POINT}/x")[0] == 0, "cannot write")
    srv_nft("tcp dport 2049 drop")
    result = agent("unmount")
    expect(result, 75, rf"server {SERVER} does not answer: taken away by force, and what it had not got yet is lost; to mend it: ", within=7)
    check(not mounted(), "still mounted")
    nft_flush()
    expect(agent(), 0)
    expect_mounted()


@scenario("status tells of a share that is up, away or dead, and of the last start")
def _():
    expect(agent("status"), 1, rf"{NAME}:/ on /mnt/efs_share: NOT MOUNTED\n")
    expect(agent(), 0)
    result = agent("status")
    expect(result, 0, rf"{NAME}:/ on /mnt/efs_share: mounted from {SERVER} for \d+s; answers; [\d.]+ [KMG]iB of [\d.]+ [KMG]iB free\n"
                      r"  options: rw,nosuid,nodev,.*vers=4\.1", r"the last session start ended at 2\S+Z: exit 0, 1 of 1 shares mounted, config /\S+\.toml\n")
    told = json.loads(agent("status", "--json").out)
    share = told["shares"][0]
    check(share["mounted"] and share["responsive"] and share["address"] == SERVER and share["bytes"] > 0, told)
    check(told["last_start"]["exit"] == 0 and told["last_start"]["shares"][0]["made"] is True, told)
    check(os.stat(STATUS).st_mode & 0o777 == 0o600 and os.stat("/run/efs-agent").st_mode & 0o777 == 0o700, "modes")
    srv_nft("tcp dport 2049 drop")
    result = agent("status")
    expect(result, 1, rf"NOT RESPONDING: its server {SERVER} does not answer", within=3)
    print(f"figure: told of a dead server in {result.seconds:.2f} s")
    told = json.loads(agent("status", "--json").out)
    check(told["shares"][0]["mounted"] and not told["shares"][0]["responsive"], told)
    nft_flush()
    sh(f"umount {POINT}")
    config(path='"/none"')
    expect(agent(), 69)
    expect(agent("status"), 1, r"exit 69, 0 of 1 shares mounted, config /\S+\.toml: server 10\.0\.0\.1 has no path /none \(ENOENT\)")


@scenario("check goes through the chain, mounts nothing that stays, and says what is wrong with which link")
def _():
    result = agent("check")
    expect(result, 1, r"ok +config +/etc/efs-agent/config.toml, shares: 1, deadline 25s \(", r"ok +privileges +root, and may mount",
           r"ok +kernel +Linux \S+ has NFS version 4", r"ok +mount point +/mnt/efs_share: can be made",
           rf"ok +name +/mnt/efs_share: {NAME} is {SERVER} \(name server {SERVER}\)", rf"ok +route +/mnt/efs_share: {SERVER} from {CLIENT} on vc \(",
           rf"ok +port +/mnt/efs_share: {SERVER} takes connections on TCP 2049", rf"ok +NULL call +/mnt/efs_share: {SERVER} is an NFS server",
           r"ok +trial mount +/mnt/efs_share: mounts; its root has mode 0755 and belongs to 0:0",
           r"warning +writing +/mnt/efs_share: as2-streaming-user cannot write to /mnt/efs_share",
           r"FAULT +AppStream +nothing is registered: \S+/config.json is not there", r"ok +executable +/usr/sbin/efs-agent",
           r"a session start would not succeed: see FAULT above \(exit 1\)\n$", within=6)
    expect_clean()
    check(not [m for m in mounts() if m["type"] == "nfs4"], "the trial mount stayed")
    config(root_mode='"1777"')
    expect(agent("register"), 0)
    expect(agent("check"), 0, r"ok +writing +/mnt/efs_share: as2-streaming-user could not write yet; root_mode 1777 will be set",
           r"ok +AppStream +this executable is registered in \S+ for SessionStart and SessionTermination")
    check(os.stat("/export").st_mode & 0o7777 == 0o755, "check has set the mode")
    expect(agent(), 0)
    expect(agent("check"), 0, rf"ok +mount point +/mnt/efs_share: mounted already, from {SERVER}", r"ok +writing +/mnt/efs_share: the streaming user could write")
    sh(f"umount {POINT} && rmdir {POINT}")
    told = json.loads(agent("check", "--json").out)
    check(told["ok"] and {link["state"] for link in told["links"]} == {"ok"} and len(told["links"]) == 13, told)
    for broken, words in (
            (lambda: srv_nft("tcp dport 2049 drop"), rf"FAULT +port +/mnt/efs_share: TCP 2049 to {SERVER} from {CLIENT} timed out.*\n +to mend it: the file system's security group"),
            (lambda: dns([]), r"FAULT +name +/mnt/efs_share: .* no such name \(NXDOMAIN\).*\n +to mend it: check the spelling"),
            (lambda: config(path='"/none"'), rf"FAULT +trial mount +/mnt/efs_share: server {SERVER} has no path /none \(ENOENT\)"),
            (lambda: exports(EXPORTS.replace("*", "192.168.77.77")), r"FAULT +trial mount +/mnt/efs_share: access denied"),
            (lambda: write(POINT, ""), r"FAULT +mount point +/mnt/efs_share: /mnt/efs_share is a file"),
            (lambda: srv_nft("tcp dport 2049 ct original bytes > 600 drop"), "FAULT +trial mount +/mnt/efs_share: server .* did not finish the mount"),
            (lambda: config(endpoint="-x"), r"FAULT +config +/etc/efs-agent/config.toml:3:12: ")):
        broken()
        result = agent("check")
        expect(result, 1, words, r"a session start would not succeed: see FAULT above \(exit 1\)\n$", within=13)
        clean()
    # What config.json names must be there, with its run bits.
    expect(agent("register", "--shim"), 0)
    expect(agent("check"), 0, r"ok +AppStream +efs-agent.sh is registered")
    os.chmod("/opt/appstream/SessionScripts/efs-agent.sh", 0o644)
    expect(agent("check"), 1, r"FAULT +AppStream +\S+/efs-agent.sh is missing or was changed .*\n +to mend it: sudo efs-agent register --shim\n")
    expect(agent("register"), 0)
    config(path='"/none"', required="false")
    expect(agent("check"), 0, r"warning +trial mount")
    expect(agent("check", wrap=["setpriv", "--reuid=1001", "--regid=1001", "--clear-groups"]), 1, r"FAULT +privileges +not root")


@scenario("check warns of options that do no good on EFS, and a session start takes them without a word")
def _():
    config(options='"nconnect=2,noac,timeo=100"')
    expect(agent("register"), 0)
    expect(agent("check"), 0, r"warning +options +/mnt/efs_share: noac: .*; nconnect=2: EFS does not support .*; timeo=100: .*\n +to mend it: take out of `options`: noac, nconnect=2, timeo=100;",
           r"ok +trial mount", r"if what the warnings say is meant \(exit 0\)\n$")
    result = agent()
    expect(result, 0, "mounted ")
    check("nconnect" not in result.out, result.out)
    expect(agent("unmount"), 0)
    # On another server they may be what is wanted.
    config(endpoint=SERVER, options='"nconnect=2,noac"')
    check("warning  options" not in agent("check").out, "a warning for a server that is not EFS")


@scenario("an option that only a younger kernel knows is named where the kernel refuses it")
def _():
    config(options='"max_connect=2,trunkdiscovery"')
    if tuple(map(int, os.uname().release.split(".")[:2])) < (5, 15):
        expect(agent("--once"), 69, r"\(EINVAL\)", r"take out of `options` what this kernel may not know \(max_connect, trunkdiscovery\)")
        expect_clean()
    else:
        expect(agent("--once"), 0, "mounted ")
        expect(agent("unmount"), 0)


@scenario("check tells a module that cannot be loaded from a server without NFS 4.1")
def _():
    # The kernel has the file system's name all the same.
    before = open("/proc/sys/kernel/modprobe").read()
    sh("for n in $(seq 50); do rmmod nfsv4 && exit; sleep 0.2; done; exit 1")  # mounts of before may linger
    write("/proc/sys/kernel/modprobe", "/bin/false")
    try:
        expect(agent("check"), 1, r"FAULT +trial mount +/mnt/efs_share: this kernel \(.*\) has no NFS client for version 4: its module nfsv4 cannot be loaded")
    finally:
        write("/proc/sys/kernel/modprobe", before)
        sh("modprobe nfsv4")


@scenario("what a user has written and holds open is on the server after unmount, though root is kept out of his folder")
def _():
    program = "import sys, time; f = open(sys.argv[1], 'wb', buffering=0); f.write(b'x' * 3000000); print(flush=True); time.sleep(300)"
    exports(EXPORTS.replace("no_root_squash", "root_squash"))
    os.chown("/export", 1001, 1001)
    os.chmod("/export", 0o700)
    expect(agent(), 0, "mounted ")
    user = subprocess.Popen(["python3", "-c", program, f"{POINT}/work"], user=1001, group=1001, extra_groups=[], cwd="/", stdout=subprocess.PIPE)
    try:
        user.stdout.readline()
        # What comes to the server after the session has ended comes from a machine that is no longer there.
        expect(agent("unmount"), 0, r"although it is in use by \d+ \(python3\): detached, so that they alone still see it; all that was written is on the server")
        check(os.stat("/export/work").st_size == 3000000, f"on the server are {os.stat('/export/work').st_size} bytes")
    finally:
        user.kill()
        user.wait()
    expect_clean()


@scenario("the Elastic fleet's bundle starts a session from an empty folder, with and without run bits, and where it cannot write or run")
def _():
    scripts = "/opt/appstream/SessionScripts"
    # Where a folder can be neither written nor run from, it is the next one that is tried.
    noexec = {"/run/efs-agent": "mode=0700,noexec", "/var/lib/efs-agent": "mode=0700,noexec"}

    os.unlink(CONFIG)
    for run_bits, writable, closed in ((True, True, 0), (False, True, 0), (False, False, 0), (False, False, 1), (False, False, 2)):
        shutil.rmtree(scripts)
        os.makedirs(scripts)
        for folder, options in list(noexec.items())[:closed]:
            os.makedirs(folder, exist_ok=True)
            sh(f"mount -t tmpfs -o {options} none {folder}")
        if not writable:
            sh(f"mount -t tmpfs -o mode=0755 none {scripts}")
        with zipfile.ZipFile("/rig/session-scripts.zip") as bundle:
            check(sorted(bundle.namelist()) == ["LICENSE", "THIRD-PARTY", "config.json", "efs-agent", "efs-agent.sh", "efs-agent.toml"],
                  bundle.namelist())
            for entry in bundle.infolist():
                bundle.extract(entry, scripts)
                os.chmod(f"{scripts}/{entry.filename}", (entry.external_attr >> 16) & 0o777 if run_bits else 0o644)
        if not writable:
            sh(f"mount -o remount,ro {scripts}")
        try:
            check(f"mounted {NAME}:/ on /mnt/efs_share" in runner("start"), "not mounted")
            expect_mounted()
            check("all that was written is on the server" in runner("end"), "not unmounted")
            expect_clean()
        finally:
            if not writable:
                sh(f"umount {scripts}")
            sh("umount /run/efs-agent/program; rmdir /run/efs-agent/program", check_=False)
            for folder in list(noexec)[:closed]:
                sh(f"umount {folder}")


@scenario("a start that was killed while it waits leaves no mount point for good, and status says that it was killed")
def _():
    agent("unmount")
    for point in (POINT, "/mnt/elsewhere"):
        sh(f"rmdir {point} 2>/dev/null; true")
    shutil.rmtree("/run/efs-agent", ignore_errors=True)
    dead = dict(endpoint=DEAD, head="deadline = \"20s\"")

    def killed():
        process = start()
        until(lambda: os.path.exists(STATUS) and f'"pid": {process.pid},' in open(STATUS).read(), "no word of the run", 10)
        expect(agent("status"), 1, r"the last session start began at \S+ and runs still \(process \d+\)")
        # As long as it goes on, nobody takes its mount point away.
        expect(agent("unmount"), 0)
        check(os.path.isdir(POINT), "the mount point of a run that goes on was removed")
        process.kill()
        process.communicate(timeout=10)
        check(os.stat(POINT).st_mode & 0o7777 == 0o1777, "no mount point is left: the test is in vain")
        expect(agent("status"), 1, rf"began at \S+ and did not end: it was killed; .*it made {POINT} and left it there")

    config(**dead)
    killed()
    expect(agent("unmount"), 0, f"{POINT}: removed: a run that was killed had made it")
    check(not os.path.exists(POINT), "it is still there")
    expect(agent("status"), 1, "it was killed")
    # What somebody has saved in it meanwhile stays, and is told.
    killed()
    write(f"{POINT}/file", "")
    expect(agent("check"), 1, rf"warning +mount point +{POINT}: 1 entry is in {POINT}, on this machine only")
    expect(agent("unmount"), 0, f"{POINT} was left: there are files in it, which are on this machine only")
    os.unlink(f"{POINT}/file")
    os.rmdir(POINT)
    # A start that gives up does it too, and then is the last.
    killed()
    expect(agent("--once"), 75)
    check(not os.path.exists(POINT), "it is still there")
    check("it was killed" not in agent("status").out, "an older run is called the last")
    # One that succeeds has the mount point for its own.
    killed()
    config()
    expect(agent(), 0)
    expect(agent("unmount"), 0, "unmounted ")
    check(not os.path.exists(POINT), "it is still there")
    # What somebody has changed since is his.
    config(**dead)
    killed()
    os.chmod(POINT, 0o750)
    check("removed" not in agent("unmount").out and os.path.isdir(POINT), "a folder was removed that was not the run's any more")
    os.rmdir(POINT)
    # And where the config has another one since.
    config(**dead)
    killed()
    config(mount_point='"/mnt/elsewhere"')
    expect(agent("unmount"), 0, f"{POINT}: removed")
    check(not os.path.exists(POINT), "it is still there")
    # What somebody has put into it stays.
    config(**dead)
    killed()
    write(f"{POINT}/work", "x")
    expect(agent("unmount"), 0)
    check(os.path.exists(f"{POINT}/work"), "it was removed")
    shutil.rmtree(POINT)
