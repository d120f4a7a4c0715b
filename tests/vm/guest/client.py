"""Who the kernel's NFS client is to its servers: where that stands, what the program makes of it, what a server knows.
Scenarios belong elsewhere."""
import re
from rig import sh, srv

IDENTIFIER, PARAMETER = "/sys/fs/nfs/net/nfs_client/identifier", "/sys/module/nfs/parameters/nfs4_unique_id"
BOOT_ID = "/proc/sys/kernel/random/boot_id"


def ours(boot=None):
    """The identity that a run sets."""
    return "efs-agent-" + (boot or open(BOOT_ID).read()).strip().replace("-", "")


def expire():
    """The server forgets whoever an earlier scenario's mounts, which are gone, were."""
    srv("sh -c 'for ctl in /proc/fs/nfsd/clients/*/ctl; do test ! -e $ctl || echo expire > $ctl; done; true'", check_=False)


def names():
    """The client owners that the server knows, without what is before them."""
    info = srv("sh -c 'cat /proc/fs/nfsd/clients/*/info 2>/dev/null; true'")
    return sorted(re.findall(r'name: "Linux NFSv4\.\d (.*)"', info))
