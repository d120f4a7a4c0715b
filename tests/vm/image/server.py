"""The network that the machines with systemd stand in, in a VM of its own: a real NFS server (10.0.1.1 and,
on its second link, 10.0.2.1), one that is spoken to by TLS (10.0.1.4, a name of its own, its root certificate by HTTP
at port 80), the same for whoever signs in with tls.py's keys alone (10.0.1.5; what it has seen is beside that
certificate), a name server that knows the file systems' names, and DHCP on both links."""
import json, os, subprocess, time
import rig, tls

rig.sh("modprobe -a nfsd virtio_net")
for number, link in enumerate(sorted(n for n in os.listdir("/sys/class/net") if n != "lo"), 1):
    rig.sh(f"ip addr add 10.0.{number}.1/24 dev {link}; ip link set {link} up")
os.makedirs("/export", exist_ok=True)
rig.sh("mount -t tmpfs -o mode=0755 tmpfs /export")
for folder in ("/proc/fs/nfsd", "/var/lib/nfs/v4recovery"):
    os.makedirs(folder, exist_ok=True)
if not os.path.lexists("/etc/mtab"):
    os.symlink("/proc/self/mounts", "/etc/mtab")
rig.sh("mount -t nfsd nfsd /proc/fs/nfsd")
rig.write("/etc/exports", rig.EXPORTS)
# On these addresses alone: stunnel has the port at another.
rig.sh("exportfs -ra; rpc.nfsd -H 10.0.1.1 -H 10.0.2.1 -N 3 -G 10 -L 10 4; rpc.mountd -N 2 -N 3")
rig.write("/run/hosts", f"10.0.1.1 {rig.NAME}\n10.0.1.4 {tls.OTHER}\n")
rig.sh("ip addr add 10.0.1.4/24 dev $(ip -o addr show to 10.0.1.1 | cut -d' ' -f2)")
tls.certificates(tls.OTHER)
os.makedirs("/run/public")
rig.sh(f"cp {tls.CA} /run/public")
subprocess.Popen(["python3", "-m", "http.server", "80", "--bind", "10.0.1.4", "--directory", "/run/public"],
                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
rig.sh("ip addr add 10.0.1.5/24 dev $(ip -o addr show to 10.0.1.1 | cut -d' ' -f2)")
wanted = dict(fs=tls.OTHER.split(".")[0], key_id=tls.ACCESS_KEY, secret=tls.SECRET, token=tls.TOKEN, name=tls.CLIENT)
strict = tls.Server("verify", json.dumps(wanted), address="10.0.1.5", to="10.0.1.1", net=None)
rig.write(strict.file, "")
os.symlink(strict.file, "/run/public/seen")
stunnel = tls.Stunnel(address="10.0.1.4", to="10.0.1.1:2049", net=None)
dns = subprocess.Popen(
    ["dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--addn-hosts=/run/hosts",
     "--local=/#/", "--user=root", "--no-daemon", "--dhcp-authoritative", "--dhcp-leasefile=/run/leases",
     "--dhcp-range=10.0.1.50,10.0.1.60,1h", "--dhcp-range=10.0.2.50,10.0.2.60,1h", "--no-ping"],
    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print("@@server is up", flush=True)
dns.wait()
print(f"the name server ended with {dns.returncode}", flush=True)
