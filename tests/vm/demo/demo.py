"""What `make demo` shows in the VM: two sessions of AppStream, one after the other on fresh machines
(the mount and the mount point are taken away in between), with one share."""
import re
import rig

LOG = "/var/log/appstream/SessionScripts/start_system.log"


def say(text):
    print(f"\n\033[1m{text}\033[0m", flush=True)


def run(command):
    print(f"$ {command}", flush=True)
    out = rig.sh(command, check_=False)
    print(out, end="", flush=True)
    return out


def start_session(number, user_script, expected):
    say(f"Session {number}: AppStream runs its system-context executable as root")
    events, log, user = rig.session(user_script=user_script, quiet=True)
    rig.check([event["event"] for event in events] == ["exit", "exit"], f"a session script failed: {events}")
    say("The session log, as AppStream would store it in S3")
    print(log, end="")
    rig.check(re.search(rf" info    mounted {rig.NAME}:/ on {rig.POINT} from {rig.SERVER}, NFS 4\.1", log), "no mount in the log")
    rig.expect_mounted()
    say("The user's side, as as2-streaming-user")
    for line in user_script.splitlines():
        print(f"$ {line}")
    print(user, end="")
    rig.check(expected in user, f"not seen: {expected}")


say("Setting up: NFS server, name server, config")
rig.set_up()
rig.config(root_mode='"1777"')
run(f"cat {rig.CONFIG} /etc/resolv.conf")
first = "df -h /mnt/efs_share\necho 'written in the first session' > /mnt/efs_share/essay.txt\nls -l /mnt/efs_share"
start_session(1, first, "essay.txt")
say("The instance is thrown away; the next session gets a fresh one")
run(f"umount {rig.POINT} && rmdir {rig.POINT} && ls /mnt")
start_session(2, "df -h /mnt/efs_share\ncat /mnt/efs_share/essay.txt", "written in the first session")
say("demo: all of it was seen")
